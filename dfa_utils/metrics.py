"""Metrics of a detector and their intervals. `labels` are 0 (real) or 1 (fake); a higher score means more likely fake.

A clip is called fake if `score >= threshold`. Every function takes labels [N] and scores [N]. It raises ValueError if
their lengths differ, if a score is not finite, and, where both classes are needed, if one is missing.

There are three kinds: metrics at one threshold (accuracy, HTER, F1), over all thresholds (AUC, EER, minDCF, minCllr),
and for scores that are probabilities (actDCF, Cllr, log loss); the last kind refuses scores outside [0, 1]. P(fake)
assumes equal priors: 0.5 favours neither class, whatever the number of clips in each. `clustered_interval` gives the
uncertainty of any metric.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd

FLOOR = 1e-7  # probabilities are clipped here, so that one confident mistake costs 23 bits, not infinity


def checked(labels, scores, both: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Labels and scores as arrays [N] of int and float; raises the ValueErrors of this module."""
    labels, scores = np.asarray(labels), np.asarray(scores, dtype=float)
    if labels.ndim != 1 or labels.shape != scores.shape or not len(labels):
        raise ValueError(f"need as many labels as scores, and at least one, got {labels.shape} and {scores.shape}")
    if not ((labels == 0) | (labels == 1)).all():
        raise ValueError(f"labels must be 0 (real) or 1 (fake), got {np.unique(labels)}")
    if not np.isfinite(scores).all():
        raise ValueError(f"{np.count_nonzero(~np.isfinite(scores))} of {len(scores)} scores are not finite")
    if both and (labels == labels[0]).all():
        raise ValueError(f"both classes are needed, but every label is {labels[0]}")
    return labels.astype(int), scores


def accuracy(labels, scores, threshold: float = 0.5) -> float:
    """Share of correct verdicts, in [0, 1]."""
    from sklearn.metrics import accuracy_score

    labels, scores = checked(labels, scores)
    return float(accuracy_score(labels, scores >= threshold))


def hter(labels, scores, threshold: float) -> float:
    """Half total error rate in [0, 1]: mean of false positive and miss rate at a threshold fixed elsewhere."""
    from sklearn.metrics import balanced_accuracy_score

    labels, scores = checked(labels, scores, both=True)
    return 1 - float(balanced_accuracy_score(labels, scores >= threshold))


def f1(labels, scores, threshold: float = 0.5) -> float:
    """F1 of the class fake, in [0, 1]: the harmonic mean of precision and recall."""
    from sklearn.metrics import f1_score

    labels, scores = checked(labels, scores)
    return float(f1_score(labels, scores >= threshold, zero_division=0.0))


def confusion(labels, scores, threshold: float = 0.5) -> np.ndarray:
    """Counts [2, 2]: row = truth, column = verdict, in the order real, fake."""
    from sklearn.metrics import confusion_matrix

    labels, scores = checked(labels, scores)
    return confusion_matrix(labels, scores >= threshold, labels=[0, 1])


def log_loss(labels, scores) -> float:
    """Mean cross-entropy in nats of scores that are probabilities; always answering 0.5 gives ln 2 = 0.69."""
    from sklearn.metrics import log_loss as cross_entropy

    labels, scores = checked(labels, scores)
    return float(cross_entropy(labels, _probabilities(scores), labels=[0, 1]))


def roc_auc(labels, scores) -> float:
    """Probability that a random fake scores higher than a random real clip; 0.5 = chance, 1 = perfect."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(*checked(labels, scores, both=True)))


def error_rates(labels, scores) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every operating point: false positive rate (real clips called fake), miss rate (fakes called real), threshold.

    Thresholds go down from infinity (nothing is called fake) to the lowest score (everything is).
    """
    labels, scores = checked(labels, scores, both=True)
    order = np.argsort(-scores, kind="stable")
    falling = scores[order]
    last = np.append(np.flatnonzero(np.diff(falling)), len(falling) - 1)  # of the clips that share a score
    hits = np.cumsum(labels[order])[last]
    false_positives = last + 1 - hits
    false_positive, hit = (np.concatenate([[0], counts / counts[-1]]) for counts in (false_positives, hits))
    return false_positive, 1 - hit, np.concatenate([[np.inf], falling[last]])


