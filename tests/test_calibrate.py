import numpy as np
import pandas as pd
import pytest
import torch
from scipy import special
from torch import nn

from dfa_utils import calibrate, metrics
from dfa_utils.config import Config
from dfa_utils.inference import Detector


def draw(n=4_000, slope=0.5, offset=1.0, seed=0):
    """Labels, and scores whose logits are `slope` and `offset` away from being true log-likelihood ratios."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    truth = rng.normal(np.where(labels == 1, 2.0, -2.0), 2.0)  # equal variances: log-likelihood ratio = x
    return labels, 1 / (1 + np.exp(-(truth - offset) / slope))


def test_what_was_bent_is_straightened():
    labels, scores = draw(40_000)
    assert calibrate.fit_calibration(labels, scores) == pytest.approx((0.5, 1.0, 0.0), abs=0.05)


def test_calibrated_scores_cost_no_more_than_discrimination_does():
    labels, scores = draw()
    better = calibrate.apply_calibration(scores, *calibrate.fit_calibration(labels, scores))
    assert metrics.cllr(labels, scores) > metrics.cllr(labels, better) + 0.1
    assert metrics.cllr(labels, better) < metrics.min_cllr(labels, scores) + 0.02
    assert metrics.eer_rate(labels, better) == pytest.approx(metrics.eer_rate(labels, scores))


def test_the_share_of_fakes_does_not_bend_the_calibration():
    labels, scores = draw(40_000)
    few = (labels == 0) | (np.arange(len(labels)) % 10 == 0)
    assert calibrate.fit_calibration(labels[few], scores[few]) == pytest.approx((0.5, 1.0, 0.0), abs=0.15)


def draw_by_length(half, n=20_000):
    """Labels, scores and seconds: the longer a recording, the more its logit says, half of it after `half` s."""
    rng = np.random.default_rng(0)
    seconds, labels = rng.choice([0.3, 0.6, 1.0, 2.0, 4.0, 8.0], n), rng.integers(0, 2, n)
    weight = seconds / (seconds + half)
    # with a variance of 4 and means of +-2 * weight, a logit x has the log-likelihood ratio weight * x
    logits = rng.normal(np.where(labels == 1, 2.0, -2.0) * weight, 2.0)
    return labels, special.expit(logits / 0.5), seconds


@pytest.mark.parametrize("half", [0.0, 0.5, 3.0])
def test_the_half_of_the_length_is_found(half):
    labels, scores, seconds = draw_by_length(half)
    found = calibrate.fit_calibration(labels, scores, seconds)
    assert found == pytest.approx((0.5, 0.0, half), abs=0.05 + 0.1 * half)
    better = calibrate.apply_calibration(scores, *found, seconds)
    for length in np.unique(seconds):
        part = seconds == length
        assert metrics.cllr(labels[part], better[part]) < metrics.min_cllr(labels[part], scores[part]) + 0.02
    if half:
        worse = calibrate.apply_calibration(scores, *calibrate.fit_calibration(labels, scores))
        assert metrics.cllr(labels, better) < metrics.cllr(labels, worse) - 0.005


def test_recordings_of_one_length_tell_nothing_of_it():
    labels, scores = draw()
    plain, known = (calibrate.fit_calibration(labels, scores, seconds) for seconds in (None, np.full(len(labels), 2.0)))
    assert known == pytest.approx(plain, abs=1e-3)


def test_one_class_cannot_be_calibrated():
    with pytest.raises(ValueError, match="both"):
        calibrate.fit_calibration([1, 1], [0.2, 0.3])


def test_scores_that_fall_with_the_chance_of_fake_are_not_turned_round():
    labels, scores = draw()
    with pytest.raises(ValueError, match="fakes do not score higher"):
        calibrate.fit_calibration(labels, 1 - scores)


@pytest.mark.parametrize("n", [9, 24, 400])
def test_few_clips_make_no_detector_sure_however_well_it_separates_them(n):
    """Where all clips of a class score alike, P(fake) becomes (n + 1) / (n + 2), as in Laplace's rule of succession."""
    labels = np.repeat([0, 1], n)
    scores = calibrate.apply_calibration(0.01 + 0.98 * labels, *calibrate.fit_calibration(labels, 0.01 + 0.98 * labels))
    assert scores[-1] == pytest.approx((n + 1) / (n + 2), abs=1e-3)
    assert scores[0] == pytest.approx(1 / (n + 2), abs=1e-3)


@pytest.mark.parametrize(
    ("count", "shares"), [(9, ()), (30, ()), (49, (0.02, 0.1)), (100, (0.05, 0.01)), (100, (0.2,))]
)
def test_beyond_the_band_a_new_clip_is_misled_as_seldom_as_promised(count, shares):
    """Conformal prediction: over many draws each share is at most its promise, and at most one clip of n below it."""
    rng = np.random.default_rng(0)
    missed, false_positives = (*shares, 0.1, 0.1)[:2]
    called = []
    for _ in range(2_000):
        scores = np.concatenate([rng.normal(0, 1, count + 1), rng.normal(1, 1, count + 1)])
        labels = np.repeat([0, 1], count + 1)
        seen = np.arange(2 * count + 2) % (count + 1) > 0  # the first of each class is the new clip
        low, high = calibrate.uncertain_band(labels[seen], scores[seen], 0.5, *shares)
        called.append((scores[0] > high, scores[count + 1] < low))
    for found, promised in zip(np.mean(called, axis=0), (false_positives, missed), strict=True):
        error = 4 * np.sqrt(promised / 2_000)
        assert promised - 1 / (count + 1) - error < found < promised + error


