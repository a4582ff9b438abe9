"""The plots of the notebooks. Each function draws on `ax` (None: the current axes) and returns it.

Real is blue and fake is orange in every plot. `names` are the names of the two classes, in the order real, fake.
"""

from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from dfa_utils import metrics

COLOURS = ("#0072B2", "#D55E00")  # real, fake; colour-blind readers can tell them apart
NAMES = ("real", "fake")
STYLE = {"figure.dpi": 150, "font.size": 11, "axes.titlesize": 11, "legend.fontsize": 11}
STYLE |= {"axes.grid": True, "axes.axisbelow": True, "grid.alpha": 0.3}
STYLE |= {"axes.spines.top": False, "axes.spines.right": False}
CHANCE = {"color": "0.6", "linestyle": "--", "linewidth": 1}
LINES = (  # styles of training, validation and testing, or of other curves; none has the colour of a class
    {"color": "0.4", "linestyle": "-."},
    {"color": "#009E73", "linestyle": (0, (4, 1))},
    {"color": "black", "linestyle": "-"},
)
MARKS = (500, 1_000, 2_000, 4_000, 8_000)  # Hz; ticks of the axis of a mel spectrogram
IMAGE = {"origin": "lower", "aspect": "auto", "interpolation": "nearest"}
BOX = {"boxstyle": "round,pad=0.5", "facecolor": "0.95", "edgecolor": "0.3"}
FALSE_POSITIVES = "false positive rate (real clips called fake)"


def set_style() -> None:
    """Use the style of the notebooks for all later plots."""
    plt.rcParams.update(STYLE)


def plot_waveform(waveform, sample_rate: int, label: int | None = None, ax: Axes | None = None) -> Axes:
    """Samples [T], full scale (FS) = 1, over time in s, in the colour of the class `label`."""
    ax, colour = ax or plt.gca(), "0.3" if label is None else COLOURS[label]
    ax.plot(np.arange(len(waveform)) / sample_rate, waveform, linewidth=0.6, color=colour)
    return _finish(ax, xlabel="time (s)", ylabel="amplitude (FS)", xlim=(0, len(waveform) / sample_rate))


def plot_spectrogram(
    db, hop_seconds: float, hertz, ax: Axes | None = None, unit="level (dB)", cmap="magma", limits=None, bar=True
) -> Axes:
    """An image [bands, frames] over time in s and frequency in Hz, with a colour bar unless `bar` is False.

    `hertz` is the frequency of the top edge if the rows are evenly spaced from 0 Hz, or the frequency of each row
    [bands], as `LogMel.hertz`. `limits` are the values at the ends of the bar, so that several images can share one.
    """
    ax, db = ax or plt.gca(), np.asarray(db)
    extent = (0, db.shape[1] * hop_seconds, 0, len(db) if np.ndim(hertz) else hertz)
    image = ax.imshow(db, cmap, extent=extent, clim=limits, **IMAGE)
    if np.ndim(hertz):
        marks = [mark for mark in MARKS if hertz[0] <= mark <= hertz[-1]]
        ax.set_yticks(np.interp(marks, hertz, np.arange(len(db)) + 0.5), [f"{mark:,}" for mark in marks])
    if bar:
        ax.figure.colorbar(image, ax=ax, label=unit)
    ax.grid(False)
    return _finish(ax, xlabel="time (s)", ylabel="frequency (Hz)")


def plot_chain(boxes, ax: Axes | None = None) -> Axes:
    """Boxes from left to right with an arrow from each to the next; each is (text in it, text below it)."""
    ax = ax or plt.gca()
    for place, (inside, below) in enumerate(boxes):
        ax.text(place, 0, inside, ha="center", va="center", fontsize=10, bbox=BOX)
        ax.text(place, -0.55, below, ha="center", va="top", fontsize=8, color="0.3")
        if place:
            ax.annotate("", (place - 0.36, 0), (place - 0.64, 0), arrowprops={"arrowstyle": "->", "color": "0.3"})
    ax.set_axis_off()
    return _finish(ax, xlim=(-0.5, len(boxes) - 0.5), ylim=(-1.6, 0.6))


def plot_counts(manifest, names=NAMES, ax: Axes | None = None) -> Axes:
    """Bars: clips of each class in each split."""
    ax = sns.countplot(manifest, x="split", hue="label", palette=list(COLOURS), saturation=1, ax=ax or plt.gca())
    for bars in ax.containers:
        ax.bar_label(bars)
    ax.legend(ax.get_legend_handles_labels()[0], names)
    return _finish(ax, xlabel="split", ylabel="clips")


