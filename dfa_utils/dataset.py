"""Data sets: a manifest with one row per clip, the PyTorch Dataset over it, and loaders that repeat exactly."""

import hashlib
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from dfa_utils.audio import AudioError, fit_length
from dfa_utils.cache import open_clip
from dfa_utils.config import Config
from dfa_utils.layouts import CLASSES, LAYOUT, SPLITS, DataError, describe, read
from dfa_utils.support import map_in_threads
from dfa_utils.windows import find_sounds, is_silent


def scan(root, check: bool = True, splits: tuple[str, ...] | None = SPLITS) -> pd.DataFrame:
    """The manifest of a data set, with one row per clip: path, split, label (1 = fake), system, speaker.

    `root` is a CSV file, a folder with a manifest.csv, or a folder in the layout of Fake-or-Real (also with train, val,
    test, upper case, or folders around it) or in another that `layouts` reads; some layouts have further columns, such
    as codec. Each of `splits` must have both classes; other splits may be there. Most test sets have only testing:
    `splits=("testing",)`. None takes all splits, and needs one with both classes. With `check`, every file is decoded,
    and unusable ones are left out with a warning that names them. Raises DataError if the folder, a split, a class or
    its files are missing, if a file is labelled both real and fake, and for several data sets side by side.
    """
    if unknown := sorted(set(splits or ()) - set(SPLITS)):
        raise DataError(f"splits {unknown} are unknown; use a tuple of {', '.join(SPLITS)}")
    root = Path(root).expanduser()
    manifest = read(root)
    refuse_gaps(manifest, root, splits)
    if check:
        bad = find_unusable(manifest.path)
        if len(bad):
            named = "; ".join(bad.reason[:5]) + ("; ..." if len(bad) > 5 else "")
            warnings.warn(f"left out {len(bad)} of {len(manifest)} clips: {named}", stacklevel=2)
        manifest = manifest[~manifest.path.isin(bad.path)].reset_index(drop=True)
        refuse_gaps(manifest, root, splits)
    return manifest


def refuse_gaps(manifest: pd.DataFrame, root: Path, splits: tuple[str, ...] | None) -> None:
    """Raise DataError if one of `splits` lacks a class, or, for None, if no split has both."""
    present = set(manifest[["split", "label"]].drop_duplicates().itertuples(index=False, name=None))
    whole = tuple(split for split in SPLITS if {(split, 0), (split, 1)} <= present)
    if splits is None and not whole:
        found = describe(manifest, root)
        raise DataError(f"{root}: no split with usable clips of both classes; {found}; expected {LAYOUT}")
    if gaps := [(split, label) for split in splits or () for label in (0, 1) if (split, label) not in present]:
        split, label = gaps[0]
        cure = f". In Python, scan(root, splits={whole}) takes what is there" if whole else ""
        missing = f"no usable {CLASSES[label]} clip for {split}; {describe(manifest, root)}"
        raise DataError(f"{root}: {missing}; expected {LAYOUT}{cure}")


def find_unusable(paths) -> pd.DataFrame:
    """Decode every file: a table (path, reason) of those that are empty, damaged, silent or not audio."""
    paths = [str(path) for path in paths]
    reasons = map_in_threads(_why_unusable, paths, "decoding and checking")
    return pd.DataFrame([row for row in zip(paths, reasons, strict=True) if row[1]], columns=["path", "reason"])


def fingerprint(manifest: pd.DataFrame) -> str:
    """12 hex digits that follow from the content, split and label of all clips, but not from their folder or name."""
    contents = map_in_threads(_digest, manifest.path, "fingerprint")
    lines = sorted("/".join(map(str, row)) for row in zip(manifest.split, manifest.label, contents, strict=True))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]


class ClipDataset(Dataset):
    """Clips of a manifest as (waveform [clip_samples] float32, label 0 or 1).

    Crops avoid digital silence, as scoring does: its length identifies the data set, not the voice. Each crop is part
    of one sound (`windows.find_sounds`); a shorter sound is repeated. With `train`, its place follows from
    (seed, epoch, index) alone, and all places are equally likely; otherwise it is the middle of the longest sound.
    Raises AudioError for a file that cannot be read, or is silent throughout.
    """

    def __init__(self, manifest: pd.DataFrame, config: Config, train: bool = False):
        self.paths = manifest.path.tolist()
        self.labels = manifest.label.astype(int).tolist()
        self.config, self.train, self.epoch = config, train, 0
        self.sounds: dict[int, list[tuple[int, int]]] = {}  # of each clip, once it was read

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        clip, size = open_clip(self.paths[index], self.config.sample_rate), self.config.clip_samples
        if index not in self.sounds:
            self.sounds[index] = find_sounds(clip, size)
        if not self.sounds[index]:
            raise AudioError(f"{self.paths[index]}: silent throughout; leave it out", "silent")
        start, end = self._draw(index) if self.train else max(self.sounds[index], key=lambda sound: sound[1] - sound[0])
        return fit_length(clip[start:end], size), self.labels[index]

    def _draw(self, index: int) -> tuple[int, int]:
        """First sample and end of a random crop."""
        size = self.config.clip_samples
        places = [max(end - start - size, 0) + 1 for start, end in self.sounds[index]]  # of a crop, in each sound
        drawn = int(np.random.default_rng((self.config.seed, self.epoch, index)).integers(sum(places)))
        for (start, end), count in zip(self.sounds[index], places, strict=True):
            if drawn < count:
                return start + drawn, min(start + drawn + size, end)
            drawn -= count


class BalancedBatches(Sampler):
    """Batches of indices, half real and half fake, shuffled by (seed, epoch); the smaller class is repeated."""

    def __init__(self, labels, batch_size: int, seed: int):
        self.classes = [np.flatnonzero(np.asarray(labels) == label) for label in (0, 1)]
        self.batch_size, self.seed, self.epoch, self.drop_last = batch_size, seed, 0, False

    def __len__(self) -> int:
        return -(-2 * max(map(len, self.classes)) // self.batch_size)

    def __iter__(self):
        rng, half = np.random.default_rng((self.seed, self.epoch)), self.batch_size // 2
        size = max(map(len, self.classes))
        shuffled = [[rng.permutation(c) for _ in range(-(-size // len(c)))] for c in self.classes]
        real, fake = (np.concatenate(rounds)[:size] for rounds in shuffled)
        for start in range(0, size, half):
            yield np.concatenate([real[start : start + half], fake[start : start + half]]).tolist()


def make_loader(dataset: ClipDataset) -> DataLoader:
    """Training batches (waveforms [B, clip_samples], labels [B]), balanced and shuffled."""
    config = dataset.config
    return DataLoader(dataset, batch_sampler=BalancedBatches(dataset.labels, config.batch_size, config.seed))


def set_epoch(loader: DataLoader, epoch: int) -> None:
    """Tell a training loader which epoch comes next: order and crops follow from it."""
    loader.dataset.epoch = loader.batch_sampler.epoch = epoch


def _digest(path: str) -> str:
    """SHA-256 of a file's content and size."""
    content = Path(path).read_bytes()
    return hashlib.sha256(content + str(len(content)).encode()).hexdigest()


def _why_unusable(path: str) -> str:
    try:
        clip = open_clip(path, Config().sample_rate)
    except AudioError as error:
        return str(error)
    return f"{path}: silent; leave it out" if is_silent(clip) else ""
