from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm, t
from sklearn.metrics import roc_curve

from dfa_utils import metrics
from dfa_utils.metrics import clustered_interval, eer_rate

rng = np.random.default_rng(0)
LABELS = np.repeat([0, 1], 200)
SCORES = np.concatenate([rng.normal(0, 1, 200), rng.normal(1, 1, 200)])
SPEAKERS, NOBODY = np.arange(400) // 8, np.full(400, "")
SHARES = 1 / (1 + np.exp(0.5 - SCORES))  # of a calibrated detector: P(fake) under equal priors


def small_set(rng):
    """A few clips of both classes, with so few distinct scores, 0 and 1 among them, that most are shared."""
    labels = rng.permutation(np.r_[0, 1, rng.integers(2, size=rng.integers(25))])
    return labels, rng.integers(rng.integers(1, 9) + 1, size=len(labels)) / 8


SETS = [small_set(rng) for _ in range(1000)]


def points_by_hand(labels, scores):
    """(false alarm rate, miss rate) at each threshold from infinity down, by counting."""
    reals = [s for y, s in zip(labels, scores, strict=True) if y == 0]
    fakes = [s for y, s in zip(labels, scores, strict=True) if y == 1]
    thresholds = [np.inf, *sorted(set(scores), reverse=True)]
    return [(sum(s >= t for s in reals) / len(reals), sum(s < t for s in fakes) / len(fakes)) for t in thresholds]


def eer_by_hand(labels, scores):
    """Where the line through the operating points meets the diagonal."""
    points = points_by_hand(labels, scores)
    for (x0, y0), (x1, y1) in pairwise(points):
        if y0 > x0 and y1 <= x1:
            return (x1 * y0 - x0 * y1) / ((y0 - y1) + (x1 - x0))
    raise AssertionError("no crossing")


def min_dcf_by_hand(labels, scores):
    return min(
        (0.95 * 1 * rejected + 0.05 * 10 * accepted) / 0.5 for rejected, accepted in points_by_hand(labels, scores)
    )


def act_dcf_by_hand(labels, scores):
    """Each clip takes the decision with the lower expected cost under the prior."""
    pairs = list(zip(labels, scores, strict=True))
    rejected = [10 * 0.05 * p > 1 * 0.95 * (1 - p) for y, p in pairs if y == 0]
    accepted = [10 * 0.05 * p <= 1 * 0.95 * (1 - p) for y, p in pairs if y == 1]
    return (0.95 * sum(rejected) / len(rejected) + 0.5 * sum(accepted) / len(accepted)) / 0.5


def cllr_by_hand(labels, scores):
    """Mean surprise in bits, each class weighing one half."""
    shares = np.clip(scores, 1e-7, 1 - 1e-7)
    return (np.mean(-np.log2(shares[labels == 1])) + np.mean(-np.log2(1 - shares[labels == 0]))) / 2


def min_cllr_by_hand(labels, scores):
    """Pool neighbouring scores until the odds rise, then take each pool's own rates as its likelihoods."""
    pools, totals = [], np.bincount(labels)
    for score in sorted(set(scores)):
        pools.append(np.bincount(labels[scores == score], minlength=2))
        while len(pools) > 1 and pools[-2][1] * pools[-1][0] >= pools[-1][1] * pools[-2][0]:
            pools[-2:] = [pools[-2] + pools[-1]]
    bits = 0
    for pool in pools:
        rates = pool / totals
        bits -= sum(rate * np.log2(rate / rates.sum()) for rate in rates if rate) / 2
    return bits


def test_eer_of_two_unit_gaussians_two_apart():
    quantiles = norm.ppf((np.arange(100_000) + 0.5) / 100_000)
    rate, threshold = metrics.eer(np.repeat([0, 1], 100_000), np.concatenate([quantiles, quantiles + 2]))
    assert rate == pytest.approx(norm.cdf(-1), abs=1e-4)
    assert threshold == pytest.approx(1, abs=1e-3)


