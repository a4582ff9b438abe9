"""Figures of merit. `labels` are 0 (real) or 1 (fake); `scores` are P(fake) or any number that rises with it.

A clip is called fake when `score >= threshold`. Every function takes labels [N] and scores [N] and raises ValueError
for lengths that differ, scores that are not finite and, where both classes are needed, for a single class.

Three kinds of function: figures at a threshold, figures over all thresholds (EER, AUC, minDCF, minCllr) and figures of
scores that are probabilities (actDCF, Cllr, reliability), which refuse scores outside [0, 1]. P(fake) is read under
equal priors: 0.5 favours neither class, however many clips each has. Then come the intervals around any of them.
"""

from collections.abc import Callable

import numpy as np

FLOOR = 1e-7  # least probability a score is taken to mean, so that one sure mistake costs 23 bits and not infinity


def accuracy(labels, scores, threshold: float = 0.5) -> float:
    """Share of clips called rightly, in [0, 1]."""
    labels, scores = _checked(labels, scores)
    return float(np.mean(labels == (scores >= threshold)))


def balanced_accuracy(labels, scores, threshold: float = 0.5) -> float:
    """Mean of the two classes' accuracies, in [0, 1]; 0.5 is chance whatever the class sizes."""
    return 1 - hter(labels, scores, threshold)


def f1(labels, scores, threshold: float = 0.5) -> float:
    """F1 of the class fake, in [0, 1]: the harmonic mean of its precision and recall."""
    from sklearn.metrics import f1_score

    labels, scores = _checked(labels, scores)
    return float(f1_score(labels, scores >= threshold, zero_division=0.0))


def log_loss(labels, scores) -> float:
    """Mean cross-entropy in nats of scores that are probabilities; ln 2 = 0.69 is what a coin gets."""
    from sklearn.metrics import log_loss as cross_entropy

    labels, scores = _checked(labels, scores)
    return float(cross_entropy(labels, np.clip(scores, FLOOR, 1 - FLOOR), labels=[0, 1]))


def confusion(labels, scores, threshold: float = 0.5) -> np.ndarray:
    """Counts [2, 2]: row = truth, column = verdict, in the order real, fake."""
    from sklearn.metrics import confusion_matrix

    labels, scores = _checked(labels, scores)
    return confusion_matrix(labels, scores >= threshold, labels=[0, 1])


def roc_auc(labels, scores) -> float:
    """Chance that a random fake scores above a random real; 0.5 = coin, 1 = perfect."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(*_checked(labels, scores, both=True)))


def error_rates(labels, scores) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every operating point: false alarm rate (reals called fake), miss rate (fakes called real), threshold.

    The thresholds fall, from infinity (nothing is called fake) to the lowest score (everything is).
    """
    labels, scores = _checked(labels, scores, both=True)
    order = np.argsort(-scores, kind="stable")
    falling = scores[order]
    last = np.append(np.flatnonzero(np.diff(falling)), len(falling) - 1)  # of the clips that share a score
    hits = np.cumsum(labels[order])[last]
    alarms = last + 1 - hits
    false_alarm, hit = (np.concatenate([[0], counts / counts[-1]]) for counts in (alarms, hits))
    return false_alarm, 1 - hit, np.concatenate([[np.inf], falling[last]])


def eer(labels, scores) -> tuple[float, float]:
    """Equal error rate in [0, 1] and a threshold at which the two error rates come closest.

    The rate is read off the straight line between the two operating points around the crossing; the threshold lies
    midway between the two neighbouring scores.
    """
    false_alarm, miss, threshold = error_rates(labels, scores)
    threshold[0] = threshold[1]  # infinity would be no threshold to work with
    gap = miss - false_alarm
    after = int(np.argmax(gap <= 0))
    share = gap[after - 1] / (gap[after - 1] - gap[after])
    rate = false_alarm[after - 1] + share * (false_alarm[after] - false_alarm[after - 1])
    closest = int(np.argmin(np.abs(gap)))
    return float(rate), float(threshold[closest : closest + 2].mean())


def eer_rate(labels, scores) -> float:
    """The equal error rate alone, in [0, 1]: what the intervals below are drawn of."""
    return eer(labels, scores)[0]


def hter(labels, scores, threshold: float) -> float:
    """Half total error rate in [0, 1]: the mean of false alarm and miss rate at a threshold fixed elsewhere."""
    labels, scores = _checked(labels, scores, both=True)
    fake = scores >= threshold
    return float((fake[labels == 0].mean() + (~fake)[labels == 1].mean()) / 2)


