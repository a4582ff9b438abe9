"""Decode once: every clip of a data set as 16-bit PCM at the model's rate, of which only what is asked for is read.

An entry belongs to one file in one state (path, size, modification time) and one way to decode it. A missing, outdated
or damaged entry is made anew where it is met, so a fill that was stopped goes on, and any number of processes may fill
and read at once. $DFA_CACHE names the folder, or says `off`.
"""

import hashlib
import math
import os
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
import platformdirs
import torch

from dfa_utils.audio import load_audio, stream_audio
from dfa_utils.support.files import PART, atomic_file

DECODING = 1  # counts up when dfa_utils.audio makes other samples of a file than before
HEADER = struct.Struct("<4sqqqI")  # MARK; of the source: size (bytes), modification time (ns); samples; checksum
BLOCK = struct.Struct("<qfI")  # of each block, behind the samples: its end (sample), the value of full scale, checksum
MARK = b"DFA1"


class CachedClip:
    """The samples of one file; like a tensor [T], but only what is asked for is read: len(clip), clip[start:stop].

    16-bit mono audio that has `sample_rate` Hz already comes back exactly, anything else within 2**-15 of the loudest
    sample of the same half minute. Raises AudioError for a file that cannot be used, OSError for a cache that cannot be
    written.
    """

    def __init__(self, path, sample_rate: int, folder: Path):
        source = os.stat(path)
        self.path, self.sample_rate, self.state = path, sample_rate, (source.st_size, source.st_mtime_ns)
        key = hashlib.sha256(os.fsencode(f"{os.path.abspath(path)}|{sample_rate}|{DECODING}")).hexdigest()
        self.entry = f"{folder}/{key[:2]}/{key[2:32]}.pcm"
        try:
            self._open()
        except (FileNotFoundError, _DamagedError):
            self._store()

    def __len__(self) -> int:
        return self.blocks[-1][0]

    def __getitem__(self, part: slice) -> torch.Tensor:
        start, stop, _ = part.indices(len(self))
        try:
            return self._read(start, stop)
        except (OSError, _DamagedError):  # damaged, or gone since it was opened
            with suppress(OSError):  # a cache that cannot be written either is no reason to stop
                self._store()
            return load_audio(self.path, self.sample_rate)[part]

    def _store(self) -> None:
        end, table = 0, b""
        with atomic_file(self.entry) as file:
            file.write(bytes(HEADER.size))
            for block in stream_audio(self.path, self.sample_rate):
                end += len(block)
                table += BLOCK.pack(end, *_write_pcm(file, block.numpy()))
            file.write(table)
            file.seek(0)
            header = MARK, *self.state, end
            file.write(HEADER.pack(*header, _checksum(header, table)))
        self.blocks = list(BLOCK.iter_unpack(table))

    def _open(self) -> None:
        """Read the entry's table; _DamagedError if it is incomplete, changed, or of another state of the file."""
        with open(self.entry, "rb", buffering=0) as file:
            start = file.read(HEADER.size)
            if len(start) < HEADER.size:
                raise _DamagedError
            *header, checksum = HEADER.unpack(start)
            file.seek(HEADER.size + 2 * abs(header[-1]))
            table = file.read()
        if tuple(header[:-1]) != (MARK, *self.state) or checksum != _checksum(header, table):
            raise _DamagedError
        self.blocks = list(BLOCK.iter_unpack(table))

    def _read(self, start: int, stop: int) -> torch.Tensor:
        parts, begin = [np.empty(0, np.float32)], 0
        with open(self.entry, "rb", buffering=0) as file:
            for end, full_scale, checksum in self.blocks:
                if begin < stop and start < end:
                    file.seek(HEADER.size + 2 * begin)
                    block = file.read(2 * (end - begin))
                    if zlib.crc32(block) != checksum:
                        raise _DamagedError
                    pcm = np.frombuffer(block, "<i2")[max(start - begin, 0) : stop - begin]
                    parts.append(pcm * np.float32(full_scale / 32768))
                begin = end
        return torch.from_numpy(parts[-1] if len(parts) == 2 else np.concatenate(parts))


class _DamagedError(Exception):
    """An entry that must be made anew."""


def open_clip(path, sample_rate: int) -> "CachedClip | torch.Tensor":
    """The samples of a file, through the cache unless it is off: what `load_audio` returns, to be sliced likewise.

    Raises AudioError as `load_audio` does. A cache that cannot be written is passed by with a warning.
    """
    folder = cache_folder()
    try:
        if folder:
            return CachedClip(path, sample_rate, folder)
    except OSError as error:
        if os.path.exists(path):
            warnings.warn(
                f"{folder}: the cache cannot be used ({error.strerror}), so files are decoded anew each time; set "
                "DFA_CACHE to a folder with space that you may write to, or to off",
                stacklevel=2,
            )
    return load_audio(path, sample_rate)


def blocks_of(clip, sample_rate: int, block_seconds: float = 30.0) -> Iterator[torch.Tensor]:
    """Consecutive pieces [block_seconds * sample_rate] of what `open_clip` returns."""
    size = int(block_seconds * sample_rate)
    return (clip[start : start + size] for start in range(0, len(clip), size))


def cache_folder() -> Path | None:
    """$DFA_CACHE, by default a folder of the user's own for such files; None where it says `off`."""
    return _folder(os.environ.get("DFA_CACHE"))


def usage(folder: Path) -> tuple[int, int]:
    """Entries in the cache, and their size in bytes."""
    sizes = [entry.stat().st_size for entry in folder.glob("??/*.pcm")]
    return len(sizes), sum(sizes)


def clear(folder: Path) -> None:
    """Delete all entries, and what a kill left half written; nothing else."""
    for file in [*folder.glob("??/*.pcm"), *folder.glob(f"??/.*.pcm.*{PART}")]:
        file.unlink(missing_ok=True)
    for part in folder.glob("??"):
        with suppress(OSError):  # not empty: something else is in it
            part.rmdir()


@lru_cache
def _folder(named: str | None) -> Path | None:
    folder = Path(named or platformdirs.user_cache_dir("dfa_utils", appauthor=False))
    return None if named and named.lower() == "off" else folder.expanduser()


def _write_pcm(file: BinaryIO, block: np.ndarray) -> tuple[float, int]:
    """Write [T] as 16-bit integers; the value that full scale stands for, and the checksum.

    Full scale is the power of two at or above the block's loudest sample: quiet audio keeps its precision, loud audio
    is not clipped, and integers stay what they are.
    """
    top = max(float(block.max()) * 32768 / 32767, -float(block.min()), 2.0**-30)
    full_scale = 2.0 ** math.ceil(math.log2(top))
    pcm = np.round(block * (32768 / full_scale)).astype("<i2").tobytes()
    file.write(pcm)
    return full_scale, zlib.crc32(pcm)


def _checksum(header: tuple, table: bytes) -> int:
    return zlib.crc32(repr(tuple(header)).encode() + table)