def plot_cue(values, labels, name: str, names=NAMES, ax: Axes | None = None) -> Axes:
    """The distribution of one number per clip in each class, with its AUC in the title (0.5 = does not separate)."""
    ax, values, labels = ax or plt.gca(), np.asarray(values, dtype=float), np.asarray(labels)
    parts = [values[labels == 0], values[labels == 1]]
    for x, (part, colour) in enumerate(zip(parts, COLOURS, strict=True)):
        ax.plot(x + np.linspace(-0.2, 0.2, len(part)), part, ".", color=colour, alpha=0.6, markersize=4)
    ax.boxplot(parts, positions=[0, 1], widths=0.5, showfliers=False, medianprops={"color": "black"})
    ax.set_xticks([0, 1], names)
    return _finish(ax, xlabel="class", ylabel=name, title=f"AUC {metrics.roc_auc(labels, values):.2f}")


def plot_history(history, column: str, ax: Axes | None = None) -> Axes:
    """One column of a run's history on validation (loss, accuracy or eer) by epoch, and on training if it is there."""
    ax, style = ax or plt.gca(), {"marker": "o", "markersize": 3}
    if f"train_{column}" in history:
        ax.plot(history.epoch, history[f"train_{column}"], label="training", **style, **LINES[0])
    ax.plot(history.epoch, history[column], label="validation", **style, **LINES[1])
    ax.axhline({"loss": np.log(2)}.get(column, 0.5), label="chance", **CHANCE)
    ax.xaxis.get_major_locator().set_params(integer=True)
    name = {"loss": "cross-entropy", "eer": "equal error rate"}.get(column, column)
    return _finish(ax, "best", "" if column == "loss" else "y", xlabel="epoch", ylabel=name, ylim=(0, None))


def plot_confusion(matrix, title: str = "", names=NAMES, ax: Axes | None = None) -> Axes:
    """Counts [2, 2] (row = truth, column = verdict), coloured by their share of the row."""
    matrix = np.asarray(matrix)
    share = matrix / matrix.sum(axis=1, keepdims=True)
    words = [[f"{n}\n{part:.0%}" for n, part in zip(*row, strict=True)] for row in zip(matrix, share, strict=True)]
    style = {"cmap": "Blues", "vmin": 0, "vmax": 1, "cbar": False, "xticklabels": NAMES, "fmt": ""}
    ax = sns.heatmap(share, annot=np.array(words), ax=ax or plt.gca(), **style)
    ax.set_yticks([0.5, 1.5], [name.replace(" (", "\n(") for name in names], rotation=90, va="center")
    ax.grid(False)
    return _finish(ax, xlabel="called", ylabel="truth", title=title)


def plot_scores(labels, scores, threshold: float, title: str = "", names=NAMES, ax: Axes | None = None) -> Axes:
    """Histogram of the scores of each class, and the threshold."""
    ax, labels, scores = ax or plt.gca(), np.asarray(labels), np.asarray(scores)
    for label, name in enumerate(names):
        ax.hist(scores[labels == label], np.linspace(0, 1, 21), color=COLOURS[label], alpha=0.6, label=name)
    ax.axvline(threshold, color="black", linewidth=1, label=f"threshold {threshold:.2f}")
    # the legend is where a good detector has few scores
    return _finish(ax, "upper center", xlabel="score = P(fake)", ylabel="clips", title=title)


def plot_roc(curves: dict, ax: Axes | None = None) -> Axes:
    """ROC of each {name: (labels, scores)}: hits over false positives, with chance; the legend gives the AUC."""
    from sklearn.metrics import RocCurveDisplay

    ax = ax or plt.gca()
    for (name, curve), style in zip(curves.items(), cycle(LINES)):
        RocCurveDisplay.from_predictions(*curve, name=name, ax=ax).line_.set(**style)
    ax.plot([0, 1], [0, 1], label="chance", **CHANCE)
    return _finish(ax, "lower right", "xy", xlabel=FALSE_POSITIVES, ylabel="hit rate (fakes called fake)")


