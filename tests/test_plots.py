import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import norm
from sklearn.metrics import auc

from dfa_utils import Config, LogMel, metrics, plots
from dfa_utils.inference import Prediction

mpl.use("agg")
rng = np.random.default_rng(0)
LABELS, SCORES = np.repeat([0, 1], 20), np.clip(rng.normal(0.5, 0.2, 40) + np.repeat([-0.1, 0.1], 20), 0, 1)
HISTORY = pd.DataFrame({"epoch": [1, 2], "train_loss": [0.7, 0.5], "loss": [0.7, 0.6], "eer": [0.5, 0.2]})
MANIFEST = pd.DataFrame({"split": ["training"] * 30 + ["testing"] * 10, "label": LABELS})
DEGRADED = pd.DataFrame(
    {
        "degradation": ["clean", "noise", "noise"],
        "level": [np.nan, 20, 10],
        "unit": ["", "dB SNR", "dB SNR"],
        "eer": [0.1, 0.2, 0.3],
        "eer_low": [0.0, 0.1, 0.2],
        "eer_high": [0.2, 0.3, 0.4],
    }
)
CURVES = {"training": (LABELS, LABELS), "testing": (LABELS, SCORES)}
DRAW = {
    "waveform": lambda ax: plots.plot_waveform(SCORES, 16_000, 1, ax),
    "spectrogram": lambda ax: plots.plot_spectrogram(rng.random((8, 9)), 0.01, 8_000, ax),
    "mel": lambda ax: plots.plot_spectrogram(rng.random((80, 9)), 0.01, LogMel(Config()).hertz, ax),
    "counts": lambda ax: plots.plot_counts(MANIFEST, ax=ax),
    "cue": lambda ax: plots.plot_cue(SCORES, LABELS, "level (dB)", ax=ax),
    "confusion": lambda ax: plots.plot_confusion([[5, 1], [2, 7]], "testing", ax=ax),
    "scores": lambda ax: plots.plot_scores(LABELS, SCORES, 0.4, ax=ax),
    "reliability": lambda ax: plots.plot_reliability(LABELS, SCORES, ax),
    "over time": lambda ax: plots.plot_over_time(over_time(4.0), 2.0, ax),
    "map": lambda ax: plots.plot_map(rng.random((8, 9)), rng.normal(size=(8, 9)), 0.01, 8_000, ax),
    "history": lambda ax: plots.plot_history(HISTORY, "loss", ax),
    "eer": lambda ax: plots.plot_history(HISTORY, "eer", ax),
    "roc": lambda ax: plots.plot_roc(CURVES, ax),
    "det": lambda ax: plots.plot_det(CURVES, ax),
    "robustness": lambda ax: plots.plot_robustness(DEGRADED, "noise", ax),
}


def over_time(seconds):
    times = np.array([0.0, 1.0, 2.0])
    return Prediction("a.wav", 0.3, 0.5, seconds, seconds, times, times + 2, np.array([0.1, 0.7, 0.2]))


@pytest.fixture
def ax():
    figure, ax = mpl.pyplot.subplots()
    yield ax
    mpl.pyplot.close(figure)


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def line(ax, label):
    """The points [N, 2] of the one line whose label begins so."""
    (found,) = [line for line in ax.lines if line.get_label().startswith(label)]
    return found.get_xydata()


@pytest.mark.parametrize("name", DRAW)
def test_a_figure_comes_back_with_both_axes_named_and_chance_where_there_is_one(name, ax):
    assert DRAW[name](ax) is ax
    assert ax.get_ylabel()
    assert ax.get_xlabel()
    if name in ("history", "eer", "roc", "det", "robustness"):
        assert "chance" in legend(ax)
    ax.figure.canvas.draw()


def test_a_class_has_one_colour_everywhere_and_no_curve_has_it(ax):
    plots.plot_waveform(SCORES, 16_000, 1, ax)
    plots.plot_cue(SCORES, LABELS, "level (dB)", ax=ax)
    assert [line.get_color() for line in ax.lines if line.get_marker() == "." or line is ax.lines[0]] == [
        plots.COLOURS[1],
        *plots.COLOURS,
    ]
    assert not {style["color"] for style in plots.LINES} & set(plots.COLOURS)


