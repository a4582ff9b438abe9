"""How far a detector's judgement moves when the sound is damaged: noise, MP3, narrow bands, rooms, level."""

import zlib
from collections.abc import Iterable
from functools import partial
from itertools import product

import numpy as np
import pandas as pd
import torch

from dfa_utils import metrics
from dfa_utils.audio import AudioError
from dfa_utils.datasets.cache import open_clip
from dfa_utils.effects.corruptions import CORRUPTIONS, corrupt
from dfa_utils.evaluation import eer_interval
from dfa_utils.inference import Detector, Prediction
from dfa_utils.support.lookup import find_entry
from dfa_utils.support.parallel import map_in_threads

CLEAN = ("clean", np.nan)  # the condition that changes nothing
UNDECIDED = 0.5  # what a clip counts as when its corruption leaves silence, in which there is nothing to judge


def robustness(
    detector: Detector, manifest: pd.DataFrame, names: Iterable[str] | None = None, seed: int = 0
) -> pd.DataFrame:
    """One row for the clean clips and one a corruption (None: all of CORRUPTIONS) and level.

    Columns: corruption, level, unit; eer, eer_low, eer_high (`evaluation.eer_interval`); hter at the detector's own
    threshold; shift and shift_95, the mean and 95th percentile of |score - clean score|; clips, and how many of them
    were left silent: those score 0.5. Error rates and shifts lie in [0, 1]. Raises ValueError for an unknown name,
    AudioError for a clip that cannot be used; holds up to 1,024 clips in memory.
    """
    conditions = conditions_of(names)
    scores = score_conditions(detector, manifest.path, conditions, seed)  # [conditions, N]
    if np.isnan(scores[0]).any():
        raise AudioError(f"{manifest.path.iloc[int(np.isnan(scores[0]).argmax())]}: silent; leave it out", "silent")
    rows = [
        {"corruption": name, "level": level, "unit": CORRUPTIONS[name].unit if name in CORRUPTIONS else ""}
        | _figures(manifest, scores[0], row, detector.threshold)
        for (name, level), row in zip(conditions, scores, strict=True)
    ]
    return pd.DataFrame(rows)


def conditions_of(names: Iterable[str] | None = None) -> list[tuple[str, float]]:
    """(name, level) of the clean condition and of each corruption's levels, from mild to severe."""
    chosen = CORRUPTIONS if names is None else names
    return [CLEAN, *((name, level) for name in chosen for level in find_entry(CORRUPTIONS, name, "corruption").levels)]


def score_conditions(
    detector: Detector, paths: pd.Series, conditions: list[tuple[str, float]], seed: int = 0
) -> np.ndarray:
    """P(fake) of each clip under each condition, [conditions, N]; NaN for one that is silent then.

    What is random follows from (seed, name, level, the clip's place in `paths`). Raises AudioError, naming it, for a
    clip that cannot be read.
    """
    work = list(product(conditions, range(len(paths))))
    version = partial(_version, paths=paths.tolist(), sample_rate=detector.model.config.sample_rate, seed=seed)
    clips = (("clip", [clip]) for clip in map_in_threads(version, work, "corrupting and scoring"))
    scores = [score_of(result) for _, result in detector.judge(clips)]
    return np.array(scores).reshape(len(conditions), -1)


def score_of(result: Prediction | AudioError) -> float:
    """P(fake); NaN for a clip that is silent, and any other error is raised."""
    if not isinstance(result, AudioError):
        return result.score
    if result.kind != "silent":
        raise result
    return np.nan


def _version(task: tuple[tuple[str, float], int], paths: list[str], sample_rate: int, seed: int) -> torch.Tensor:
    """The clip [T] at one place, under one condition."""
    (name, level), place = task
    clip = open_clip(paths[place], sample_rate)
    if name == CLEAN[0]:
        return clip
    generator = np.random.default_rng((seed, zlib.crc32(f"{name} {float(level)}".encode()), place))
    return corrupt(clip, name, level, sample_rate, generator)


def _figures(manifest: pd.DataFrame, clean: np.ndarray, scores: np.ndarray, threshold: float) -> dict[str, float]:
    silent, labels = np.isnan(scores), manifest.label.to_numpy()
    scores = np.where(silent, UNDECIDED, scores)
    shift = np.abs(scores - clean)
    low, high = eer_interval(manifest.assign(score=scores))
    return {
        "eer": metrics.eer_rate(labels, scores),
        "eer_low": low,
        "eer_high": high,
        "hter": metrics.hter(labels, scores, threshold),
        "shift": shift.mean(),
        "shift_95": np.quantile(shift, 0.95),
        "clips": len(scores),
        "silent": silent.sum(),
    }
