"""How far cues tell the classes apart: the AUC of each alone, and of all of them together."""

import numpy as np
import pandas as pd

from dfa_utils.datasets.cues import NUISANCE, SPECTRAL
from dfa_utils.datasets.layouts import SPLITS


def probe(clips: pd.DataFrame) -> pd.DataFrame:
    """How well each cue alone, and each group of cues by logistic regression, separates the classes: AUC by split.

    `clips` are rows of `cues.measure_clip` with split and label. Direction and regression are fitted on training, where
    the AUC of one cue is thus at least 0.5, and read on validation and testing; `low` and `high` bound the interval on
    training, which holds for all nuisance cues at once in 95 % of cases (regression: the 95 % interval on validation,
    since on training it knows the answers). NaN where a split lacks a class.
    """
    rows = {name: _one_cue(clips, name) for name in [*NUISANCE, *SPECTRAL]}
    rows |= {"all nuisance cues": _together(clips, [*NUISANCE]), "all spectral cues": _together(clips, [*SPECTRAL])}
    return pd.DataFrame(rows, index=[*SPLITS, "low", "high"]).T


def cue_table(clips: pd.DataFrame) -> pd.DataFrame:
    """One row a nuisance cue, over all clips: AUC of fake against real; 0.5 = says nothing.

    `low` and `high` bound intervals that hold for all cues at once in 95 % of cases.
    """
    rows = {name: auc_interval(clips.label, clips[cue], len(NUISANCE)) for cue, name in NUISANCE.items()}
    return pd.DataFrame(rows, index=["auc", "low", "high"]).T


def auc_interval(labels, values, at_once: int = 1) -> tuple[float, float, float]:
    """AUC of fake against real and its interval, clips taken as independent (DeLong et al. 1988, by ranks).

    So wide that `at_once` such intervals hold the truth all at once in 95 % of cases (Bonferroni). NaN where a class
    has fewer than two clips.
    """
    from scipy.stats import norm, rankdata

    labels, values = np.asarray(labels), np.asarray(values, dtype=float)
    fake, real, ranks = values[labels == 1], values[labels == 0], rankdata(values)
    if min(len(fake), len(real)) < 2:
        return np.nan, np.nan, np.nan
    above = (ranks[labels == 1] - rankdata(fake)) / len(real)  # share of reals below each fake
    below = 1 - (ranks[labels == 0] - rankdata(real)) / len(fake)  # share of fakes above each real
    auc = float(above.mean())
    error = float(np.sqrt(above.var(ddof=1) / len(fake) + below.var(ddof=1) / len(real)))
    width = float(norm.isf(0.025 / at_once)) * error
    return auc, max(auc - width, 0.0), min(auc + width, 1.0)


def _one_cue(clips: pd.DataFrame, cue: str) -> dict:
    part = clips[clips.split == "training"]
    sign = -1 if auc_interval(part.label, part[cue])[0] < 0.5 else 1
    return _by_split(clips, sign * clips[cue], "training", len(NUISANCE))


def _together(clips: pd.DataFrame, cues: list[str]) -> dict:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    training = clips[clips.split == "training"]
    if training.label.nunique() < 2:
        return {}
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    model.fit(training[cues], training.label)
    return _by_split(clips, pd.Series(model.decision_function(clips[cues]), clips.index), "validation", 1)


def _by_split(clips: pd.DataFrame, values: pd.Series, of: str, at_once: int) -> dict:
    """AUC of `values` in each split, and the interval in the split `of`; NaN where a class is missing."""
    rows = {split: auc_interval(part.label, values[part.index], at_once) for split, part in clips.groupby("split")}
    _, low, high = rows.get(of, (np.nan,) * 3)
    return {split: row[0] for split, row in rows.items()} | {"low": low, "high": high}
