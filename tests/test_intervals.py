import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm, t

from dfa_utils.metrics import clustered_interval, eer_rate

rng = np.random.default_rng(0)
LABELS = np.repeat([0, 1], 200)
SCORES = np.concatenate([rng.normal(0, 1, 200), rng.normal(1, 1, 200)])
SPEAKERS = np.arange(400) // 8
NOBODY = np.full(400, "")


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


def test_the_quantiles_lie_as_far_out_as_the_fewest_clusters_ask():
    """A statistic that rises from 0 to 1 from draw to draw: its quantiles are the shares at which they are taken."""
    names, rising = np.r_[np.arange(200) % 7, np.arange(200) % 5], iter(np.linspace(0, 1, 1000))
    low, high = clustered_interval(lambda *_: next(rising), LABELS, SCORES, names, level=0.9)
    tail = norm.cdf(t.ppf(0.05, 4) * np.sqrt(5 / 4))  # Hesterberg 2015
    assert (low, high) == pytest.approx((tail, 1 - tail))


def test_an_interval_follows_from_the_seed():
    first, again, other = (clustered_interval(eer_rate, LABELS, SCORES, SPEAKERS, n=50, seed=s) for s in (1, 1, 2))
    assert first == again != other


def test_copies_of_clips_add_nothing():
    once = clustered_interval(eer_rate, LABELS, SCORES, SPEAKERS, n=200)
    copies = np.repeat(np.arange(400), 5)
    again = clustered_interval(eer_rate, LABELS[copies], SCORES[copies], SPEAKERS[copies], n=200)
    assert again == pytest.approx(once, abs=1e-12)


def test_clips_that_sound_alike_widen_the_interval():
    alike = np.random.default_rng(3).normal(size=50)[SPEAKERS] + 0.5 * SCORES
    by_speaker, by_clip = (width(eer_rate, LABELS, alike, clusters, n=500) for clusters in (SPEAKERS, NOBODY))
    assert by_speaker > 1.5 * by_clip


def error_at_one(labels, scores):
    return (np.mean(scores[labels == 0] >= 1) + np.mean(scores[labels == 1] < 1)) / 2


def test_clustered_intervals_cover_the_truth_about_as_often_as_they_say():
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
def test_what_has_no_interval_is_refused(labels, clusters, message):
    with pytest.raises(ValueError, match=message):
        clustered_interval(eer_rate, labels, [0.1, 0.2, 0.3, 0.4], clusters)
