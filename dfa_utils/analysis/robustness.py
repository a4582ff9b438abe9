"""How far a detector's judgement moves when the sound is damaged: noise, MP3, narrow bands, rooms, level, length."""

import zlib
from collections.abc import Callable, Iterable
from functools import partial
from itertools import product

import numpy as np
import pandas as pd
import torch

from dfa_utils import metrics
from dfa_utils.audio import AudioError
from dfa_utils.datasets.cache import open_clip
from dfa_utils.effects.corruptions import CORRUPTIONS, corrupt, find_corruption
from dfa_utils.evaluate import mean_scores
from dfa_utils.models import Detecting
from dfa_utils.support.parallel import map_in_threads

CLEAN = ("clean", np.nan)  # the condition that changes nothing
UNDECIDED = 0.5  # what a clip counts as when its corruption leaves silence, in which there is nothing to judge


def robustness(
    model: Detecting,
    manifest: pd.DataFrame,
    names: Iterable[str] | None = None,
    seed: int = 0,
    threshold: float = 0.5,
    interval: Callable = metrics.bootstrap_interval,
) -> pd.DataFrame:
    """One row for the clean clips and one a corruption (None: all of CORRUPTIONS) and level.

    Columns: corruption, level, unit; eer, eer_low, eer_high; hter at `threshold`; shift and shift_95, the mean and 95th
    percentile of |score - clean score|; clips, and how many of them were left silent: those score 0.5. Error rates and
    shifts lie in [0, 1]. `interval(metric, labels, scores)` gives (low, high); the default takes clips for independent.
    Raises ValueError for an unknown name, AudioError for a clip that cannot be used; holds up to 1,024 clips in memory.
    """
    conditions = conditions_of(names)
    scores = score_conditions(model, manifest.path, conditions, seed)  # [conditions, N]
    if np.isnan(scores[0]).any():
        raise AudioError(f"{manifest.path.iloc[int(np.isnan(scores[0]).argmax())]}: silent throughout; leave it out")
    figures = partial(_figures, manifest.label.to_numpy(), scores[0], threshold=threshold, interval=interval)
    rows = [_head(*condition) | figures(row) for condition, row in zip(conditions, scores, strict=True)]
    return pd.DataFrame(rows)


def conditions_of(names: Iterable[str] | None = None) -> list[tuple[str, float]]:
    """(name, level) of the clean condition and of each corruption's levels, from mild to severe."""
    chosen = CORRUPTIONS if names is None else names
    return [CLEAN, *((name, level) for name in chosen for level in find_corruption(name).levels)]


def score_conditions(
    model: Detecting, paths: pd.Series, conditions: list[tuple[str, float]], seed: int = 0
) -> np.ndarray:
    """P(fake) of each clip under each condition, [conditions, N]; NaN for one that is silent then.

    What is random follows from (seed, name, level, the clip's place in `paths`). Raises AudioError, naming it, for a
    clip that cannot be read.
    """
    work = list(product(conditions, range(len(paths))))
    version = partial(_version, paths=paths.tolist(), sample_rate=model.config.sample_rate, seed=seed)
    clips = ([clip] for clip in map_in_threads(version, work, "corrupting and scoring"))
    return mean_scores(model, clips, len(work)).reshape(len(conditions), -1)


def _version(task: tuple[tuple[str, float], int], paths: list[str], sample_rate: int, seed: int) -> torch.Tensor:
    """The clip [T] at one place, under one condition."""
    (name, level), place = task
    clip = open_clip(paths[place], sample_rate)[:]
    if name == CLEAN[0]:
        return clip
    generator = np.random.default_rng((seed, zlib.crc32(f"{name} {float(level)}".encode()), place))
    return corrupt(clip, name, level, sample_rate, generator)


def _head(name: str, level: float) -> dict[str, str | float]:
    return {"corruption": name, "level": level, "unit": "" if name == CLEAN[0] else CORRUPTIONS[name].unit}


def _figures(labels, clean, scores, threshold: float, interval: Callable) -> dict[str, float]:
    silent = np.isnan(scores)
    scores = np.where(silent, UNDECIDED, scores)
    shift = np.abs(scores - clean)
    low, high = interval(metrics.eer_rate, labels, scores)
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