def test_eer_of_uninformative_scores_is_one_half():
    assert metrics.eer(LABELS, np.zeros(400))[0] == 0.5
    assert np.isfinite(metrics.eer(LABELS, np.zeros(400))[1])
    assert metrics.eer([0, 1], [0.9, 0.1])[0] == 1


def test_log_loss_of_a_coin_and_of_certainty():
    assert metrics.log_loss([0, 1], [0.5, 0.5]) == pytest.approx(np.log(2))
    assert metrics.log_loss([0, 1], [0.0, 1.0]) < 1e-6
    assert metrics.log_loss([0, 1], [1.0, 0.0]) == pytest.approx(7 * np.log(10))  # probabilities stop at 1e-7


def test_eer_threshold_is_midway_between_scores_where_the_error_rates_come_closest():
    assert metrics.eer([0, 0, 1, 1], [0.1, 0.2, 0.6, 0.9]) == (0, pytest.approx(0.4))
    for labels, scores in SETS[:300]:
        threshold = metrics.eer(labels, scores)[1]
        gap = np.mean(scores[labels == 0] >= threshold) - np.mean(scores[labels == 1] < threshold)
        assert abs(gap) == pytest.approx(min(abs(x - y) for x, y in points_by_hand(labels, scores)))


def test_hter_at_the_eer_threshold_is_the_eer():
    rate, threshold = metrics.eer(LABELS, SCORES)
    assert metrics.hter(LABELS, SCORES, threshold) == pytest.approx(rate, abs=0.005)


def test_counts_by_hand():
    labels, scores = [0, 0, 0, 1, 1], [0.1, 0.6, 0.2, 0.7, 0.3]
    assert metrics.confusion(labels, scores, 0.5).tolist() == [[2, 1], [1, 1]]
    assert metrics.accuracy(labels, scores, 0.5) == 0.6
    assert metrics.f1(labels, scores, 0.5) == 0.5
    assert metrics.hter(labels, scores, 0.5) == pytest.approx((1 / 3 + 1 / 2) / 2)


def test_a_score_on_the_threshold_is_fake():
    drawn = [0, 1], [0.2, 0.5]
    assert metrics.accuracy(*drawn) == metrics.f1(*drawn) == 1 - metrics.hter(*drawn, 0.5) == 1
    assert metrics.confusion(*drawn).tolist() == [[1, 0], [0, 1]]
    assert metrics.act_dcf(*drawn, 0.5, 1, 1) == 0


def test_auc_of_negated_scores_is_its_complement():
    assert metrics.roc_auc(LABELS, SCORES) + metrics.roc_auc(LABELS, -SCORES) == pytest.approx(1)


@pytest.mark.parametrize(
    ("metric", "by_hand"),
    [
        (metrics.eer_rate, eer_by_hand),
        (metrics.min_dcf, min_dcf_by_hand),
        (metrics.act_dcf, act_dcf_by_hand),
        (metrics.cllr, cllr_by_hand),
        (metrics.min_cllr, min_cllr_by_hand),
    ],
)
def test_a_thousand_small_sets_with_ties_agree_with_the_definition(metric, by_hand):
    values = np.array([(metric(*drawn), by_hand(*drawn)) for drawn in SETS])
    np.testing.assert_allclose(values[:, 0], values[:, 1], atol=1e-9)


def test_operating_points_agree_with_a_count_and_with_scikit_learn():
    for labels, scores in SETS:
        false_alarm, miss, threshold = metrics.error_rates(labels, scores)
        assert np.allclose(np.transpose([false_alarm, miss]), points_by_hand(labels, scores), rtol=0, atol=1e-12)
        expected = roc_curve(labels, scores, drop_intermediate=False)
        assert all(map(np.allclose, (false_alarm, 1 - miss, threshold), expected))