def test_too_few_clips_can_promise_nothing():
    labels, scores = np.repeat([0, 1], 8), np.linspace(0, 1, 16)
    with pytest.raises(ValueError, match=r"8 fake clips are too few .* below 10%; calibrate on 9 or more"):
        calibrate.uncertain_band(labels, scores, 0.5)
    with pytest.raises(ValueError, match=r"8 real clips are too few .* below 1%; calibrate on 99 or more"):
        calibrate.uncertain_band(labels, scores, 0.5, 0.2, 0.01)


def test_where_the_classes_are_separated_nothing_is_uncertain():
    labels, scores = np.array([0] * 20 + [1] * 20), np.linspace(0, 1, 40)
    assert calibrate.uncertain_band(labels, scores, 0.5) == (0.5, 0.5)


class Reader(nn.Module):
    """A detector that finds each window's logit written in its samples: their mean, times 100."""

    def __init__(self):
        super().__init__()
        self.config = Config(clip_seconds=0.02, hop_seconds=0.02)
        self.one = nn.Parameter(torch.ones(1))

    def forward(self, waveforms):
        logit = 100 * self.one * waveforms.mean(dim=1)
        return torch.stack([-logit, logit], dim=1) / 2


def recording(logits, size=320):
    """Samples whose windows carry these logits, on a tone that no mean shows."""
    carrier = torch.sin(2 * torch.pi * 10 * torch.arange(size) / size)
    return torch.cat([carrier + logit / 100 for logit in logits])


def judged(detector, recordings):
    return np.array(
        [result.score for _, result in detector.predict_recordings(("r", [samples]) for samples in recordings)]
    )


@pytest.mark.parametrize("windows", [1, 4, 30])
def test_one_recording_is_calibrated_once_whatever_its_length(windows):
    """What it promises of recordings of N windows comes true: 800 others of each class, in bins of their score."""
    rng = np.random.default_rng(windows)

    def some(n):
        labels = np.repeat([0, 1], n)
        logits = rng.normal(np.where(labels == 1, 0.6, -0.4)[:, None], 2.0, (2 * n, windows))
        return labels, [recording(row) for row in logits]

    labels, recordings = some(400)
    detector = Detector(Reader(), {})
    better = calibrate.calibrate(detector, labels, judged(detector, recordings))
    labels, recordings = some(800)
    scores = judged(better, recordings)
    table = pd.DataFrame({"label": labels, "score": scores}).groupby(pd.qcut(scores, 8), observed=True).mean()
    assert (table.label - table.score).abs().max() < 0.1
    assert metrics.hter(labels, scores, better.threshold) < metrics.eer_rate(labels, scores) + 0.02


def test_the_calibrated_detector_gives_the_calibrated_scores_again_and_again():
    rng, detector, labels = np.random.default_rng(0), Detector(Reader(), {"note": "kept"}), np.arange(60) % 2
    recordings = [recording(row) for row in rng.normal(0.5 * labels[:, None], 1, (60, 3))]
    scores = judged(detector, recordings)
    once = calibrate.calibrate(detector, labels, scores)
    expected = calibrate.apply_calibration(scores, *calibrate.fit_calibration(labels, scores))
    assert judged(once, recordings) == pytest.approx(expected, abs=1e-6)
    assert once.threshold == pytest.approx(metrics.eer(labels, expected)[1])
    assert once.uncertain_band[0] <= once.threshold <= once.uncertain_band[1]
    assert once.info["note"] == "kept"
    assert once.evidence == (30, 30)
    assert judged(detector, recordings) == pytest.approx(scores)
    twice = calibrate.calibrate(once, labels, judged(once, recordings))
    assert judged(twice, recordings) == pytest.approx(judged(once, recordings), abs=1e-3)


def test_a_calibration_that_knows_the_length_is_refined_by_another():
    rng, labels = np.random.default_rng(0), np.arange(400) % 2
    windows = rng.integers(1, 9, 400)
    recordings = [recording(rng.normal(1.5 * y - 0.5, 1.5, n)) for y, n in zip(labels, windows, strict=True)]
    detector, seconds = Detector(Reader(), {}), 0.02 * windows
    once = calibrate.calibrate(detector, labels, judged(detector, recordings), seconds)
    assert once.calibration[2] > 0
    for more in (seconds, None):
        twice = calibrate.calibrate(once, labels, judged(once, recordings), more)
        assert judged(twice, recordings) == pytest.approx(judged(once, recordings), abs=5e-3)
