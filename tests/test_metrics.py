import numpy as np
import pytest
from scipy.stats import norm

from dfa_utils import metrics

rng = np.random.default_rng(0)
LABELS = np.repeat([0, 1], 200)
SCORES = np.concatenate([rng.normal(0, 1, 200), rng.normal(1, 1, 200)])


def test_eer_of_two_unit_gaussians_two_apart():
    quantiles = norm.ppf((np.arange(100_000) + 0.5) / 100_000)
    rate, threshold = metrics.eer(np.repeat([0, 1], 100_000), np.concatenate([quantiles, quantiles + 2]))
    assert rate == pytest.approx(norm.cdf(-1), abs=1e-4)
    assert threshold == pytest.approx(1, abs=1e-3)


def test_eer_depends_on_the_order_of_scores_alone():
    assert metrics.eer(LABELS, np.exp(3 * SCORES))[0] == pytest.approx(metrics.eer(LABELS, SCORES)[0], abs=1e-12)


def test_eer_of_scores_that_say_nothing_is_one_half():
    assert metrics.eer(LABELS, np.zeros(400))[0] == 0.5
    assert np.isfinite(metrics.eer(LABELS, np.zeros(400))[1])
    assert metrics.eer([0, 1], [0.9, 0.1])[0] == 1


def test_log_loss_of_a_coin_and_of_certainty():
    assert metrics.log_loss([0, 1], [0.5, 0.5]) == pytest.approx(np.log(2))
    assert metrics.log_loss([0, 1], [0.0, 1.0]) < 1e-6
    assert np.isfinite(metrics.log_loss([0, 1], [1.0, 0.0]))


def test_eer_threshold_of_separate_classes_lies_midway():
    rate, threshold = metrics.eer([0, 0, 1, 1], [0.1, 0.2, 0.6, 0.9])
    assert rate == 0
    assert threshold == pytest.approx(0.4)


def test_eer_with_ties_agrees_with_a_count_by_hand():
    rate, _ = metrics.eer([0, 0, 0, 0, 1, 1, 1, 1], [1, 1, 1, 2, 1, 2, 2, 2])
    assert rate == pytest.approx(0.25)


def test_hter_at_the_eer_threshold_is_the_eer():
    rate, threshold = metrics.eer(LABELS, SCORES)
    assert metrics.hter(LABELS, SCORES, threshold) == pytest.approx(rate, abs=0.005)


def test_counts_by_hand():
    labels, scores = [0, 0, 0, 1, 1], [0.1, 0.6, 0.2, 0.7, 0.3]
    assert metrics.confusion(labels, scores, 0.5).tolist() == [[2, 1], [1, 1]]
    assert metrics.accuracy(labels, scores, 0.5) == 0.6
    assert metrics.f1(labels, scores, 0.5) == 0.5
    assert metrics.hter(labels, scores, 0.5) == pytest.approx((1 / 3 + 1 / 2) / 2)
    assert metrics.balanced_accuracy(labels, scores, 0.5) == pytest.approx((2 / 3 + 1 / 2) / 2)


def test_a_score_on_the_threshold_is_fake():
    assert metrics.accuracy([1], [0.5], 0.5) == 1


def test_auc_turns_over_with_the_scores():
    assert metrics.roc_auc(LABELS, SCORES) + metrics.roc_auc(LABELS, -SCORES) == pytest.approx(1)


def test_interval_covers_the_truth_about_as_often_as_it_says():
    truth, rng = norm.cdf(-1), np.random.default_rng(1)
    hits = 0
    for i in range(60):
        scores = np.concatenate([rng.normal(0, 1, 100), rng.normal(2, 1, 100)])
        low, high = metrics.bootstrap_interval(
            lambda y, s: metrics.hter(y, s, 1.0), np.repeat([0, 1], 100), scores, n=200, seed=i
        )
        hits += low <= truth <= high
    assert hits >= 51  # 57 expected; 50 or fewer happen once in 1,000 such experiments at 95 % coverage


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([1, 1], [0.2, 0.3], "both classes"),
        ([0, 1], [0.2, np.nan], "not finite"),
        ([0, 1], [0.2], "one length"),
        ([0, 2], [0.2, 0.3], "must be 0"),
        ([], [], "one length"),
    ],
)
def test_bad_input_is_refused(labels, scores, message):
    with pytest.raises(ValueError, match=message):
        metrics.eer(labels, scores)
