"""The settings of the released detector, and those of the CNN that other kinds of models are compared with."""

from dataclasses import replace
from pathlib import Path

import pandas as pd

from dfa_utils.augment import CHANNELS
from dfa_utils.config import Config
from dfa_utils.train import fit

PLAIN = Config(epochs=12)  # the CNN of notebook 03
RELEASE = Config(f_max=7_500.0, mean_subtraction="band", mask_bands=8, mask_frames=20, batch_size=64, weight_decay=0.05)


def augmented(config: Config) -> Config:
    """The same settings on clips that go through CHANNELS, with SpecAugment."""
    return replace(config, augment=CHANNELS, mask_bands=config.n_mels // 10, mask_frames=20)


def fit_all_epochs(config: Config, manifest: pd.DataFrame, folder: Path) -> Path:
    """The last checkpoint of a run below `folder` without early stopping: validation does not choose the epoch."""
    run = fit(replace(config, patience=config.epochs), manifest, folder / f"{config.model}-{config.digest}")
    return run.folder / "last.safetensors"
