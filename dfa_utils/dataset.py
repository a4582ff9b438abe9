"""Data sets: a manifest with one row a clip, the PyTorch Dataset over it, and loaders that repeat exactly."""

import hashlib
import os
import warnings
from bisect import bisect_right
from itertools import accumulate
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from dfa_utils.audio import AudioError, fit_length
from dfa_utils.cache import open_clip
from dfa_utils.config import Config
from dfa_utils.layouts import CLASSES, LAYOUT, SPLITS, DataError, folders_in, read
from dfa_utils.support import map_in_threads
from dfa_utils.windows import find_sounds, is_silent

SHOWN = 8  # folders that an error names at most


def scan(root, check: bool = True, splits: tuple[str, ...] | None = SPLITS) -> pd.DataFrame:
    """The manifest of a data set: columns path, split, label (1 = fake), system, speaker; one row a clip.

    `root` is a CSV file, a folder with a manifest.csv, or a folder in Fake-or-Real's layout (train/val/test, upper case
    and folders around it are fine) or another that `layouts` reads; columns that only some of them have
    (codec, ...) follow. `splits` must be there with both classes; others may. Most test sets have testing alone:
    `splits=("testing",)`; None takes whatever there is, at least one split with both classes. With `check`, every file
    is decoded, and unusable ones are left out with a warning that names them. Raises DataError for what is missing: the
    folder, a split, a class, its files; and for several data sets side by side.
    """
    unknown = sorted(set(splits or ()) - set(SPLITS))
    if unknown:
        raise DataError(f"splits {unknown} are unknown; use a tuple of {', '.join(SPLITS)}")
    root = Path(root).expanduser()
    manifest = read(root)
    _refuse_gaps(manifest, root, splits)
    if check:
        manifest = _drop_unusable(manifest)
        _refuse_gaps(manifest, root, splits)
    return manifest


def find_unusable(paths) -> pd.DataFrame:
    """Decode every file; a table (path, reason) of those that are empty, damaged, silent or no audio at all."""
    paths = [str(path) for path in paths]
    reasons = map_in_threads(_why_unusable, paths, "decoding and checking")
    rows = [(path, reason) for path, reason in zip(paths, reasons, strict=True) if reason]
    return pd.DataFrame(rows, columns=["path", "reason"])


def fingerprint(manifest: pd.DataFrame) -> str:
    """12 hex digits that change with the clips' content, splits or labels, but not with the folder they lie in.

    Of each file the size and the first 64 KiB count: all of a two-second clip.
    """
    contents = map_in_threads(_digest, manifest.path, "fingerprint")
    lines = sorted("/".join(map(str, row)) for row in zip(manifest.split, manifest.label, contents, strict=True))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]


class ClipDataset(Dataset):
    """Clips of a manifest as (waveform [clip_samples] float32, label 0 or 1).

    What is cut out of a clip lies in one of its sounds (`windows.find_sounds`), as the windows do that scoring judges:
    never digital silence, whose length tells data sets apart and not voices. With `train`, the place is drawn as a
    function of (seed, epoch, index) alone, every one as likely; else it is the middle of the longest sound. What is too
    short is repeated. Raises AudioError for a file that cannot be read, or is silent throughout.
    """

    def __init__(self, manifest: pd.DataFrame, config: Config, train: bool = False):
        self.paths = manifest.path.tolist()
        self.labels = manifest.label.astype(int).tolist()
        self.config, self.train, self.epoch = config, train, 0
        self.sounds: dict[int, list[tuple[int, int]]] = {}  # of the clips that were looked at

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        clip, size = open_clip(self.paths[index], self.config.sample_rate), self.config.clip_samples
        if index not in self.sounds:
            self.sounds[index] = _sounds_of(clip, size, self.paths[index])
        if self.train:
            start, end = self._draw(index)
        else:
            start, end = max(self.sounds[index], key=lambda sound: sound[1] - sound[0])
        return fit_length(clip[start:end], size), self.labels[index]

    def _draw(self, index: int) -> tuple[int, int]:
        """First sample and end of one of all the places at which a crop can lie."""
        sounds, size = self.sounds[index], self.config.clip_samples
        ends = list(accumulate(max(end - start - size, 0) + 1 for start, end in sounds))  # places, counted up
        drawn = 0
        if ends[-1] > 1:
            drawn = int(np.random.default_rng((self.config.seed, self.epoch, index)).integers(ends[-1]))
        which = bisect_right(ends, drawn)
        start = sounds[which][0] + drawn - (ends[which - 1] if which else 0)
        return start, min(start + size, sounds[which][1])


