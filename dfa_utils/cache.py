"""Decode once: clips that take long to decode are kept as samples at the model's rate, and a crop reads only its part.

An entry is a NumPy file that is mapped into memory. It belongs to one file in one state (path, size, modification time)
and appears in one step, so any number of processes may fill and read the cache at once, and after a kill the next call
continues. $DFA_CACHE names the folder, or is `off`.
"""

import hashlib
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import numpy as np
import soundfile
import torch

from dfa_utils.audio import BLOCK_SECONDS, libsndfile_name, load_audio
from dfa_utils.support import atomic_file

CACHE_VERSION = 5  # counts up when dfa_utils.audio decodes a file to other samples than before
QUICK_SECONDS = 10.0  # s; up to this length, wav and flac at the right rate are read as fast as an entry
ENTRY = re.compile(r"[0-9a-f]{30}\.npy|\.[0-9a-f]{30}\.npy\..+\.part")  # the second is what a kill left half written


def open_clip(path, sample_rate: int) -> torch.Tensor:
    """The samples of `load_audio` [T], mapped from the cache where that is faster: a slice then reads only its part.

    Raises AudioError as `load_audio` does. If the cache cannot be written, it warns and decodes the file each time.
    """
    folder = cache_folder()
    if folder is None or not os.path.isfile(path) or _is_quick(path, sample_rate):
        return load_audio(path, sample_rate)
    entry = _entry(folder, path, sample_rate)
    with suppress(OSError, ValueError):  # not there yet, or damaged
        samples = np.lib.format.open_memmap(entry, mode="c")
        if samples.ndim == 1 and samples.dtype == np.float32:
            return torch.from_numpy(samples)
    samples = load_audio(path, sample_rate)
    try:
        with atomic_file(entry) as file:
            np.save(file, samples.numpy())
    except OSError as error:
        cure = "set DFA_CACHE to a folder with space in which you may write, or to off"
        warnings.warn(f"{folder}: the cache cannot be written ({error.strerror}); {cure}", stacklevel=2)
    return samples


def stream_clip(path, sample_rate: int) -> Iterator[torch.Tensor]:
    """The samples of `open_clip` in consecutive blocks [30 * sample_rate]; raises the same, with the first block."""
    yield from open_clip(path, sample_rate).split(int(BLOCK_SECONDS * sample_rate))


def cache_folder() -> Path | None:
    """$DFA_CACHE, by default a folder in the user's own cache folder; None if it is `off`."""
    named = os.environ.get("DFA_CACHE", "")
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return None if named.lower() == "off" else Path(named or Path(home, "dfa_utils")).expanduser()


def find_entries(folder: Path) -> list[Path]:
    """All entries of the cache, with those that a kill left half written."""
    return [file for file in folder.glob("[0-9a-f][0-9a-f]/*") if ENTRY.fullmatch(file.name)]


@lru_cache(maxsize=2**16)
def _is_quick(path, sample_rate: int) -> bool:
    """Whether the file is a short wav or flac that needs no resampling."""
    with suppress(soundfile.LibsndfileError, TypeError):
        header = soundfile.info(libsndfile_name(path))
        lossless = header.format in ("WAV", "WAVEX", "FLAC")
        return lossless and header.samplerate == sample_rate and header.frames <= QUICK_SECONDS * sample_rate
    return False


def _entry(folder: Path, path, sample_rate: int) -> Path:
    state = os.stat(path)
    name = f"{os.path.abspath(path)}|{state.st_size}|{state.st_mtime_ns}|{sample_rate}|{CACHE_VERSION}"
    key = hashlib.sha256(os.fsencode(name)).hexdigest()
    return folder / key[:2] / f"{key[2:32]}.npy"
