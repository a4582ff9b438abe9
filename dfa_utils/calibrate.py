"""From a score to a calibrated probability, a threshold, and the band in which the answer is "uncertain".

All are fixed on the validation split and stored in the checkpoint; no other split has any influence on them.
"""

import math

import numpy as np
from scipy import special

from dfa_utils import metrics
from dfa_utils.inference import Detector, calibrated_logit

DOUBT = 0.1  # share of fakes that may be called real, and of real clips that may be called fake
HALVES = np.append(0.0, np.geomspace(0.05, 10, 40))  # s; the candidates for the half of a calibration
EDGE = 1e-6  # probabilities are clipped this far from 0 and 1, where the logit is infinite


def calibrate(detector: Detector, labels, scores, seconds=None) -> Detector:
    """The detector with calibrated scores, the threshold of the EER, and an uncertain band; see `calibrated`."""
    return Detector(detector.model, detector.info | calibrated(detector, labels, scores, seconds), detector.speech)


def calibrated(detector: Detector, labels, scores, seconds=None) -> dict:
    """What a checkpoint's info says of a calibrated detector: "calibration", "threshold", "uncertain" and "evidence".

    `scores` [N] are its own P(fake), one per recording, on clips that it was not trained on; they and the `labels` fix
    all four. A recording's mean logit is calibrated, not its windows' logits (see `Detector`). Length changes the
    probability only where the `seconds` [N] of sound in each recording are given (`Prediction.sound`). Raises
    ValueError as `fit_calibration` and `uncertain_band` do.
    """
    labels, scores = metrics.checked(labels, scores, both=True)
    slope, offset, half = detector.calibration
    logits = (logit(scores) - offset) / slope  # without the detector's present calibration
    if seconds is not None:
        logits, half = logits * (1 + half / np.asarray(seconds)), 0.0
    slope, offset, fitted = _fit(labels, logits, seconds)
    scores = apply_calibration(special.expit(logits), slope, offset, fitted, np.inf if seconds is None else seconds)
    threshold = metrics.eer(labels, scores)[1]
    return {
        "calibration": [slope, offset, half + fitted],
        "threshold": threshold,
        "uncertain": list(uncertain_band(labels, scores, threshold)),
        "evidence": np.bincount(labels).tolist(),
    }


def fit_calibration(labels, scores, seconds=None) -> tuple[float, float, float]:
    """Slope, offset and half that turn the logits of scores P(fake) [N] into calibrated ones, for equal classes.

    See `inference.calibrated_logit`; half is 0 unless the `seconds` [N] of sound behind each score are given. Logistic
    regression with classes of equal weight (Platt 1999; for detectors: Brümmer and du Preez 2006). Like Platt, it takes
    the label of one of n clips of a class to be right with probability (n + 1) / (n + 2), not 1. So a few clips do not
    make a detector sure, even where it separates them without an error. Raises ValueError unless both classes are
    there, and where fakes do not score higher than real clips.
    """
    labels, scores = metrics.checked(labels, scores, both=True)
    return _fit(labels, logit(scores), seconds)


def _fit(labels: np.ndarray, logits: np.ndarray, seconds) -> tuple[float, float, float]:
    """Slope, offset and half for logits [N], as `fit_calibration` gives them.

    Each second of `half` must make the labels more likely by a factor of e; so where all recordings are equally long,
    and any `half` would do, it is 0.
    """
    halves, seconds = ([0.0], np.inf) if seconds is None else (HALVES, np.asarray(seconds, dtype=float))
    fits = [_regress(labels, logits / (1 + half / seconds)) for half in halves]
    best = int(np.argmin([cost + half for (_, _, cost), half in zip(fits, halves, strict=True)]))
    slope, offset, _ = fits[best]
    if slope <= 0:
        raise ValueError("fakes do not score higher than real clips, so there is nothing to calibrate")
    return slope, offset, float(halves[best])


def _regress(labels: np.ndarray, logits: np.ndarray) -> tuple[float, float, float]:
    """Slope and offset by logistic regression on logits [N], and -log of the likelihood of their labels."""
    from sklearn.linear_model import LogisticRegression  # which takes a second to import

    n = np.bincount(labels)[labels]  # clips of each one's class
    right, wrong = (n + 1) / (n + 2) / n, 1 / (n + 2) / n  # weights [N] of each label, and of its opposite
    data = np.tile(logits, 2)[:, None], np.concatenate([labels, 1 - labels]), np.concatenate([right, wrong])
    fitted = LogisticRegression(C=np.inf).fit(*data)
    likelihood = fitted.predict_log_proba(data[0])[np.arange(2 * len(labels)), data[1]]
    cost = -(data[2] @ likelihood) * len(labels) / 2  # both classes count as N / 2 clips
    return float(fitted.coef_[0, 0]), float(fitted.intercept_[0]), float(cost)


def apply_calibration(scores, slope: float, offset: float, half: float = 0.0, seconds=np.inf) -> np.ndarray:
    """Scores P(fake) [N] after `inference.calibrated_logit` on their logits; `seconds` [N] of sound are behind them."""
    return special.expit(calibrated_logit(logit(scores), seconds, slope, offset, half))


def uncertain_band(
    labels, scores, threshold: float, missed: float = DOUBT, false_positives: float = DOUBT
) -> tuple[float, float]:
    """The bounds (low, high) between which a score P(fake) says neither real nor fake, around the threshold.

    A new fake like these scores below `low` with a probability of at most `missed`; a new real clip scores above `high`
    with a probability of at most `false_positives`. Of n fakes, `low` is the floor((n + 1) * missed)-th from below
    (class-conditional conformal prediction, Vovk 2012); of 9 clips, the fewest that 10 % allow, it is the lowest. This
    is the chance that a fake is called real, not that the answer "real" is wrong. Where the classes are separated
    better than that, the band is empty: both bounds are the threshold. Raises ValueError for a class with too few clips
    to promise anything: fewer than 1 / share - 1.
    """
    labels, scores = np.asarray(labels), np.asarray(scores, dtype=float)
    fakes, reals = np.sort(scores[labels == 1]), np.sort(scores[labels == 0])[::-1]
    bounds = [_quantile(fakes, missed, "fake"), _quantile(reals, false_positives, "real")]
    return min(bounds[0], threshold), max(bounds[1], threshold)


def _quantile(ordered: np.ndarray, share: float, kind: str) -> float:
    """The score beyond which a new clip falls with a probability of at most `share`; the worst scores come first."""
    rank = math.floor((len(ordered) + 1) * share + 1e-9)
    if rank < 1:
        few = f"{len(ordered)} {kind} clips are too few to keep their errors below {share:.0%}"
        raise ValueError(f"{few}; calibrate on {math.ceil(1 / share - 1)} or more of each class")
    return float(ordered[rank - 1])


def logit(scores) -> np.ndarray:
    """log(p / (1 - p)) of scores P(fake), kept away from 0 and 1."""
    return special.logit(np.clip(np.asarray(scores, dtype=float), EDGE, 1 - EDGE))