def eer(labels, scores) -> tuple[float, float]:
    """Equal error rate in [0, 1], and a threshold at which the two error rates come closest.

    The rate is interpolated between the two operating points around the crossing. The threshold is midway between the
    two neighbouring scores.
    """
    false_positive, miss, threshold = error_rates(labels, scores)
    threshold[0] = threshold[1]  # not infinity
    gap = miss - false_positive
    after = int(np.argmax(gap <= 0))
    share = gap[after - 1] / (gap[after - 1] - gap[after])
    rate = np.interp(share, [0, 1], false_positive[after - 1 : after + 1])
    closest = int(np.argmin(np.abs(gap)))
    return float(rate), float(threshold[closest : closest + 2].mean())


def eer_rate(labels, scores) -> float:
    """The equal error rate without its threshold, in [0, 1]."""
    return eer(labels, scores)[0]


def min_dcf(labels, scores, spoof_prior: float = 0.05, reject_cost: float = 1, accept_cost: float = 10) -> float:
    """Normalised detection cost at the best possible threshold, in [0, 1]; 1 is the cost of a blind decision.

    The default costs are those of ASVspoof 5 (Wang et al. 2024, "ASVspoof 5: crowdsourced speech data, deepfakes, and
    adversarial attacks at scale"): one clip in twenty is a spoof, rejecting a bona fide clip (which they call "miss")
    costs 1, and accepting a spoof ("false alarm") costs 10. The cost is divided by that of the better blind decision.
    Scores may be any numbers that rise with P(fake). The threshold is chosen on the same clips, so this is optimistic.
    """
    reject_all, accept_all = _blind_costs(spoof_prior, reject_cost, accept_cost)
    rejected, missed, _ = error_rates(labels, scores)
    return float((reject_all * rejected + accept_all * missed).min() / min(reject_all, accept_all))


def act_dcf(labels, scores, spoof_prior: float = 0.05, reject_cost: float = 1, accept_cost: float = 10) -> float:
    """The normalised detection cost of `min_dcf` at the threshold that theory sets if scores are probabilities.

    At this threshold both decisions have the same expected cost: P(fake) = 0.655 for the costs of ASVspoof 5. The
    result is never below `min_dcf`, and above 1 if the scores do worse than a blind decision. Raises ValueError for
    scores outside [0, 1].
    """
    labels, scores = checked(labels, scores, both=True)
    reject_all, accept_all = _blind_costs(spoof_prior, reject_cost, accept_cost)
    rejected = _probabilities(scores) >= reject_all / (reject_all + accept_all)
    cost = reject_all * rejected[labels == 0].mean() + accept_all * (~rejected)[labels == 1].mean()
    return float(cost / min(reject_all, accept_all))


def cllr(labels, scores) -> float:
    """Cost of log-likelihood ratios in bits (Bruemmer and du Preez 2006); 0 = certain and correct, 1 = no information.

    It is the mean of the two classes' cross-entropies, so the class sizes do not matter. Above 1 the scores mislead.
    Raises ValueError for scores outside [0, 1].
    """
    labels, scores = checked(labels, scores, both=True)
    return _bits(labels, _probabilities(scores))


def min_cllr(labels, scores) -> float:
    """The `cllr` in bits, in [0, 1], after the best possible calibration: the cost of classes that overlap.

    The calibration is the best of all monotone maps, found on the same clips by pooling adjacent violators (Bruemmer
    and du Preez 2006). Scores may be any numbers that rise with P(fake).
    """
    from sklearn.isotonic import IsotonicRegression

    labels, scores = checked(labels, scores, both=True)
    rank = np.unique(scores, return_inverse=True)[1]  # the regression would take scores 1e-15 apart for equal
    posterior = IsotonicRegression().fit_transform(rank, labels, sample_weight=_equal_priors(labels))
    return _bits(labels, posterior)


