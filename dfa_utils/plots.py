"""Every figure of the notebooks. Each function draws on `ax` (None: a new one) and returns it.

Real is blue and fake is orange, everywhere. `names` are the words for the two classes, in the order real, fake.
"""

from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from dfa_utils import metrics

COLOURS = ("#0072B2", "#D55E00")  # real, fake: apart for colour-blind readers too
NAMES = ("real", "fake")
STYLE = {
    "figure.dpi": 150,
    "font.size": 11,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.3,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.fontsize": 9,
    "axes.titlesize": 11,
}
CHANCE = {"color": "0.6", "linestyle": "--", "linewidth": 1}
LINES = (  # training, validation, testing, or whatever curves are compared: none in the colour of a class
    {"color": "0.4", "linestyle": "-."},
    {"color": "#009E73", "linestyle": (0, (4, 1))},
    {"color": "black", "linestyle": "-"},
)
MARKS = (500, 1_000, 2_000, 4_000, 8_000)  # Hz; what the axis of a mel spectrogram shows
BOX = {"boxstyle": "round,pad=0.5", "facecolor": "0.95", "edgecolor": "0.3"}
CLIPS_A_BIN = 10  # of a reliability diagram, at least: a share of fewer says little


def set_style() -> None:
    """Give every figure drawn from here on the look of the series."""
    plt.rcParams.update(STYLE)


def plot_waveform(waveform, sample_rate: int, label: int | None = None, ax: Axes | None = None) -> Axes:
    """Samples [T], full scale (FS) = 1, over time in s; coloured by `label`."""
    ax, colour = ax or plt.gca(), "0.3" if label is None else COLOURS[label]
    ax.plot(np.arange(len(waveform)) / sample_rate, waveform, linewidth=0.6, color=colour)
    ax.set(xlabel="time (s)", ylabel="amplitude (FS)", xlim=(0, len(waveform) / sample_rate))
    return ax


def plot_spectrogram(
    db, hop_seconds: float, hertz, ax: Axes | None = None, unit="level (dB)", cmap="magma", limits=None, bar=True
) -> Axes:
    """An image [bands, frames] over time in s and frequency in Hz, with a bar for its unit unless `bar` is False.

    `hertz` is the frequency of the top edge, where the rows lie evenly from 0 Hz, or that of each row [bands], as
    `LogMel.hertz` gives. `limits` are the values of the ends of the bar, so that several images can share one.
    """
    ax, db = ax or plt.gca(), np.asarray(db)
    top = hertz if np.ndim(hertz) == 0 else len(db)
    low, high = limits or (None, None)
    extent = (0, db.shape[1] * hop_seconds, 0, top)
    style = {"origin": "lower", "aspect": "auto", "interpolation": "nearest", "cmap": cmap, "vmin": low, "vmax": high}
    image = ax.imshow(db, extent=extent, **style)
    if np.ndim(hertz):
        marks = [mark for mark in MARKS if hertz[0] <= mark <= hertz[-1]]
        ax.set_yticks(np.interp(marks, hertz, np.arange(len(db)) + 0.5), [f"{mark:,}" for mark in marks])
    if bar:
        ax.figure.colorbar(image, ax=ax, label=unit)
    ax.set(xlabel="time (s)", ylabel="frequency (Hz)")
    ax.grid(False)
    return ax


def plot_chain(boxes, ax: Axes | None = None) -> Axes:
    """Boxes from left to right with an arrow from each to the next; each is (what stands in it, what stands below)."""
    ax = ax or plt.gca()
    for place, (inside, below) in enumerate(boxes):
        ax.text(place, 0, inside, ha="center", va="center", fontsize=10, bbox=BOX)
        ax.text(place, -0.55, below, ha="center", va="top", fontsize=8, color="0.3")
        if place:
            ax.annotate("", (place - 0.36, 0), (place - 0.64, 0), arrowprops={"arrowstyle": "->", "color": "0.3"})
    ax.set(xlim=(-0.5, len(boxes) - 0.5), ylim=(-1.6, 0.6))
    ax.set_axis_off()
    return ax


def plot_counts(manifest, names=NAMES, ax: Axes | None = None) -> Axes:
    """Bars: clips of each class in each split."""
    ax = sns.countplot(manifest, x="split", hue="label", palette=list(COLOURS), saturation=1, ax=ax or plt.gca())
    for bars in ax.containers:
        ax.bar_label(bars)
    ax.legend(ax.get_legend_handles_labels()[0], names)
    ax.set(xlabel="split", ylabel="clips")
    return ax


