"""Figures of merit. `labels` are 0 (real) or 1 (fake); `scores` are P(fake) or any number that rises with it.

A clip is called fake when `score >= threshold`. Every function takes labels [N] and scores [N] and raises ValueError
for lengths that differ, scores that are not finite and, where both classes are needed, for a single class.
scikit-learn does the counting.
"""

from collections.abc import Callable

import numpy as np


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
    return float(cross_entropy(labels, np.clip(scores, 1e-7, 1 - 1e-7), labels=[0, 1]))


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
    from sklearn.metrics import roc_curve

    labels, scores = _checked(labels, scores, both=True)
    false_alarm, hit, threshold = roc_curve(labels, scores, drop_intermediate=False)
    return false_alarm, 1 - hit, threshold


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


def hter(labels, scores, threshold: float) -> float:
    """Half total error rate in [0, 1]: the mean of false alarm and miss rate at a threshold fixed elsewhere."""
    labels, scores = _checked(labels, scores, both=True)
    fake = scores >= threshold
    return float((fake[labels == 0].mean() + (~fake)[labels == 1].mean()) / 2)


def bootstrap_interval(
    metric: Callable, labels, scores, n: int = 1000, level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of `metric(labels, scores)`, by drawing clips within each class.

    It takes clips for independent: where several clips share a speaker or a recording it is too narrow.
    """
    labels, scores = _checked(labels, scores, both=True)
    rng = np.random.default_rng(seed)
    classes = [np.flatnonzero(labels == label) for label in (0, 1)]
    draws = (np.concatenate([rng.choice(rows, len(rows)) for rows in classes]) for _ in range(n))
    values = [metric(labels[rows], scores[rows]) for rows in draws]
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _checked(labels, scores, both: bool = False) -> tuple[np.ndarray, np.ndarray]:
    labels, scores = np.asarray(labels).astype(int), np.asarray(scores, dtype=float)
    if labels.ndim != 1 or labels.shape != scores.shape or not len(labels):
        raise ValueError(f"labels and scores must be two lists of one length, got {labels.shape} and {scores.shape}")
    if not np.isin(labels, (0, 1)).all():
        raise ValueError(f"labels must be 0 (real) or 1 (fake), got {np.unique(labels)}")
    if not np.isfinite(scores).all():
        raise ValueError(f"{np.count_nonzero(~np.isfinite(scores))} of {len(scores)} scores are not finite")
    if both and len(np.unique(labels)) < 2:
        raise ValueError(f"both classes are needed, but every label is {labels[0]}")
    return labels, scores