def _blind_costs(spoof_prior: float, reject_cost: float, accept_cost: float) -> tuple[float, float]:
    """Cost of rejecting every clip, and of accepting every clip."""
    if not 0 < spoof_prior < 1 or min(reject_cost, accept_cost) <= 0:
        raise ValueError(f"need 0 < spoof_prior < 1 and costs > 0, got {spoof_prior}, {reject_cost}, {accept_cost}")
    return reject_cost * (1 - spoof_prior), accept_cost * spoof_prior


def _equal_priors(labels: np.ndarray) -> np.ndarray:
    """Weights [N] that give both classes the same total."""
    return 1 / np.bincount(labels)[labels]


def _bits(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Cross-entropy in bits; each class has weight one half."""
    from sklearn.metrics import log_loss as cross_entropy

    nats = cross_entropy(labels, probabilities, sample_weight=_equal_priors(labels), labels=[0, 1])
    return float(nats / np.log(2))


def _probabilities(scores) -> np.ndarray:
    """Scores as probabilities, clipped to [FLOOR, 1 - FLOOR]."""
    if not ((scores >= 0) & (scores <= 1)).all():
        raise ValueError(f"scores must be probabilities in [0, 1], got {scores.min():.3g} to {scores.max():.3g}")
    return scores.clip(FLOOR, 1 - FLOOR)


def clustered_interval(
    metric: Callable, labels, scores, clusters, n: int = 1000, level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Bootstrap interval of `metric(labels, scores)` for clips in clusters, such as speakers, sources or sessions.

    `clusters` are names [N], or a table [N, k] with several columns of names. Whole clusters are drawn with
    replacement, separately in each class. With several columns, such as speaker and system, each column is drawn
    separately, and a clip counts as often as the product of its clusters' draws (pigeonhole bootstrap, Owen 2007). A
    clip with an empty or missing name is a cluster of its own. In each class, columns without names and columns with
    one cluster are left out; with one system, for example, the interval holds for that system only.

    The interval is the expanded percentile interval (Hesterberg 2015, "What teachers should know about the bootstrap"):
    its quantiles are further out, by Student's t and sqrt(k / (k - 1)), where k is the smallest number of clusters of
    any column and class. research/benchmarks/interval_coverage.py measures how often it contains the true value: 95
    and 96 % of cases for 26 speakers per class, where intervals by clip do so in 78 to 87 %. With six clusters per
    class it is still too narrow (91 %). It is also too narrow for speakers in both classes whose real and fake clips
    are equally hard, and too wide for several columns if the differences are between clips, not clusters. Raises
    ValueError if a class has only one cluster, or if there are not N names.
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
    """The names of clusters as a table [count, k] of text; missing names are empty."""
    table = pd.DataFrame(clusters).astype(object)
    if len(table) != count or table.empty:
        raise ValueError(f"clusters must be {count} names, or a table of as many rows, got {table.shape}")
    return table.where(table.notna(), "").astype(str)


def _numbered(names: pd.DataFrame) -> list[np.ndarray]:
    """Cluster numbers from 0 of the clips of one class, for each column with several clusters; each "" is its own."""
    named = names.loc[:, (names != "").any().to_numpy()]
    named = named if named.shape[1] else names.iloc[:, :1]
    columns = [numbers for _, column in named.items() if (numbers := _numbers(column)).max() > 0]
    if not columns:
        raise ValueError(f"an interval needs two clusters in each class, but all {len(names)} clips of one are in one")
    return columns


def _numbers(names: pd.Series) -> np.ndarray:
    numbers = names.mask(names == "").factorize()[0]
    unknown = numbers < 0
    numbers[unknown] = numbers.max() + 1 + np.arange(unknown.sum())
    return numbers


def _draw(rows: np.ndarray, columns: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Rows, each as often as the product of its clusters' draws; drawn again if none is left."""
    counts = np.ones(len(rows), dtype=int)
    for numbers in columns:
        size = numbers.max() + 1
        counts *= np.bincount(rng.integers(size, size=size), minlength=size)[numbers]
    return np.repeat(rows, counts) if counts.any() else _draw(rows, columns, rng)