def plot_cue(values, labels, name: str, names=NAMES, ax: Axes | None = None) -> Axes:
    """One number a clip: its spread in each class, and in the title its AUC; far from 0.5 means that it tells."""
    ax = ax or plt.gca()
    values, labels = np.asarray(values, dtype=float), np.asarray(labels)
    parts = [values[labels == 0], values[labels == 1]]
    for x, (part, colour) in enumerate(zip(parts, COLOURS, strict=True)):
        jitter = np.linspace(-0.2, 0.2, len(part)) if len(part) > 1 else [0]
        ax.plot(x + np.asarray(jitter), part, ".", color=colour, alpha=0.6, markersize=4)
    ax.boxplot(parts, positions=[0, 1], widths=0.5, showfliers=False, medianprops={"color": "black"})
    ax.set_xticks([0, 1], names)
    ax.set(xlabel="class", ylabel=name, title=f"AUC {metrics.roc_auc(labels, values):.2f}")
    return ax


def plot_history(history, column: str, ax: Axes | None = None) -> Axes:
    """One column of a run's history on validation over the epochs, and its twin on training where there is one."""
    ax = ax or plt.gca()
    if f"train_{column}" in history:
        ax.plot(history.epoch, history[f"train_{column}"], marker="o", markersize=3, label="training", **LINES[0])
    ax.plot(history.epoch, history[column], marker="o", markersize=3, label="validation", **LINES[1])
    chance = {"loss": np.log(2), "accuracy": 0.5, "eer": 0.5}[column]
    ax.axhline(chance, label="chance", **CHANCE)
    if column != "loss":
        ax.yaxis.set_major_formatter(PercentFormatter(1))
    ylabel = {"loss": "cross-entropy", "accuracy": "accuracy", "eer": "equal error rate"}[column]
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set(xlabel="epoch", ylabel=ylabel, ylim=(0, None))
    ax.legend()
    return ax


def plot_confusion(matrix, title: str = "", names=NAMES, ax: Axes | None = None) -> Axes:
    """Counts [2, 2] (row = truth, column = verdict) and their share of the row, which also colours them."""
    matrix = np.asarray(matrix)
    share = matrix / matrix.sum(axis=1, keepdims=True)
    words = [[f"{n}\n{part:.0%}" for n, part in zip(*row, strict=True)] for row in zip(matrix, share, strict=True)]
    rows = [name.replace(" (", "\n(") for name in names]
    style = {"cmap": "Blues", "vmin": 0, "vmax": 1, "cbar": False, "xticklabels": NAMES, "yticklabels": rows, "fmt": ""}
    ax = sns.heatmap(share, annot=np.array(words), ax=ax or plt.gca(), **style)
    ax.set_yticks(ax.get_yticks(), rows, rotation=90, va="center")
    ax.set(xlabel="called", ylabel="truth", title=title)
    ax.grid(False)
    return ax


def plot_scores(labels, scores, threshold: float, title: str = "", names=NAMES, ax: Axes | None = None) -> Axes:
    """Histogram of the scores of each class, and the threshold."""
    ax = ax or plt.gca()
    labels, scores, bins = np.asarray(labels), np.asarray(scores), np.linspace(0, 1, 21)
    for label, name in enumerate(names):
        ax.hist(scores[labels == label], bins, color=COLOURS[label], alpha=0.6, label=name)
    ax.axvline(threshold, color="black", linewidth=1, label=f"threshold {threshold:.2f}")
    ax.set(xlabel="score = P(fake)", ylabel="clips", title=title)
    ax.legend(loc="upper center")  # where a good detector leaves room
    return ax


def plot_roc(curves: dict, ax: Axes | None = None) -> Axes:
    """ROC of each {name: (labels, scores)}: hits against false alarms, with chance; the legend gives the AUC."""
    from sklearn.metrics import RocCurveDisplay

    ax = ax or plt.gca()
    for (name, (labels, scores)), style in zip(curves.items(), cycle(LINES)):
        RocCurveDisplay.from_predictions(labels, scores, name=name, ax=ax).line_.set(**style)
    ax.plot([0, 1], [0, 1], label="chance", **CHANCE)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(PercentFormatter(1))
    ax.set(xlabel="false alarm rate (reals called fake)", ylabel="hit rate (fakes called fake)")
    ax.legend(loc="lower right")
    return ax


