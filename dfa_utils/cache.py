"""Decode once: clips that take long to decode, kept as samples at the model's rate, of which only a part need be read.

An entry is a NumPy file that is mapped into memory. It belongs to one file in one state (path, size, modification time)
and appears in one step, so any number of processes may fill and read at once, and a fill that was stopped goes on.
$DFA_CACHE names the folder, or says `off`.
"""

import hashlib
import os
import warnings
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import numpy as np
import soundfile
import torch

from dfa_utils.audio import BLOCK_SECONDS, libsndfile_name, load_audio
from dfa_utils.support import PART, atomic_file

DECODING = 3  # counts up when dfa_utils.audio makes other samples of a file than before
QUICK_SECONDS = 10.0  # s; up to this length wav and flac at the right rate are read as fast as an entry


def open_clip(path, sample_rate: int) -> torch.Tensor:
    """What `load_audio` returns [T], mapped from the cache where that is faster: slices then read what they need.

    Raises AudioError as `load_audio` does. A cache that cannot be written is passed by with a warning.
    """
    folder = cache_folder()
    if folder is None or not os.path.isfile(path) or _is_quick(path, sample_rate):
        return load_audio(path, sample_rate)
    entry = _entry(folder, path, sample_rate)
    with suppress(OSError, ValueError):  # not there yet, or damaged
        return _mapped(entry)
    samples = load_audio(path, sample_rate)
    _store(entry, samples)
    return samples


def stream_clip(path, sample_rate: int) -> Iterator[torch.Tensor]:
    """What `open_clip` returns in consecutive blocks [30 * sample_rate]; raises the same, with the first block."""
    yield from open_clip(path, sample_rate).split(int(BLOCK_SECONDS * sample_rate))


def cache_folder() -> Path | None:
    """$DFA_CACHE, by default a folder of the user's own for such files; None where it says `off`."""
    named = os.environ.get("DFA_CACHE")
    if named and named.lower() == "off":
        return None
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(named or Path(home) / "dfa_utils").expanduser()


def usage(folder: Path) -> tuple[int, int]:
    """Entries in the cache, and their size in bytes."""
    sizes = [entry.stat().st_size for entry in folder.glob("??/*.npy")]
    return len(sizes), sum(sizes)


def clear(folder: Path) -> None:
    """Delete all entries, and what a kill left half written; nothing else."""
    for file in [*folder.glob("??/*.npy"), *folder.glob(f"??/.*.npy.*{PART}")]:
        file.unlink(missing_ok=True)
    for part in folder.glob("??"):
        with suppress(OSError):  # not empty: something else is in it
            part.rmdir()


def describe(empty: bool = False) -> str:
    """Where decoded clips are kept and how many there are, in a sentence; with `empty` they are deleted first."""
    folder = cache_folder()
    if folder is None:
        return "the cache is off (DFA_CACHE)"
    if empty:
        clear(folder)
    entries, size = usage(folder)
    return f"{folder}: {entries:,} decoded clips, {size / 1e6:,.1f} MB"


@lru_cache(maxsize=2**16)
def _is_quick(path, sample_rate: int) -> bool:
    """Whether the file is a short wav or flac that needs no resampling."""
    try:
        header = soundfile.info(libsndfile_name(path))
    except (soundfile.LibsndfileError, TypeError):
        return False
    lossless = header.format in ("WAV", "WAVEX", "FLAC")
    return lossless and header.samplerate == sample_rate and header.frames <= QUICK_SECONDS * sample_rate


def _entry(folder: Path, path, sample_rate: int) -> Path:
    state = os.stat(path)
    name = f"{os.path.abspath(path)}|{state.st_size}|{state.st_mtime_ns}|{sample_rate}|{DECODING}"
    key = hashlib.sha256(os.fsencode(name)).hexdigest()
    return folder / key[:2] / f"{key[2:32]}.npy"


def _mapped(entry: Path) -> torch.Tensor:
    samples = np.lib.format.open_memmap(entry, mode="c")
    if samples.ndim != 1 or samples.dtype != np.float32:
        raise ValueError(f"{entry}: not samples of one clip")
    return torch.from_numpy(samples)


def _store(entry: Path, samples: torch.Tensor) -> None:
    try:
        with atomic_file(entry) as file:
            np.save(file, samples.numpy())
    except OSError as error:
        warnings.warn(
            f"{entry.parents[1]}: the cache cannot be used ({error.strerror}), so files are decoded anew each time; "
            "set DFA_CACHE to a folder with space that you may write to, or to off",
            stacklevel=3,
        )