def test_samples_are_drawn_at_their_time(ax):
    plots.plot_waveform(SCORES, 10, ax=ax)
    assert ax.lines[0].get_xydata() == pytest.approx(np.stack([np.arange(40) / 10, SCORES], axis=1))


def test_a_spectrogram_has_seconds_hertz_and_a_bar_in_db(ax):
    plots.plot_spectrogram(rng.random((8, 9)), 0.01, 8_000, ax)
    assert ax.images[0].get_extent() == pytest.approx((0, 0.09, 0, 8_000))
    assert "level (dB)" in [other.get_ylabel() for other in ax.figure.axes]


def test_the_mel_axis_labels_the_row_of_a_tone_with_its_frequency(ax):
    tone = torch.sin(2 * torch.pi * 1_000 * torch.arange(16_000) / 16_000)
    front_end = LogMel(Config())
    db = front_end(tone[None])[0, 0].numpy()  # [80, frames]
    plots.plot_spectrogram(db, 0.01, front_end.hertz, ax)
    places = {text.get_text(): place for text, place in zip(ax.get_yticklabels(), ax.get_yticks(), strict=True)}
    assert abs(places["1,000"] - 0.5 - db.mean(axis=1).argmax()) <= 0.5
    assert list(places) == ["500", "1,000", "2,000", "4,000"]


def test_images_share_a_bar_when_told_its_ends(ax):
    plots.plot_spectrogram(rng.random((8, 9)), 0.01, 8_000, ax, limits=(-80, 0), bar=False)
    assert ax.images[0].get_clim() == (-80, 0)
    assert ax.figure.axes == [ax]


def test_a_chain_has_an_arrow_between_its_boxes(ax):
    plots.plot_chain([("text", "words"), ("vocoder", ""), ("wav", "samples")], ax)
    words = [text.get_text() for text in ax.texts]
    assert [word for word in words if word] == ["text", "words", "vocoder", "wav", "samples"]
    assert sum(getattr(text, "arrow_patch", None) is not None for text in ax.texts) == 2


def test_a_map_covers_its_spectrogram_and_no_evidence_is_the_middle_of_its_colours(ax):
    plots.plot_map(*rng.normal(size=(2, 40, 51)), 0.01, 8_000, ax)
    assert ax.images[1].get_extent() == ax.images[0].get_extent()
    assert ax.images[1].norm(0.0) == 0.5


def test_the_title_of_a_cue_is_its_auc(ax):
    plots.plot_cue(SCORES, LABELS, "level (dB)", ax=ax)
    assert ax.get_title() == f"AUC {metrics.roc_auc(LABELS, SCORES):.2f}"
    assert [text.get_text() for text in ax.get_xticklabels()] == ["real", "fake"]
    assert set(ax.lines[0].get_ydata()) == set(SCORES[LABELS == 0])


def test_counts_are_those_of_each_class_and_split(ax):
    plots.plot_counts(MANIFEST, ax=ax)
    assert [[bar.get_height() for bar in bars] for bars in ax.containers] == [[20], [10, 10]]
    assert [mpl.colors.to_hex(bars[0].get_facecolor()).upper() for bars in ax.containers] == [*plots.COLOURS]
    assert legend(ax) == ["real", "fake"]


def test_rows_of_a_confusion_matrix_are_truths(ax):
    plots.plot_confusion([[5, 1], [2, 7]], ax=ax)
    assert [text.get_text() for text in ax.texts] == ["5\n83%", "1\n17%", "2\n22%", "7\n78%"]
    assert ax.collections[0].get_array().ravel().tolist() == pytest.approx([5 / 6, 1 / 6, 2 / 9, 7 / 9])
    assert (ax.get_ylabel(), ax.get_xlabel()) == ("truth", "called")


