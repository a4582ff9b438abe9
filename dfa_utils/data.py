"""Data sets: a manifest with one row a clip, the PyTorch Dataset over it, and loaders that repeat exactly."""

import hashlib
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from dfa_utils.audio import AudioError, fit_length, is_silent
from dfa_utils.cache import blocks_of, open_clip
from dfa_utils.config import Config
from dfa_utils.progress import map_in_threads

SPLITS = ("training", "validation", "testing")
CLASSES = ("real", "fake")  # the index is the label
SPLIT_NAMES = {
    "training": "training",
    "train": "training",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "testing": "testing",
    "test": "testing",
    "eval": "testing",
}
LABEL_NAMES = {"real": 0, "bonafide": 0, "bona-fide": 0, "genuine": 0, "0": 0, "fake": 1, "spoof": 1, "1": 1}
SUFFIXES = {".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a", ".aac", ".webm", ".mp4", ".aif", ".aiff", ".au", ".wma"}
LAYOUT = "ROOT/{training,validation,testing}/{real,fake}/*.wav, or a manifest.csv with columns path, split, label"


class DataError(ValueError):
    """A data set that cannot be used; the message names the folder or file and the cure."""


def scan(root, check: bool = True) -> pd.DataFrame:
    """The manifest of a data set: columns path, split, label (1 = fake), system, speaker; one row a clip.

    `root` is a CSV file, a folder with a manifest.csv, or a folder in Fake-or-Real's layout (train/val/test, upper case
    and one folder around it are fine). With `check`, every file is decoded, once for all (`dfa_utils.cache`), and
    unusable ones are left out with a warning that names them. Raises DataError for what is missing: the folder, a
    split, a class, its files.
    """
    root = Path(root).expanduser()
    if not root.exists():
        raise DataError(f"{root}: no such folder; expected {LAYOUT}")
    table = root if root.is_file() else root / "manifest.csv"
    manifest = _from_csv(table) if table.is_file() else _from_folders(root)
    _refuse_gaps(manifest, root)
    if check:
        manifest = _drop_unusable(manifest)
        _refuse_gaps(manifest, root)
    return manifest


def find_audio(folder) -> list[Path]:
    """All audio files below a folder, by their suffix, in the order of their names."""
    return list(walk_audio(folder))


def walk_audio(folder) -> Iterator[Path]:
    """What `find_audio` finds, one after the other: no more than a folder's names is held in memory.

    A folder that cannot be read stands for what may be in it.
    """
    try:
        names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except OSError:
        yield Path(folder)
        return
    for path in (Path(folder, name) for name in names):
        if path.is_dir() and not path.is_symlink():
            yield from walk_audio(path)
        elif path.suffix.lower() in SUFFIXES and not path.is_dir():
            yield path


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

    A longer clip is cut: at random when `train`, as a function of (seed, epoch, index) alone, else in the middle. A
    shorter one is repeated. Raises AudioError for a file that cannot be read.
    """

    def __init__(self, manifest: pd.DataFrame, config: Config, train: bool = False):
        self.paths = manifest.path.tolist()
        self.labels = manifest.label.astype(int).tolist()
        self.config, self.train, self.epoch = config, train, 0

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        clip, size = open_clip(self.paths[index], self.config.sample_rate), self.config.clip_samples
        start = self._start(index, max(len(clip) - size, 0))
        return fit_length(clip[start : start + size], size), self.labels[index]

    def _start(self, index: int, spare: int) -> int:
        if not self.train or not spare:
            return spare // 2
        return int(np.random.default_rng((self.config.seed, self.epoch, index)).integers(spare + 1))


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


def _from_folders(root: Path) -> pd.DataFrame:
    home = next((f for f in [root, *_folders(root)] if any(s.name.lower() in SPLIT_NAMES for s in _folders(f))), None)
    if home is None:
        raise DataError(f"{root}: no folder called training, validation or testing in it; expected {LAYOUT}")
    rows = [
        (str(path), SPLIT_NAMES[split.name.lower()], LABEL_NAMES[label.name.lower()], "", "")
        for split in _folders(home)
        if split.name.lower() in SPLIT_NAMES
        for label in _folders(split)
        if label.name.lower() in LABEL_NAMES
        for path in find_audio(label)
    ]
    return pd.DataFrame(rows, columns=["path", "split", "label", "system", "speaker"])


def _folders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _from_csv(path: Path) -> pd.DataFrame:
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    missing = {"path", "split", "label"} - set(table.columns)
    if missing:
        raise DataError(f"{path}: no column {', '.join(sorted(missing))}; expected path, split, label (real or fake)")
    split = table.split.str.lower().map(SPLIT_NAMES)
    unknown = sorted(set(table.label.str.lower()) - set(LABEL_NAMES))
    if unknown:
        raise DataError(f"{path}: labels {unknown} are unknown; use real and fake")
    columns = {
        "path": [str(path.parent / name) for name in table.path],
        "split": split,
        "label": table.label.str.lower().map(LABEL_NAMES),
        "system": table.get("system", ""),
        "speaker": table.get("speaker", ""),
    }
    return pd.DataFrame(columns)[split.notna()].reset_index(drop=True)


def _refuse_gaps(manifest: pd.DataFrame, root: Path) -> None:
    for split in SPLITS:
        for label, name in enumerate(CLASSES):
            if not ((manifest.split == split) & (manifest.label == label)).any():
                raise DataError(f"{root}: no usable {name} clip for {split}; expected {LAYOUT}")


def _drop_unusable(manifest: pd.DataFrame) -> pd.DataFrame:
    bad = find_unusable(manifest.path)
    if len(bad):
        named = "; ".join(bad.reason[:5]) + ("; ..." if len(bad) > 5 else "")
        warnings.warn(f"left out {len(bad)} of {len(manifest)} clips: {named}", stacklevel=3)
    return manifest[~manifest.path.isin(bad.path)].reset_index(drop=True)


def _digest(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.sha256(file.read(65_536) + str(os.fstat(file.fileno()).st_size).encode()).hexdigest()


def _why_unusable(path: str) -> str:
    rate = Config().sample_rate
    try:
        silent = all(is_silent(block) for block in blocks_of(open_clip(path, rate), rate))
    except AudioError as error:
        return str(error)
    return f"{path}: silent; leave it out" if silent else ""