def bona_fide_llr(scores) -> np.ndarray:
    """Log-likelihood ratios for bona fide [N], natural logarithm, of scores [N] = P(fake) under equal priors.

    The one place where the direction turns: the literature's scores, and these, rise with bona fide. Probabilities
    below FLOOR or above 1 - FLOOR count as these, so that all ratios are finite. Raises ValueError for scores outside
    [0, 1].
    """
    scores = _probabilities(scores).clip(FLOOR, 1 - FLOOR)
    return np.log1p(-scores) - np.log(scores)


def min_dcf(labels, scores, spoof_prior: float = 0.05, reject_cost: float = 1, accept_cost: float = 10) -> float:
    """Normalised detection cost at the best threshold there is, in [0, 1]; 1 is what a blind decision costs.

    The costs are those of ASVspoof 5 (Wang et al. 2024, "ASVspoof 5: crowdsourced speech data, deepfakes, and
    adversarial attacks at scale"): one clip in twenty is a spoof, to reject a bona fide clip ("miss" there) costs 1, to
    accept a spoof ("false alarm" there) costs 10. Divided by the cost of the better blind decision. Scores may be any
    numbers that rise with P(fake); the threshold is chosen on the very clips, so it flatters.
    """
    reject_all, accept_all = _blind_costs(spoof_prior, reject_cost, accept_cost)
    rejected, missed, _ = error_rates(labels, scores)
    return float((reject_all * rejected + accept_all * missed).min() / min(reject_all, accept_all))


def act_dcf(labels, scores, spoof_prior: float = 0.05, reject_cost: float = 1, accept_cost: float = 10) -> float:
    """Normalised detection cost of `min_dcf`, but at the threshold that theory sets: scores are taken at their word.

    A clip is accepted when its `bona_fide_llr` reaches the Bayes threshold: for the costs of ASVspoof 5 when P(fake)
    <= 0.655. Never below `min_dcf`, and above 1 where the scores do worse than no scores. Raises ValueError for scores
    outside [0, 1].
    """
    labels, scores = _checked(labels, scores, both=True)
    reject_all, accept_all = _blind_costs(spoof_prior, reject_cost, accept_cost)
    accepted = bona_fide_llr(scores) >= np.log(accept_all / reject_all)
    rejected, missed = (~accepted)[labels == 0].mean(), accepted[labels == 1].mean()
    return float((reject_all * rejected + accept_all * missed) / min(reject_all, accept_all))


def cllr(labels, scores) -> float:
    """Cost of the log-likelihood ratios in bits (Bruemmer and du Preez 2006); 0 = sure and right, 1 = says nothing.

    The mean of the two classes' costs, so their sizes do not matter; above 1 the scores mislead. Raises ValueError for
    scores outside [0, 1].
    """
    labels, scores = _checked(labels, scores, both=True)
    return _bits(labels, bona_fide_llr(scores))


def min_cllr(labels, scores) -> float:
    """The `cllr` in bits, in [0, 1], that the best calibration would leave: what is lost for lack of telling apart.

    Best of all maps that keep the order, found on the very clips by pooling adjacent violators (Bruemmer and du Preez
    2006); equal scores stay equal, and ratios may be infinite where one class is alone. Scores may be any numbers.
    """
    from sklearn.isotonic import IsotonicRegression

    labels, scores = _checked(labels, scores, both=True)
    rank = np.unique(scores, return_inverse=True)[1]  # scores themselves would count as equal if 1e-15 apart
    posterior = IsotonicRegression().fit_transform(rank, labels)
    with np.errstate(divide="ignore"):
        return _bits(labels, np.log(1 - posterior) - np.log(posterior) + np.log(labels.mean() / (1 - labels.mean())))


