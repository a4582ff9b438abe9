import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from dfa_utils import plots
from dfa_utils.inference import Prediction

mpl.use("agg")
rng = np.random.default_rng(0)
LABELS, SCORES = np.repeat([0, 1], 20), np.clip(rng.normal(0.5, 0.2, 40) + np.repeat([-0.1, 0.1], 20), 0, 1)
HISTORY = pd.DataFrame({"epoch": [1, 2], "train_loss": [0.7, 0.5], "loss": [0.7, 0.6], "eer": [0.5, 0.2]})
OVER_TIME = Prediction("a.wav", 0.3, 0.5, 4.0, np.array([0.0, 1.0, 2.0]), np.array([0.1, 0.7, 0.2]))
MANIFEST = pd.DataFrame({"split": ["training", "testing"] * 20, "label": LABELS})
DRAW = {
    "waveform": lambda ax: plots.plot_waveform(SCORES, 16_000, 1, ax),
    "spectrogram": lambda ax: plots.plot_spectrogram(rng.random((8, 9)), 0.01, ax),
    "difference": lambda ax: plots.plot_spectrogram(rng.random((8, 9)), 0.01, ax, bands=8000, limit=3),
    "counts": lambda ax: plots.plot_counts(MANIFEST, ax=ax),
    "cue": lambda ax: plots.plot_cue(SCORES, LABELS, "level (dB)", ax=ax),
    "history": lambda ax: plots.plot_history(HISTORY, "loss", ax),
    "eer": lambda ax: plots.plot_history(HISTORY, "eer", ax),
    "confusion": lambda ax: plots.plot_confusion([[5, 1], [2, 7]], "testing", ax=ax),
    "scores": lambda ax: plots.plot_scores(LABELS, SCORES, 0.4, ax=ax),
    "roc": lambda ax: plots.plot_roc({"a": (LABELS, SCORES)}, ax),
    "det": lambda ax: plots.plot_det({"a": (LABELS, SCORES)}, ax),
    "reliability": lambda ax: plots.plot_reliability(LABELS, SCORES, ax),
    "over time": lambda ax: plots.plot_over_time(OVER_TIME, 2.0, ax),
}


@pytest.mark.parametrize("name", DRAW)
def test_both_axes_say_what_they_show_and_the_axes_come_back(name):
    figure, ax = mpl.pyplot.subplots()
    assert DRAW[name](ax) is ax
    assert ax.get_ylabel()
    assert ax.get_xlabel()
    figure.canvas.draw()
    mpl.pyplot.close(figure)


def labels_of(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


@pytest.mark.parametrize("name", ["roc", "det", "history", "eer"])
def test_chance_is_drawn(name):
    figure, ax = mpl.pyplot.subplots()
    assert "chance" in labels_of(DRAW[name](ax))
    mpl.pyplot.close(figure)


def test_a_class_has_one_colour_everywhere():
    figure, axes = mpl.pyplot.subplots(1, 2)
    scores, wave = plots.plot_scores(LABELS, SCORES, 0.4, ax=axes[0]), plots.plot_waveform(SCORES, 16_000, 1, axes[1])
    assert mpl.colors.to_hex(scores.patches[-1].get_facecolor()) == plots.COLOURS[1].lower()
    assert wave.lines[0].get_color() == plots.COLOURS[1]
    mpl.pyplot.close(figure)


def test_spectrograms_carry_a_bar_in_db():
    figure, ax = mpl.pyplot.subplots()
    plots.plot_spectrogram(rng.random((8, 9)), 0.01, ax)
    assert "dB" in [other.get_ylabel() for other in figure.axes]
    mpl.pyplot.close(figure)


def test_the_reliability_diagram_shows_every_clip_once_and_the_diagonal():
    figure, ax = mpl.pyplot.subplots()
    plots.plot_reliability(LABELS, SCORES, ax)
    assert sum(int(text.get_text()) for text in ax.texts) == len(LABELS)
    assert [line.get_xydata().tolist() for line in ax.lines if line.get_label() == "calibrated"] == [[[0, 0], [1, 1]]]
    mpl.pyplot.close(figure)