def test_the_best_is_never_above_the_actual():
    for drawn in SETS[:300]:
        assert 0 <= metrics.min_dcf(*drawn) <= min(1, metrics.act_dcf(*drawn)) + 1e-12
        assert 0 <= metrics.min_cllr(*drawn) <= min(1, metrics.cllr(*drawn)) + 1e-6  # 1e-6: probabilities stop at 1e-7


def test_costs_of_a_calibrated_gaussian_detector():
    quantiles = norm.ppf((np.arange(50_000) + 0.5) / 50_000)
    ratios = 2 * np.concatenate([quantiles + 1, quantiles - 1])  # for bona fide; mean 2 or -2, variance 4: calibrated
    labels, scores = np.repeat([0, 1], 50_000), 1 / (1 + np.exp(ratios))
    grid = np.linspace(-14, 18, 100_001)
    bits = np.mean(norm.pdf(grid, 2, 2) * np.log2(1 + np.exp(-grid))) * 32
    assert metrics.cllr(labels, scores) == pytest.approx(bits, abs=1e-4)
    assert metrics.min_cllr(labels, scores) == pytest.approx(bits, abs=1e-3)
    bayes = np.log(0.05 * 10 / 0.95)
    cost = (0.95 * norm.cdf(bayes, 2, 2) + 0.5 * norm.sf(bayes, -2, 2)) / 0.5
    assert metrics.act_dcf(labels, scores) == pytest.approx(cost, abs=1e-4)
    assert metrics.min_dcf(labels, scores) == pytest.approx(cost, abs=1e-4)


def test_blind_systems_cost_one_and_a_sure_one_nothing():
    assert metrics.min_dcf(LABELS, np.zeros(400)) == 1
    assert metrics.act_dcf(LABELS, np.full(400, 0.5)) == 1
    assert metrics.act_dcf(LABELS, np.ones(400)) == pytest.approx(0.95 / 0.5)  # all rejected: the worse blind decision
    assert metrics.cllr(LABELS, np.full(400, 0.5)) == pytest.approx(1)
    assert metrics.min_cllr(LABELS, np.full(400, 0.9)) == pytest.approx(1)
    for metric in (metrics.min_dcf, metrics.act_dcf, metrics.min_cllr):
        assert metric(LABELS, LABELS) == pytest.approx(0, abs=1e-12)
    assert metrics.cllr(LABELS, LABELS) == pytest.approx(0, abs=1e-6)


def test_equal_costs_and_priors_make_the_dcf_an_error_rate():
    best = min(sum(point) for point in points_by_hand(LABELS, SCORES))
    assert metrics.min_dcf(LABELS, SCORES, 0.5, 1, 1) == pytest.approx(best)
    assert metrics.act_dcf(LABELS, SHARES, 0.5, 1, 1) == pytest.approx(2 * metrics.hter(LABELS, SHARES, 0.5))


@pytest.mark.parametrize("metric", [metrics.eer_rate, metrics.min_cllr, metrics.min_dcf])
@pytest.mark.parametrize("monotone", [np.exp, lambda x: 1e-20 * x, lambda x: x**3])
def test_the_best_value_depends_only_on_the_order_of_scores(metric, monotone):
    assert metric(LABELS, monotone(SCORES)) == pytest.approx(metric(LABELS, SCORES), abs=1e-12)


@pytest.mark.parametrize(
    "figure",
    [
        metrics.roc_auc,
        metrics.error_rates,
        metrics.min_dcf,
        metrics.act_dcf,
        metrics.cllr,
        metrics.min_cllr,
        lambda labels, scores: metrics.hter(labels, scores, 0.5),
    ],
)
def test_a_single_class_is_refused(figure):
    with pytest.raises(ValueError, match="both classes are needed"):
        figure([1, 1], [0.2, 0.3])