def reliability(labels, scores, bins: int = 10, balanced: bool = False):
    """Table of a reliability diagram: a row for each non-empty one of `bins` equal bins of the scores in [0, 1].

    Columns: `score` (mean score), `fakes` (share of fakes), `count` (clips), `weight` (share of all clips); well
    calibrated scores have `fakes` close to `score`. The share of fakes moves with the class sizes: `balanced` weighs
    the classes alike, as P(fake) under equal priors wants it where they differ. Raises ValueError for scores outside
    [0, 1].
    """
    import pandas as pd

    labels, scores = _checked(labels, scores, both=True)
    place = np.minimum((_probabilities(scores) * bins).astype(int), bins - 1)
    weights = 1 / np.bincount(labels)[labels] if balanced else np.ones(len(labels))
    clips = pd.DataFrame({"score": weights * scores, "fakes": weights * labels, "weight": weights, "count": 1})
    sums = clips.groupby(place).sum().reset_index(drop=True)
    means = {column: sums[column] / sums.weight for column in ("score", "fakes")}
    return sums.assign(**means, weight=sums.weight / sums.weight.sum())[["score", "fakes", "count", "weight"]]


def expected_calibration_error(labels, scores, bins: int = 10, balanced: bool = False) -> float:
    """Mean distance of score and share of fakes over the bins of `reliability`, by weight, in [0, 1]; 0 is best.

    With few clips a bin it is above 0 by chance alone (Guo et al. 2017, "On calibration of modern neural networks").
    """
    table = reliability(labels, scores, bins, balanced)
    return float(np.sum(table.weight * np.abs(table.score - table.fakes)))