def plot_det(curves: dict, ax: Axes | None = None) -> Axes:
    """DET of each {name: (labels, scores)}: misses over false positives on normal-deviate axes, with chance.

    The legend gives the EER. There a curve crosses the diagonal from the lower left.
    """
    from sklearn.metrics import DetCurveDisplay

    ax = ax or plt.gca()
    for (name, curve), style in zip(curves.items(), cycle(LINES)):
        name = f"{name} (EER = {metrics.eer_rate(*curve):.1%})"
        DetCurveDisplay.from_predictions(*curve, name=name, ax=ax).line_.set(**style)
    ax.plot([-3, 3], [3, -3], label="chance", **CHANCE)  # in standard deviations, like the axes
    ax.tick_params("x", rotation=45)
    return _finish(ax, "upper right", xlabel=FALSE_POSITIVES, ylabel="miss rate (fakes called real)")


def plot_reliability(labels, scores, ax: Axes | None = None) -> Axes:
    """Share of fakes over the mean score in up to ten bins of at least ten clips, and perfect calibration."""
    from sklearn.calibration import CalibrationDisplay

    ax, bins = ax or plt.gca(), min(10, max(1, len(labels) // 10))
    style = {"name": "measured", "ref_line": False, "color": "black"}
    CalibrationDisplay.from_predictions(labels, scores, n_bins=bins, strategy="quantile", ax=ax, **style)
    ax.plot([0, 1], [0, 1], label="calibrated", **CHANCE)
    labels = {"xlabel": "mean score = P(fake)", "ylabel": "share of fakes"}
    return _finish(ax, "upper left", "xy", **labels, xlim=(0, 1), ylim=(-0.05, 1.05))


def plot_over_time(prediction, window_seconds: float, ax: Axes | None = None) -> Axes:
    """P(fake) of each window of a recording over time, and the threshold."""
    ax = ax or plt.gca()
    middle = prediction.times + min(window_seconds, prediction.seconds) / 2
    ax.plot(middle, prediction.scores, ".-", color="0.4")
    above = prediction.scores >= prediction.threshold
    for label, part in enumerate((~above, above)):
        ax.plot(middle[part], prediction.scores[part], "o", color=COLOURS[label], label=f"window called {NAMES[label]}")
    ax.axhline(prediction.threshold, label=f"threshold {prediction.threshold:.2f}", **CHANCE)
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)  # above: the curve may be anywhere
    return _finish(ax, xlabel="time (s)", ylabel="score = P(fake)", xlim=(0, prediction.seconds), ylim=(-0.05, 1.05))


def plot_map(db, evidence, hop_seconds: float, hertz, ax: Axes | None = None) -> Axes:
    """A map [n_mels, frames] over the spectrogram [n_mels, frames] in dB: red is evidence for fake, blue for real.

    `evidence` is a map of `explain.grad_cam`, in logits up to a scale; strong evidence hides the spectrogram below.
    """
    ax, evidence = plot_spectrogram(db, hop_seconds, hertz, ax, cmap="gray", bar=False), np.asarray(evidence)
    limit = float(np.abs(evidence).max()) or 1.0
    style = {"alpha": 0.8 * np.abs(evidence) / limit, "clim": (-limit, limit), "extent": ax.images[0].get_extent()}
    image = ax.imshow(evidence, "RdBu_r", **style, **IMAGE)
    ax.figure.colorbar(image, ax=ax, label="evidence (fake above 0)")
    return ax


def plot_robustness(table, degradation: str, ax: Axes | None = None) -> Axes:
    """EER with its 95 % interval under one degradation, from mild to severe, with that of clean clips and chance.

    `table` is the result of `degradations.robustness`.
    """
    ax, column = ax or plt.gca(), table.columns[0]  # the name of the degradation, or "clean"
    clean, part = table[table[column] == "clean"].eer.item(), table[table[column] == degradation]
    places, spread = np.arange(len(part)), [part.eer - part.eer_low, part.eer_high - part.eer]
    ax.errorbar(places, part.eer, spread, fmt="o-", markersize=4, capsize=3, color="#009E73", label="degraded")
    ax.axhline(clean, color="black", linestyle="--", linewidth=1, label=f"clean {clean:.1%}")
    ax.axhline(0.5, label="chance", **CHANCE)
    ax.set_xticks(places, [f"{level:g}" for level in part.level])
    name = f"{degradation} ({part.unit.iloc[0]})"
    return _finish(ax, "best", "y", xlabel=name, ylabel="equal error rate", ylim=(0, None))


def _finish(ax: Axes, legend: str = "", percent: str = "", **properties) -> Axes:
    """Set labels and limits, a legend at the place `legend` if given, and the axes named in `percent` in percent."""
    ax.set(**properties)
    if legend:
        ax.legend(loc=legend)
    for name in percent:
        getattr(ax, f"{name}axis").set_major_formatter(PercentFormatter(1))
    return ax
