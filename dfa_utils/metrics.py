"""Figures of merit. `labels` are 0 (real) or 1 (fake); `scores` are P(fake) or any number that rises with it.

A clip is called fake when `score >= threshold`. Every function takes labels [N] and scores [N] and raises ValueError
for lengths that differ, scores that are not finite and, where both classes are needed, for a single class.

Three kinds of function: figures at a threshold, figures over all thresholds (AUC, EER, minDCF, minCllr) and figures of
scores that are probabilities (actDCF, Cllr), which refuse scores outside [0, 1]. P(fake) is read under equal priors:
0.5 favours neither class, however many clips each has. `dfa_utils.metrics` says how sure any of them is.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd

FLOOR = 1e-7  # least probability a score is taken to mean, so that one sure mistake costs 23 bits and not infinity


def checked(labels, scores, both: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Labels and scores as arrays [N] of int and float; the ValueErrors that every function here raises."""
    labels, scores = np.asarray(labels), np.asarray(scores, dtype=float)
    if labels.ndim != 1 or labels.shape != scores.shape or not len(labels):
        raise ValueError(f"labels and scores must be two lists of one length, got {labels.shape} and {scores.shape}")
    if not ((labels == 0) | (labels == 1)).all():
        raise ValueError(f"labels must be 0 (real) or 1 (fake), got {np.unique(labels)}")
    if not np.isfinite(scores).all():
        raise ValueError(f"{np.count_nonzero(~np.isfinite(scores))} of {len(scores)} scores are not finite")
    if both and (labels == labels[0]).all():
        raise ValueError(f"both classes are needed, but every label is {labels[0]}")
    return labels.astype(int), scores


def accuracy(labels, scores, threshold: float = 0.5) -> float:
    """Share of clips called rightly, in [0, 1]."""
    from sklearn.metrics import accuracy_score

    labels, scores = checked(labels, scores)
    return float(accuracy_score(labels, scores >= threshold))


def hter(labels, scores, threshold: float) -> float:
    """Half total error rate in [0, 1]: the mean of false alarm and miss rate at a threshold fixed elsewhere."""
    from sklearn.metrics import balanced_accuracy_score

    labels, scores = checked(labels, scores, both=True)
    return 1 - float(balanced_accuracy_score(labels, scores >= threshold))


def f1(labels, scores, threshold: float = 0.5) -> float:
    """F1 of the class fake, in [0, 1]: the harmonic mean of its precision and recall."""
    from sklearn.metrics import f1_score

    labels, scores = checked(labels, scores)
    return float(f1_score(labels, scores >= threshold, zero_division=0.0))


def confusion(labels, scores, threshold: float = 0.5) -> np.ndarray:
    """Counts [2, 2]: row = truth, column = verdict, in the order real, fake."""
    from sklearn.metrics import confusion_matrix

    labels, scores = checked(labels, scores)
    return confusion_matrix(labels, scores >= threshold, labels=[0, 1])


def log_loss(labels, scores) -> float:
    """Mean cross-entropy in nats of scores that are probabilities; ln 2 = 0.69 is what a coin gets."""
    from sklearn.metrics import log_loss as cross_entropy

    labels, scores = checked(labels, scores)
    return float(cross_entropy(labels, _probabilities(scores), labels=[0, 1]))


def roc_auc(labels, scores) -> float:
    """Chance that a random fake scores above a random real; 0.5 = coin, 1 = perfect."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(*checked(labels, scores, both=True)))


def error_rates(labels, scores) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every operating point: false alarm rate (reals called fake), miss rate (fakes called real), threshold.

    The thresholds fall, from infinity (nothing is called fake) to the lowest score (everything is).
    """
    labels, scores = checked(labels, scores, both=True)
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
    """The equal error rate alone, in [0, 1]: what intervals are drawn of."""
    return eer(labels, scores)[0]


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

    A clip is rejected from the score on at which both decisions are expected to cost the same: for the costs of
    ASVspoof 5 from P(fake) = 0.655. Never below `min_dcf`, and above 1 where the scores do worse than no scores.
    Raises ValueError for scores outside [0, 1].
    """
    labels, scores = checked(labels, scores, both=True)
    reject_all, accept_all = _blind_costs(spoof_prior, reject_cost, accept_cost)
    rejected = _probabilities(scores) >= reject_all / (reject_all + accept_all)
    cost = reject_all * rejected[labels == 0].mean() + accept_all * (~rejected)[labels == 1].mean()
    return float(cost / min(reject_all, accept_all))


def cllr(labels, scores) -> float:
    """Cost of the log-likelihood ratios in bits (Bruemmer and du Preez 2006); 0 = sure and right, 1 = says nothing.

    The mean of the two classes' cross-entropies, so their sizes do not matter; above 1 the scores mislead. Raises
    ValueError for scores outside [0, 1].
    """
    labels, scores = checked(labels, scores, both=True)
    return _bits(labels, _probabilities(scores))


def min_cllr(labels, scores) -> float:
    """The `cllr` in bits, in [0, 1], that the best calibration would leave: what is lost for lack of telling apart.

    Best of all maps that keep the order, found on the very clips by pooling adjacent violators (Bruemmer and du Preez
    2006); equal scores stay equal. Scores may be any numbers.
    """
    from sklearn.isotonic import IsotonicRegression

    labels, scores = checked(labels, scores, both=True)
    rank = np.unique(scores, return_inverse=True)[1]  # scores themselves would count as equal if 1e-15 apart
    posterior = IsotonicRegression().fit_transform(rank, labels, sample_weight=_equal_priors(labels))
    return _bits(labels, posterior)


def _blind_costs(spoof_prior: float, reject_cost: float, accept_cost: float) -> tuple[float, float]:
    """Cost of rejecting every clip, and of accepting every clip."""
    if not 0 < spoof_prior < 1 or min(reject_cost, accept_cost) <= 0:
        raise ValueError(f"need 0 < spoof_prior < 1 and costs > 0, got {spoof_prior}, {reject_cost}, {accept_cost}")
    return reject_cost * (1 - spoof_prior), accept_cost * spoof_prior


def _equal_priors(labels: np.ndarray) -> np.ndarray:
    """Weights [N] by which the two classes weigh alike."""
    return 1 / np.bincount(labels)[labels]


def _bits(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Cross-entropy in bits, each class weighing one half."""
    from sklearn.metrics import log_loss as cross_entropy

    nats = cross_entropy(labels, probabilities, sample_weight=_equal_priors(labels), labels=[0, 1])
    return float(nats / np.log(2))