def bootstrap_interval(
    metric: Callable, labels, scores, n: int = 1000, level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of `metric(labels, scores)`, by drawing clips within each class.

    It takes clips for independent: where several clips share a speaker or a recording it is too narrow,
    and `clustered_interval` is the one to take.
    """
    labels, scores = _checked(labels, scores, both=True)
    rng = np.random.default_rng(seed)
    classes = [np.flatnonzero(labels == label) for label in (0, 1)]
    draws = (np.concatenate([rng.choice(rows, len(rows)) for rows in classes]) for _ in range(n))
    values = [metric(labels[rows], scores[rows]) for rows in draws]
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def clustered_interval(
    metric: Callable, labels, scores, clusters, n: int = 1000, level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Bootstrap interval of `metric(labels, scores)` for clips that come in clusters: speakers, sources, sessions.

    `clusters` are names [N], or several columns of them: a table [N, k], or a list or dict of k columns. Whole clusters
    are drawn, in each class on its own. With several columns, such as speaker and system, each is drawn on its own and
    a clip counts as often as the product of its clusters' draws (pigeonhole bootstrap, Owen 2007). An empty or missing
    name is unknown: such a clip is a cluster of its own. In each class, columns without a name, and columns with one
    cluster alone, are left out: the interval then speaks of that one cluster, say that one system, only.

    The interval is the expanded percentile one (Hesterberg 2015, "What teachers should know about the bootstrap"): its
    quantiles lie further out, by Student's t and sqrt(k / (k - 1)), k being the fewest clusters of any column and
    class. At 26 clusters a class of 7 clips and intra-class correlations of 0.3 and 0.5, 95 % intervals of the EER hold
    the truth in 96 and 95 % of cases, those of `bootstrap_interval` in 87 and 78 % (tests/benchmarks/coverage.py). In
    trials of that kind plain percentiles held it in 94 and 93 %, BCa in 93 and 92 %. With six clusters a class (91 %)
    it is still too narrow.

    Conservative: with k columns, what differs from clip to clip counts up to 2 ** k - 1 times, and so does what columns
    share that lie within one another; a clip that is unknown in one column of several; and a speaker with clips in both
    classes who raises the scores of both. Too narrow: for speakers in both classes whose reals and fakes are hard
    together. Raises ValueError where a class has one cluster, or where the columns are not
    N long.
    """
    labels, scores = _checked(labels, scores, both=True)
    return _interval(lambda rows: metric(labels[rows], scores[rows]), labels, clusters, n, level, seed)


def paired_difference(
    metric: Callable, labels, scores_a, scores_b, clusters=None, n: int = 1000, level: float = 0.95, seed: int = 0
) -> tuple[float, float, float]:
    """How much `metric` of system a is above that of b on the same clips: difference, low, high.

    The interval is that of `clustered_interval`, each draw the same for both systems; without `clusters` every clip is
    one of its own. Where it leaves out 0, the systems differ by more than chance.
    """
    labels, a = _checked(labels, scores_a, both=True)
    b = _checked(labels, scores_b)[1]
    clusters = np.full(len(labels), "") if clusters is None else clusters

    def difference(rows) -> float:
        """Of the two systems on these rows."""
        return metric(labels[rows], a[rows]) - metric(labels[rows], b[rows])

    return float(difference(slice(None))), *_interval(difference, labels, clusters, n, level, seed)


def _blind_costs(spoof_prior: float, reject_cost: float, accept_cost: float) -> tuple[float, float]:
    """Cost of rejecting every clip, and of accepting every clip."""
    if not 0 < spoof_prior < 1 or min(reject_cost, accept_cost) <= 0:
        raise ValueError(f"need 0 < spoof_prior < 1 and costs > 0, got {spoof_prior}, {reject_cost}, {accept_cost}")
    return reject_cost * (1 - spoof_prior), accept_cost * spoof_prior


def _bits(labels: np.ndarray, llr: np.ndarray) -> float:
    """Cllr of log-likelihood ratios [N] for bona fide."""
    real, fake = np.logaddexp(0, -llr[labels == 0]), np.logaddexp(0, llr[labels == 1])
    return float((real.mean() + fake.mean()) / 2 / np.log(2))


def _interval(statistic: Callable, labels, clusters, n: int, level: float, seed: int) -> tuple[float, float]:
    """Expanded percentile interval of `statistic(rows)` over draws of clusters."""
    from scipy.stats import norm, t

    table = _table(clusters, len(labels))
    classes = [(np.flatnonzero(labels == label), _factors(table[labels == label])) for label in (0, 1)]
    fewest = min(codes.max() + 1 for _, factors in classes for codes in factors)
    tail = norm.cdf(t.ppf((1 - level) / 2, fewest - 1) * np.sqrt(fewest / (fewest - 1)))
    rng = np.random.default_rng(seed)
    values = [statistic(np.concatenate([_draw(*part, rng) for part in classes])) for _ in range(n)]
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def _table(clusters, count: int):
    """The names of clusters as a table [count, k] of words, missing ones empty."""
    import pandas as pd

    table = pd.DataFrame(clusters).astype(object)
    table = table if len(table) == count else table.T
    if len(table) != count or table.empty:
        raise ValueError(f"clusters must be {count} names, or columns of as many, got a table {table.T.shape}")
    return table.where(table.notna(), "").astype(str)


def _factors(table) -> list[np.ndarray]:
    """For each column that tells the clips of a class apart, their clusters' numbers from 0."""
    named = table.loc[:, (table != "").any().to_numpy()]
    named = named if named.shape[1] else table.iloc[:, :1]
    factors = [codes for _, names in named.items() if (codes := _numbers(names)).max() > 0]
    if not factors:
        raise ValueError(f"an interval needs two clusters in each class, but all {len(table)} clips of one are of one")
    return factors


def _numbers(names) -> np.ndarray:
    """Numbers from 0 for names: equal ones share a number, every empty one has its own."""
    codes = names.mask(names == "").factorize()[0]
    unknown = codes < 0
    codes[unknown] = codes.max() + 1 + np.arange(unknown.sum())
    return codes


def _draw(rows: np.ndarray, factors: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Rows, each as often as the product of its clusters' draws; drawn anew where none is left."""
    counts = np.ones(len(rows), dtype=int)
    for codes in factors:
        size = codes.max() + 1
        counts *= np.bincount(rng.integers(size, size=size), minlength=size)[codes]
    return np.repeat(rows, counts) if counts.any() else _draw(rows, factors, rng)


def _probabilities(scores) -> np.ndarray:
    scores = np.asarray(scores, dtype=float)
    if not ((scores >= 0) & (scores <= 1)).all():
        raise ValueError(f"scores must be probabilities in [0, 1], got {scores.min():.3g} to {scores.max():.3g}")
    return scores


def _checked(labels, scores, both: bool = False) -> tuple[np.ndarray, np.ndarray]:
    labels, scores = np.asarray(labels).astype(int), np.asarray(scores, dtype=float)
    if labels.ndim != 1 or labels.shape != scores.shape or not len(labels):
        raise ValueError(f"labels and scores must be two lists of one length, got {labels.shape} and {scores.shape}")
    if labels.min() < 0 or labels.max() > 1:
        raise ValueError(f"labels must be 0 (real) or 1 (fake), got {np.unique(labels)}")
    if not np.isfinite(scores).all():
        raise ValueError(f"{np.count_nonzero(~np.isfinite(scores))} of {len(scores)} scores are not finite")
    if both and labels.min() == labels.max():
        raise ValueError(f"both classes are needed, but every label is {labels[0]}")
    return labels, scores
