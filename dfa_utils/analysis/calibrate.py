"""From a score to a probability that can be believed, a threshold, and the band in which the answer is `uncertain`.

All are fixed on the validation split and stored in the checkpoint; no other split has a say in them.
"""

import copy

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

from dfa_utils import metrics
from dfa_utils.models import Detecting, Ensemble

DOUBT = 0.1  # share of validation's fakes that may score below the band, and of its reals that may score above it
EDGE = 1e-6  # probabilities are kept so far from 0 and 1, where their logit has no end


def calibrate(model: Detecting, labels, scores) -> tuple[Ensemble, dict]:
    """A copy of a detector with calibrated scores, as an ensemble, and what its checkpoint's info must hold beside.

    `scores` [N] are the detector's own, P(fake), on clips that it was not trained on; they and the `labels` fix the
    calibration, `threshold` (that of the EER) and `uncertain` (the two bounds of the band). Raises ValueError unless
    both classes are there.
    """
    slope, offset = fit_calibration(labels, scores)
    model = copy.deepcopy(model if isinstance(model, Ensemble) else Ensemble([model])).eval()
    before_slope, before_offset = model.calibration.tolist()
    model.calibration.copy_(torch.tensor([before_slope * slope, before_offset * slope + offset]))
    scores = apply_calibration(scores, slope, offset)
    threshold = metrics.eer(labels, scores)[1]
    return model, {"threshold": threshold, "uncertain": uncertain_band(labels, scores, threshold)}


def fit_calibration(labels, scores) -> tuple[float, float]:
    """Slope and offset that turn the logits of scores P(fake) [N] into calibrated ones, for as many reals as fakes.

    Logistic regression with classes of equal weight (Platt 1999; for detectors: Brümmer and du Preez 2006). Raises
    ValueError unless both classes are there.
    """
    metrics.eer(labels, scores)  # which checks labels and scores
    fitted = LogisticRegression(C=np.inf, class_weight="balanced").fit(logit(scores)[:, None], np.asarray(labels))
    return float(fitted.coef_[0, 0]), float(fitted.intercept_[0])


def apply_calibration(scores, slope: float, offset: float) -> np.ndarray:
    """Scores P(fake) [N] after `slope` and `offset` on their logits."""
    return 1 / (1 + np.exp(-(slope * logit(scores) + offset)))


def uncertain_band(labels, scores, threshold: float, doubt: float = DOUBT) -> tuple[float, float]:
    """The bounds (low, high) between which a score P(fake) says neither real nor fake, around the threshold.

    A share `doubt` of the fakes scores below `low`, and of the reals at or above `high`: who hears "real" or "fake"
    outside the band is misled about that seldom (class-conditional conformal prediction, Vovk 2012). The band is empty,
    both bounds being the threshold, where the classes are told apart better than that.
    """
    labels, scores = np.asarray(labels), np.asarray(scores, dtype=float)
    low = float(np.quantile(scores[labels == 1], doubt, method="lower"))
    high = float(np.quantile(scores[labels == 0], 1 - doubt, method="higher"))
    return min(low, threshold), max(high, threshold)


def logit(scores) -> np.ndarray:
    """log(p / (1 - p)) of scores P(fake), kept away from 0 and 1."""
    p = np.clip(np.asarray(scores, dtype=float), EDGE, 1 - EDGE)
    return np.log(p / (1 - p))