@pytest.mark.parametrize("figure", [metrics.act_dcf, metrics.cllr, metrics.log_loss])
@pytest.mark.parametrize("bad", [-0.1, 1.1])
def test_scores_that_are_not_probabilities_are_refused(figure, bad):
    with pytest.raises(ValueError, match=r"probabilities in \[0, 1\]"):
        figure([0, 1], [0.5, bad])


@pytest.mark.parametrize("costs", [(0, 1, 10), (1, 1, 10), (0.05, 0, 10), (0.05, 1, -1)])
@pytest.mark.parametrize("metric", [metrics.min_dcf, metrics.act_dcf])
def test_impossible_costs_are_refused(metric, costs):
    with pytest.raises(ValueError, match="spoof_prior"):
        metric([0, 1], [0.2, 0.3], *costs)


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([1, 1], [0.2, 0.3], "both classes"),
        ([0, 1], [0.2, np.nan], "not finite"),
        ([0, 1], [0.2], "as many labels as scores"),
        ([0, 2], [0.2, 0.3], "must be 0"),
        ([0.2, 0.9], [0.2, 0.3], "must be 0"),
        ([], [], "as many labels as scores"),
    ],
)
def test_bad_input_is_refused(labels, scores, message):
    with pytest.raises(ValueError, match=message):
        metrics.eer(labels, scores)


def mean_of(label):
    return lambda labels, scores: scores[labels == label].mean()


def width(metric, labels, scores, clusters, n=1000, **options):
    low, high = clustered_interval(metric, labels, scores, clusters, n=n, **options)
    return high - low


def test_without_names_a_mean_has_the_interval_of_independent_clips():
    error = SCORES[:200].std(ddof=1) / np.sqrt(200)
    low, high = clustered_interval(mean_of(0), LABELS, SCORES, NOBODY, n=2000)
    assert (low, high) == pytest.approx(norm.interval(0.95, SCORES[:200].mean(), error), abs=0.2 * error)
    half = width(mean_of(0), LABELS, SCORES, NOBODY, n=2000, level=0.5)
    assert half == pytest.approx(2 * norm.isf(0.25) * error, rel=0.1)


def test_quantiles_move_outwards_for_few_clusters():
    """A statistic that rises from 0 to 1 from draw to draw: its quantiles are the shares at which they are taken."""
    names, rising = np.r_[np.arange(200) % 7, np.arange(200) % 5], iter(np.linspace(0, 1, 1000))
    low, high = clustered_interval(lambda *_: next(rising), LABELS, SCORES, names, level=0.9)
    tail = norm.cdf(t.ppf(0.05, 4) * np.sqrt(5 / 4))  # Hesterberg 2015
    assert (low, high) == pytest.approx((tail, 1 - tail))


def test_an_interval_follows_from_the_seed():
    first, again, other = (clustered_interval(eer_rate, LABELS, SCORES, SPEAKERS, n=50, seed=s) for s in (1, 1, 2))
    assert first == again != other


def test_duplicates_of_clips_do_not_narrow_the_interval():
    once = clustered_interval(eer_rate, LABELS, SCORES, SPEAKERS, n=200)
    copies = np.repeat(np.arange(400), 5)
    again = clustered_interval(eer_rate, LABELS[copies], SCORES[copies], SPEAKERS[copies], n=200)
    assert again == pytest.approx(once, abs=1e-12)


def test_clips_of_a_speaker_that_score_alike_widen_the_interval():
    alike = np.random.default_rng(3).normal(size=50)[SPEAKERS] + 0.5 * SCORES
    by_speaker, by_clip = (width(eer_rate, LABELS, alike, clusters, n=500) for clusters in (SPEAKERS, NOBODY))
    assert by_speaker > 1.5 * by_clip


def error_at_one(labels, scores):
    return (np.mean(scores[labels == 0] >= 1) + np.mean(scores[labels == 1] < 1)) / 2