class BalancedBatches(Sampler):
    """Batches of indices, half real and half fake, shuffled by (seed, epoch); the smaller class is drawn repeatedly."""

    def __init__(self, labels, batch_size: int, seed: int):
        self.classes = [np.flatnonzero(np.asarray(labels) == label) for label in (0, 1)]
        self.batch_size, self.seed, self.epoch, self.drop_last = batch_size, seed, 0, False

    def __len__(self) -> int:
        return -(-2 * max(map(len, self.classes)) // self.batch_size)

    def __iter__(self):
        rng, half = np.random.default_rng((self.seed, self.epoch)), self.batch_size // 2
        size = max(map(len, self.classes))
        real, fake = (
            np.concatenate([rng.permutation(c) for _ in range(-(-size // len(c)))])[:size] for c in self.classes
        )
        for start in range(0, size, half):
            yield [int(i) for i in np.concatenate([real[start : start + half], fake[start : start + half]])]


def make_loader(dataset: ClipDataset) -> DataLoader:
    """Batches (waveforms [B, clip_samples], labels [B]): balanced and shuffled for training, else in order."""
    config = dataset.config
    if dataset.train:
        return DataLoader(dataset, batch_sampler=BalancedBatches(dataset.labels, config.batch_size, config.seed))
    return DataLoader(dataset, batch_size=config.batch_size)


def set_epoch(loader: DataLoader, epoch: int) -> None:
    """Tell a training loader which epoch comes: order and crops follow from it."""
    loader.dataset.epoch = loader.batch_sampler.epoch = epoch


def _refuse_gaps(manifest: pd.DataFrame, root: Path, splits: tuple[str, ...] | None) -> None:
    present = set(manifest[["split", "label"]].drop_duplicates().itertuples(index=False, name=None))
    whole = tuple(split for split in SPLITS if {(split, 0), (split, 1)} <= present)
    if splits is None and not whole:
        raise DataError(f"{root}: no split with usable clips of both classes; expected {LAYOUT}")
    gaps = [(split, label) for split in splits or () for label in (0, 1) if (split, label) not in present]
    if gaps:
        split, label = gaps[0]
        cure = f". In Python you can ask only for what is there: scan(root, splits={whole})" if whole else ""
        raise DataError(
            f"{root}: no usable {CLASSES[label]} clip for {split}; found {_folders(root)}; expected {LAYOUT}{cure}"
        )


def _folders(root: Path) -> str:
    """The first folders two levels below `root`, for an error."""
    outer_folders = folders_in(root) if root.is_dir() else []
    names = [f"{outer.name}/{inner.name}" for outer in outer_folders for inner in folders_in(outer)]
    return ", ".join(names[:SHOWN] + ["..."] * (len(names) > SHOWN)) or "no folder in a folder"


def _drop_unusable(manifest: pd.DataFrame) -> pd.DataFrame:
    bad = find_unusable(manifest.path)
    if len(bad):
        named = "; ".join(bad.reason[:5]) + ("; ..." if len(bad) > 5 else "")
        warnings.warn(f"left out {len(bad)} of {len(manifest)} clips: {named}", stacklevel=3)
    return manifest[~manifest.path.isin(bad.path)].reset_index(drop=True)


def _digest(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.sha256(file.read(65_536) + str(os.fstat(file.fileno()).st_size).encode()).hexdigest()


def _sounds_of(clip: torch.Tensor, pause: int, path: str) -> list[tuple[int, int]]:
    sounds = find_sounds(clip, pause)
    if not sounds:
        raise AudioError(f"{path}: silent throughout; leave it out", "silent")
    return sounds


def _why_unusable(path: str) -> str:
    try:
        clip = open_clip(path, Config().sample_rate)
    except AudioError as error:
        return str(error)
    return f"{path}: silent; leave it out" if is_silent(clip) else ""
