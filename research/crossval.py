"""Folds for choosing models: each clip is scored by a detector that never heard its system or its speaker."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.model_selection import GroupKFold

from dfa_utils.config import Config
from dfa_utils.train import fit


def family_of(system: str) -> str:
    """The family of systems that leave the same trace: the vocoder after the last "+", without a mode such as "-VC"."""
    return system.split("+")[-1].removesuffix("-VC")


def make_folds(manifest: pd.DataFrame, folds: int = 3, page: str | None = None) -> pd.Series:
    """A fold number for each clip: whole families of systems (fakes) and whole speakers (reals), in folds of like size.

    With `page`, a column with the source of a clip, whole pages go to a fold, both classes together: then the detector
    has not heard the recording channel either. A clip whose system, speaker or page is not named is a group of its own.
    Raises ValueError for fewer families or speakers, or pages, than folds, and for fewer than two folds.
    """
    fake = (manifest.label == 1).to_numpy()
    names = manifest[page] if page else np.where(fake, manifest.system.map(family_of), manifest.speaker)
    groups = np.where(names == "", manifest.path, names)  # [N]
    numbers = np.zeros(len(manifest), dtype=int)
    parts = {"pages": fake | ~fake} if page else {"speakers": ~fake, "families of systems": fake}
    for kind, rows in parts.items():
        numbers[rows] = _share_out(groups[rows], folds, kind)
    return pd.Series(numbers, manifest.index)


def left_in(manifest: pd.DataFrame, numbers: pd.Series, fold: int) -> pd.DataFrame:
    """The clips to train on for one fold, without its clips, families and speakers, where they are named.

    Raises ValueError where nothing of a class is left, for instance if every system speaks with every voice.
    """
    out, families = numbers == fold, manifest.system.map(family_of)
    heard = manifest.speaker.isin(set(manifest.speaker[out]) - {""})
    known = families.isin(set(families[out & (manifest.label == 1)]) - {""}) & (manifest.label == 1)
    left = manifest[~(out | heard | known)]
    if left.label.nunique() < 2:
        raise ValueError(f"fold {fold}: its speakers and systems leave no clip of a class to train on; use more folds")
    return left


def fit_all_epochs(config: Config, manifest: pd.DataFrame, folder: Path) -> Path:
    """The last checkpoint of a run below `folder` without early stopping: validation does not choose the epoch."""
    run = fit(replace(config, patience=config.epochs), manifest, folder / f"{config.model}-{config.digest}")
    return run.folder / "last.safetensors"


def _share_out(groups: np.ndarray, folds: int, kind: str) -> np.ndarray:
    """The fold of each clip [N], by scikit-learn's GroupKFold."""
    known = len(np.unique(groups))
    if folds < 2 or known < folds:
        raise ValueError(f"cannot make {folds} folds of {known} {kind}; it needs two folds or more, none of them empty")
    numbers = np.zeros(len(groups), dtype=int)
    for fold, (_, unheard) in enumerate(GroupKFold(folds).split(groups, groups=groups)):
        numbers[unheard] = fold
    return numbers