def test_clustered_intervals_contain_the_true_value_about_as_often_as_they_claim():
    truth, rng, hits = norm.cdf(-1), np.random.default_rng(4), 0
    names = np.repeat(np.arange(52), 7)
    labels = (names >= 26).astype(int)
    for i in range(80):
        scores = 2 * labels + np.sqrt(0.5) * (rng.normal(size=52)[names] + rng.normal(size=len(names)))
        low, high = clustered_interval(error_at_one, labels, scores, names, n=100, seed=i)
        hits += low <= truth <= high
    assert hits >= 69  # 76 expected; intervals over clips, which hold it in 3 of 4 cases, would get there 1 time in 200


def crossed(size, rng):
    """Reals, then fakes of every speaker by every system, whose scores are a speaker's part plus a system's."""
    speaker, system = (index.ravel() for index in np.indices((size, size)))
    parts = rng.normal(size=size)[speaker], rng.normal(size=size)[system]
    labels = np.repeat([0, 1], [size, size**2])
    table = pd.DataFrame(
        {"speaker": np.r_[np.arange(size), speaker], "system": [""] * size + [f"s{i}" for i in system]}
    )
    return labels, np.concatenate([rng.normal(size=size), sum(parts)]), table, [part.var() for part in parts]


def test_speaker_and_system_add_their_variances():
    labels, scores, table, variances = crossed(40, np.random.default_rng(5))
    expected = 2 * norm.ppf(0.975) * np.sqrt(sum(variances) / 39)
    assert width(mean_of(1), labels, scores, table) == pytest.approx(expected, rel=0.15)
    assert max(width(mean_of(1), labels, scores, table[column]) for column in table) < 0.85 * expected


def test_a_column_without_names_in_a_class_changes_nothing_there():
    labels, scores, table, _ = crossed(40, np.random.default_rng(6))
    alone = width(mean_of(0), labels, scores, table.speaker)
    assert width(mean_of(0), labels, scores, table) == pytest.approx(alone, rel=0.15)


def test_a_clip_without_a_name_is_a_cluster_of_its_own():
    expected = clustered_interval(eer_rate, LABELS, SCORES, np.arange(400), n=100)
    for missing in ("", None, np.nan):
        assert clustered_interval(eer_rate, LABELS, SCORES, [missing] * 400, n=100) == expected
    names = ["", "", *map(str, SPEAKERS[2:])]
    own = ["a", "b", *map(str, SPEAKERS[2:])]
    some, known = (width(mean_of(0), LABELS, SCORES, clusters) for clusters in (names, own))
    assert some == pytest.approx(known, rel=0.15)


def test_clusters_may_come_as_names_or_as_a_table():
    columns = {"speaker": SPEAKERS, "system": [f"s{i % 9}" for i in range(400)]}
    table = pd.DataFrame(columns, index=np.arange(400) // 2)
    forms = [columns, table, table.to_numpy(), list(zip(*columns.values(), strict=True))]
    assert len({clustered_interval(eer_rate, LABELS, SCORES, form, n=50) for form in forms}) == 1
    forms = [SPEAKERS, [f"speaker {i}" for i in SPEAKERS], pd.Series(SPEAKERS, index=table.index)]
    assert len({clustered_interval(eer_rate, LABELS, SCORES, form, n=50) for form in forms}) == 1


@pytest.mark.parametrize(
    ("labels", "clusters", "message"),
    [
        ([0, 0, 1, 1], ["a", "b", "c", "c"], "two clusters"),
        ([0, 0, 1, 1], ["a", "b"], "4 names"),
        ([0, 0, 1, 1], [], "4 names"),
        ([1, 1, 1, 1], ["a", "b", "c", "d"], "both classes"),
    ],
)
def test_an_interval_needs_clusters_in_both_classes(labels, clusters, message):
    with pytest.raises(ValueError, match=message):
        clustered_interval(eer_rate, labels, [0.1, 0.2, 0.3, 0.4], clusters)
