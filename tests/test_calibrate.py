import numpy as np
import pytest
import torch

from dfa_utils import metrics
from dfa_utils.analysis import calibrate
from dfa_utils.config import Config
from dfa_utils.models import build_model

TINY = Config(n_mels=20, channels=(4, 4))


def draw(n=4_000, slope=0.5, offset=1.0, seed=0):
    """Labels, and scores whose logits are `slope` and `offset` away from being true log-likelihood ratios."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    truth = rng.normal(np.where(labels == 1, 2.0, -2.0), 2.0)  # equal variances: log-likelihood ratio = x
    return labels, 1 / (1 + np.exp(-(truth - offset) / slope))


def test_what_was_bent_is_straightened():
    labels, scores = draw(40_000)
    assert calibrate.fit_calibration(labels, scores) == pytest.approx((0.5, 1.0), abs=0.05)


def test_calibrated_scores_cost_no_more_than_discrimination_does():
    labels, scores = draw()
    better = calibrate.apply_calibration(scores, *calibrate.fit_calibration(labels, scores))
    assert metrics.cllr(labels, scores) > metrics.cllr(labels, better) + 0.1
    assert metrics.cllr(labels, better) < metrics.min_cllr(labels, scores) + 0.02
    assert metrics.eer_rate(labels, better) == pytest.approx(metrics.eer_rate(labels, scores))


def test_the_share_of_fakes_does_not_bend_the_calibration():
    labels, scores = draw(40_000)
    few = (labels == 0) | (np.arange(len(labels)) % 10 == 0)
    assert calibrate.fit_calibration(labels[few], scores[few]) == pytest.approx((0.5, 1.0), abs=0.15)


def test_one_class_cannot_be_calibrated():
    with pytest.raises(ValueError, match="both"):
        calibrate.fit_calibration([1, 1], [0.2, 0.3])


@pytest.mark.parametrize("doubt", [0.05, 0.2])
def test_beyond_the_band_few_are_misled(doubt):
    labels, scores = draw()
    low, high = calibrate.uncertain_band(labels, scores, metrics.eer(labels, scores)[1], doubt)
    assert (scores[labels == 1] < low).mean() <= doubt
    assert (scores[labels == 0] > high).mean() <= doubt


def test_where_the_classes_lie_apart_nothing_is_uncertain():
    labels, scores = np.array([0] * 20 + [1] * 20), np.linspace(0, 1, 40)
    assert calibrate.uncertain_band(labels, scores, 0.5) == (0.5, 0.5)


def test_a_calibrated_detector_gives_the_calibrated_scores():
    model, waves = build_model(config=TINY).eval(), torch.randn(60, 8_000, generator=torch.Generator().manual_seed(1))
    scores, labels = model.predict_proba(waves)[:, 1].numpy(), np.arange(60) % 2
    better, info = calibrate.calibrate(model, labels, scores)
    expected = calibrate.apply_calibration(scores, *calibrate.fit_calibration(labels, scores))
    assert better.predict_proba(waves)[:, 1].numpy() == pytest.approx(expected, abs=1e-4)
    assert model.predict_proba(waves)[:, 1].numpy() == pytest.approx(scores)
    assert info["threshold"] == pytest.approx(metrics.eer(labels, expected)[1])
    assert info["uncertain"][0] <= info["threshold"] <= info["uncertain"][1]


def test_what_is_calibrated_already_can_be_calibrated_again():
    model, waves = build_model(config=TINY).eval(), torch.randn(60, 8_000, generator=torch.Generator().manual_seed(1))
    labels, scores = np.arange(60) % 2, model.predict_proba(waves)[:, 1].numpy()
    once, _ = calibrate.calibrate(model, labels, scores)
    scores = once.predict_proba(waves)[:, 1].numpy()
    twice, _ = calibrate.calibrate(once, labels, scores)
    assert twice.predict_proba(waves)[:, 1].numpy() == pytest.approx(scores, abs=1e-3)