def test_a_histogram_of_scores_holds_every_clip_under_the_name_of_its_class(ax):
    plots.plot_scores(LABELS, np.where(LABELS, 0.9, 0.1), 0.4, ax=ax)
    for bars, label, score in zip(ax.containers, ("real", "fake"), (0.1, 0.9), strict=True):
        filled = [bar for bar in bars if bar.get_height()]
        assert [bar.get_height() for bar in filled] == [20]
        assert filled[0].get_x() - 1e-9 <= score <= filled[0].get_x() + filled[0].get_width() + 1e-9
        assert bars[0].get_label() == label
        assert mpl.colors.to_hex(filled[0].get_facecolor()).upper() == plots.COLOURS[label == "fake"]
    assert line(ax, "threshold")[0, 0] == 0.4


def test_history_draws_training_beside_validation(ax):
    plots.plot_history(HISTORY, "loss", ax)
    assert line(ax, "training")[:, 1].tolist() == [0.7, 0.5]
    assert line(ax, "validation").tolist() == [[1, 0.7], [2, 0.6]]
    assert line(ax, "chance")[0, 1] == pytest.approx(np.log(2))


def test_roc_and_det_show_the_operating_points_with_auc_and_eer(ax):
    false_alarm, miss, _ = metrics.error_rates(LABELS, SCORES)
    plots.plot_roc(CURVES, ax)
    x, y = line(ax, "testing").T
    assert auc(x, y) == pytest.approx(metrics.roc_auc(LABELS, SCORES))
    assert {*zip(x.round(6), y.round(6), strict=True)} <= {*zip(false_alarm.round(6), (1 - miss).round(6), strict=True)}
    assert legend(ax)[1] == f"testing (AUC = {metrics.roc_auc(LABELS, SCORES):.2f})"
    ax.clear()
    plots.plot_det(CURVES, ax)
    x, y = norm.cdf(line(ax, "testing")).T
    assert {*zip(x.round(6), y.round(6), strict=True)} <= {*zip(false_alarm.round(6), miss.round(6), strict=True)}
    assert legend(ax)[1] == f"testing (EER = {metrics.eer_rate(LABELS, SCORES):.1%})"
    assert norm.cdf(line(ax, "chance")).sum(axis=1) == pytest.approx([1, 1])


@pytest.mark.parametrize(("clips", "bins"), [(40, 4), (400, 10)])
def test_a_point_of_the_reliability_diagram_is_a_tenth_of_the_clips_or_ten_of_them(ax, clips, bins):
    scores = rng.permutation((np.arange(clips) + 0.5) / clips) ** 2
    labels = rng.random(clips) < scores
    plots.plot_reliability(labels, scores, ax)
    parts = np.array_split(np.argsort(scores), bins)
    expected = [(scores[part].mean(), labels[part].mean()) for part in parts]
    assert line(ax, "measured") == pytest.approx(np.array(expected))
    assert line(ax, "calibrated").tolist() == [[0, 0], [1, 1]]


@pytest.mark.parametrize(("seconds", "middles"), [(4.0, [1, 2, 3]), (0.5, [0.25, 1.25, 2.25])])
def test_a_score_over_time_is_in_the_middle_of_its_window(ax, seconds, middles):
    plots.plot_over_time(over_time(seconds), 2.0, ax)
    assert ax.lines[0].get_xdata().tolist() == middles
    assert line(ax, "window called fake").tolist() == [[middles[1], 0.7]]
    assert line(ax, "window called real")[:, 0].tolist() == [middles[0], middles[2]]
    assert line(ax, "threshold")[0, 1] == 0.5


def test_robustness_goes_from_mild_to_severe_with_clean_and_chance(ax):
    plots.plot_robustness(DEGRADED, "noise", ax)
    assert ax.lines[0].get_ydata().tolist() == [0.2, 0.3]
    assert [part[:, 1].tolist() for part in ax.collections[0].get_segments()] == [
        pytest.approx([0.1, 0.3]),
        pytest.approx([0.2, 0.4]),
    ]
    assert [text.get_text() for text in ax.get_xticklabels()] == ["20", "10"]
    assert ax.get_xlabel() == "noise (dB SNR)"
    assert "clean 10.0%" in legend(ax)