def _probabilities(scores) -> np.ndarray:
    """Scores as probabilities, no surer than FLOOR allows."""
    if not ((scores >= 0) & (scores <= 1)).all():
        raise ValueError(f"scores must be probabilities in [0, 1], got {scores.min():.3g} to {scores.max():.3g}")
    return scores.clip(FLOOR, 1 - FLOOR)


def clustered_interval(
    metric: Callable, labels, scores, clusters, n: int = 1000, level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Bootstrap interval of `metric(labels, scores)` for clips that come in clusters: speakers, sources, sessions.

    `clusters` are names [N], or a table [N, k] with several columns of them. Whole clusters are drawn, in each class on
    its own. With several columns, such as speaker and system, each is drawn on its own and a clip counts as often as
    the product of its clusters' draws (pigeonhole bootstrap, Owen 2007). An empty or missing name is unknown: such a
    clip is a cluster of its own; with empty names alone, clips are taken for independent. In each class, columns
    without a name, and columns with one cluster alone, are left out: the interval then speaks of that one cluster, say
    that one system, only.

    The interval is the expanded percentile one (Hesterberg 2015, "What teachers should know about the bootstrap"): its
    quantiles lie further out, by Student's t and sqrt(k / (k - 1)), k being the fewest clusters of any column and
    class. At 26 clusters a class of 7 clips and intra-class correlations of 0.3 and 0.5, 95 % intervals of the EER hold
    the truth in 96 and 95 % of cases, those by clip in 87 and 78 % (tests/benchmarks/interval_coverage.py). In trials
    of that kind plain percentiles held it in 94 and 93 %, BCa in 93 and 92 %. With six clusters a class (91 %) it is
    still too narrow.

    Conservative: with k columns, what differs from clip to clip counts up to 2 ** k - 1 times, and so does what columns
    share that lie within one another; a clip that is unknown in one column of several; and a speaker with clips in both
    classes who raises the scores of both. Too narrow: for speakers in both classes whose reals and fakes are hard
    together. Raises ValueError where a class has one cluster, or where the names are not N.
    """
    from scipy.stats import norm, t

    labels, scores = checked(labels, scores, both=True)
    names = _names(clusters, len(labels))
    classes = [(np.flatnonzero(labels == label), _numbered(names[labels == label])) for label in (0, 1)]
    fewest = min(numbers.max() + 1 for _, columns in classes for numbers in columns)
    tail = norm.cdf(t.ppf((1 - level) / 2, fewest - 1) * np.sqrt(fewest / (fewest - 1)))
    rng = np.random.default_rng(seed)
    draws = (np.concatenate([_draw(*part, rng) for part in classes]) for _ in range(n))
    low, high = np.quantile([metric(labels[rows], scores[rows]) for rows in draws], [tail, 1 - tail])
    return float(low), float(high)


def _names(clusters, count: int) -> pd.DataFrame:
    """The names of clusters as a table [count, k] of words, missing ones empty."""
    table = pd.DataFrame(clusters).astype(object)
    if len(table) != count or table.empty:
        raise ValueError(f"clusters must be {count} names, or a table of as many rows, got {table.shape}")
    return table.where(table.notna(), "").astype(str)


def _numbered(names: pd.DataFrame) -> list[np.ndarray]:
    """For each column that tells the clips of a class apart, their clusters' numbers from 0; every "" has its own."""
    named = names.loc[:, (names != "").any().to_numpy()]
    named = named if named.shape[1] else names.iloc[:, :1]
    columns = [numbers for _, column in named.items() if (numbers := _numbers(column)).max() > 0]
    if not columns:
        raise ValueError(f"an interval needs two clusters in each class, but all {len(names)} clips of one are of one")
    return columns


def _numbers(names: pd.Series) -> np.ndarray:
    numbers = names.mask(names == "").factorize()[0]
    unknown = numbers < 0
    numbers[unknown] = numbers.max() + 1 + np.arange(unknown.sum())
    return numbers


def _draw(rows: np.ndarray, columns: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Rows, each as often as the product of its clusters' draws; drawn anew where none is left."""
    counts = np.ones(len(rows), dtype=int)
    for numbers in columns:
        size = numbers.max() + 1
        counts *= np.bincount(rng.integers(size, size=size), minlength=size)[numbers]
    return np.repeat(rows, counts) if counts.any() else _draw(rows, columns, rng)