def plot_det(curves: dict, ax: Axes | None = None) -> Axes:
    """DET of each {name: (labels, scores)}: misses against false alarms on normal-deviate axes, with chance.

    The legend gives the EER, which is where a curve crosses the diagonal from the lower left.
    """
    from sklearn.metrics import DetCurveDisplay

    ax = ax or plt.gca()
    for (name, (labels, scores)), style in zip(curves.items(), cycle(LINES)):
        name = f"{name} (EER = {metrics.eer_rate(labels, scores):.1%})"
        DetCurveDisplay.from_predictions(labels, scores, name=name, ax=ax).line_.set(**style)
    ax.plot([-3, 3], [3, -3], label="chance", **CHANCE)  # in standard deviations, as the axes are
    ax.set(xlabel="false alarm rate (reals called fake)", ylabel="miss rate (fakes called real)")
    ax.tick_params("x", rotation=45)
    ax.legend(loc="upper right")
    return ax


def plot_reliability(labels, scores, ax: Axes | None = None) -> Axes:
    """Share of fakes over the mean score, in up to ten bins of as many clips each, and where calibrated scores lie."""
    from sklearn.calibration import CalibrationDisplay

    ax = ax or plt.gca()
    bins = min(10, max(1, len(labels) // CLIPS_A_BIN))
    CalibrationDisplay.from_predictions(
        labels, scores, n_bins=bins, strategy="quantile", name="measured", ref_line=False, ax=ax, color="black"
    )
    ax.plot([0, 1], [0, 1], label="calibrated", **CHANCE)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(PercentFormatter(1))
    ax.set(xlabel="mean score = P(fake)", ylabel="share of fakes", xlim=(0, 1), ylim=(-0.05, 1.05))
    ax.legend(loc="upper left")
    return ax


def plot_over_time(prediction, window_seconds: float, ax: Axes | None = None) -> Axes:
    """P(fake) of each window of a recording over time, and the threshold."""
    ax = ax or plt.gca()
    middle = prediction.times + min(window_seconds, prediction.seconds) / 2
    ax.plot(middle, prediction.scores, ".-", color="0.4")
    above = prediction.scores >= prediction.threshold
    for label, part in enumerate((~above, above)):
        ax.plot(middle[part], prediction.scores[part], "o", color=COLOURS[label], label=f"window called {NAMES[label]}")
    ax.axhline(prediction.threshold, label=f"threshold {prediction.threshold:.2f}", **CHANCE)
    ax.set(xlabel="time (s)", ylabel="score = P(fake)", xlim=(0, prediction.seconds), ylim=(-0.05, 1.05))
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=4)  # above the curve, which may go anywhere
    return ax


def plot_map(db, evidence, hop_seconds: float, hertz, ax: Axes | None = None) -> Axes:
    """A map [n_mels, frames] over the spectrogram [n_mels, frames] in dB: red speaks for fake, blue for real.

    The stronger, the less shines through; `evidence` is one of `explain.grad_cam`, in logits up to a scale.
    """
    ax = plot_spectrogram(db, hop_seconds, hertz, ax, cmap="gray", bar=False)
    evidence = np.asarray(evidence)
    limit = float(np.abs(evidence).max()) or 1.0
    style = {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit, "alpha": 0.8 * np.abs(evidence) / limit}
    extent = ax.images[0].get_extent()
    image = ax.imshow(evidence, origin="lower", aspect="auto", extent=extent, interpolation="nearest", **style)
    ax.figure.colorbar(image, ax=ax, label="evidence (fake above 0)")
    return ax


def plot_robustness(table, corruption: str, ax: Axes | None = None) -> Axes:
    """EER with its interval under one corruption, from mild to severe, beside clean and chance.

    `table` is what `dfa_utils.degradations.robustness` returns.
    """
    ax = ax or plt.gca()
    clean, part = table[table.corruption == "clean"].eer.item(), table[table.corruption == corruption]
    places = np.arange(len(part))
    spread = [part.eer - part.eer_low, part.eer_high - part.eer]
    ax.errorbar(places, part.eer, spread, fmt="o-", markersize=4, capsize=3, color="#009E73", label="corrupted")
    ax.axhline(clean, color="black", linestyle="--", linewidth=1, label=f"clean {clean:.1%}")
    ax.axhline(0.5, label="chance", **CHANCE)
    ax.set_xticks(places, [f"{level:g}" for level in part.level])
    ax.set(xlabel=f"{corruption} ({part.unit.iloc[0]})", ylabel="equal error rate", ylim=(0, None))
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.legend()
    return ax
