"""From a score to a calibrated probability, a threshold, and the band in which the answer is "uncertain".

All are fixed on the validation split and stored in the checkpoint; no other split has any influence on them.
"""

import math

import numpy as np
from scipy import special

from dfa_utils import metrics
from dfa_utils.inference import Detector

DOUBT = 0.1  # share of fakes that may be called real, and of real clips that may be called fake
EDGE = 1e-6  # probabilities are clipped this far from 0 and 1, where the logit is infinite


def calibrate(detector: Detector, labels, scores) -> Detector:
    """The detector with calibrated scores, the threshold of the EER, and an uncertain band; see `calibrated`."""
    return Detector(detector.model, detector.info | calibrated(detector, labels, scores), detector.speech)


def calibrated(detector: Detector, labels, scores) -> dict:
    """What a checkpoint's info says of a calibrated detector: "calibration", "threshold" and "uncertain".

    `scores` [N] are its own P(fake), one per recording, on clips that it was not trained on; they and the `labels` fix
    all three. A recording's mean logit is calibrated, not its windows' logits (see `Detector`), so length by itself
    does not change the probability. Raises ValueError as `fit_calibration` and `uncertain_band` do.
    """
    slope, offset = fit_calibration(labels, scores)
    before_slope, before_offset = detector.calibration
    scores = apply_calibration(scores, slope, offset)
    threshold = metrics.eer(labels, scores)[1]
    return {
        "calibration": [before_slope * slope, before_offset * slope + offset],
        "threshold": threshold,
        "uncertain": list(uncertain_band(labels, scores, threshold)),
    }


def fit_calibration(labels, scores) -> tuple[float, float]:
    """Slope and offset that turn the logits of scores P(fake) [N] into calibrated ones, for equally likely classes.

    Logistic regression with classes of equal weight (Platt 1999; for detectors: Brümmer and du Preez 2006). Like Platt,
    it takes the label of one of n clips of a class to be right with probability (n + 1) / (n + 2), not 1. So a few
    clips do not make a detector sure, even where it separates them without an error. Raises ValueError unless both
    classes are there, and where fakes do not score higher than real clips.
    """
    from sklearn.linear_model import LogisticRegression  # which takes a second to import

    labels, scores = metrics.checked(labels, scores, both=True)
    n = np.bincount(labels)[labels]  # clips of each one's class
    right, wrong = (n + 1) / (n + 2) / n, 1 / (n + 2) / n  # weights [N] of each label, and of its opposite
    data = np.tile(logit(scores), 2)[:, None], np.concatenate([labels, 1 - labels]), np.concatenate([right, wrong])
    fitted = LogisticRegression(C=np.inf).fit(*data)
    if fitted.coef_[0, 0] <= 0:
        raise ValueError("fakes do not score higher than real clips, so there is nothing to calibrate")
    return float(fitted.coef_[0, 0]), float(fitted.intercept_[0])


def apply_calibration(scores, slope: float, offset: float) -> np.ndarray:
    """Scores P(fake) [N] after `slope` and `offset` on their logits."""
    return special.expit(slope * logit(scores) + offset)


def uncertain_band(labels, scores, threshold: float, doubt: float = DOUBT) -> tuple[float, float]:
    """The bounds (low, high) between which a score P(fake) says neither real nor fake, around the threshold.

    A new fake like these scores below `low` with a probability of at most `doubt`; a new real clip scores above `high`
    with the same. Of n fakes, `low` is the floor((n + 1) * doubt)-th from below (class-conditional conformal
    prediction, Vovk 2012); of 9 clips, the fewest that 10 % allow, it is the lowest. This is the chance that a fake is
    called real, not that the answer "real" is wrong. Where the classes are separated better than that, the band is
    empty: both bounds are the threshold. Raises ValueError for a class with fewer than 1 / doubt - 1 clips, which can
    promise nothing.
    """
    labels, scores = np.asarray(labels), np.asarray(scores, dtype=float)
    fakes, reals = np.sort(scores[labels == 1]), np.sort(scores[labels == 0])[::-1]
    below, above = (math.floor((len(part) + 1) * doubt + 1e-9) for part in (fakes, reals))
    if min(below, above) < 1:
        raise ValueError(
            f"{len(reals)} real and {len(fakes)} fake clips are too few to keep errors below {doubt:.0%}; calibrate on "
            f"{math.ceil(1 / doubt - 1)} or more of each class"
        )
    return min(float(fakes[below - 1]), threshold), max(float(reals[above - 1]), threshold)


def logit(scores) -> np.ndarray:
    """log(p / (1 - p)) of scores P(fake), kept away from 0 and 1."""
    return special.logit(np.clip(np.asarray(scores, dtype=float), EDGE, 1 - EDGE))
