"""Files that are written in one step: a reader, or a kill, meets the old file or the new one, never a part."""

import io
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile

PART = ".part"  # suffix of a file that is being written


class WriteError(OSError):
    """A file that cannot be written; the message names it and the cure."""

    def __str__(self) -> str:
        return f"{self.filename}: cannot be written ({self.strerror}); free some space there, or choose another place"


@contextmanager
def atomic_file(path) -> Iterator[BinaryIO]:
    """Open a binary file whose content appears at `path` when the block ends; after an error nothing appears.

    Several threads and processes may write the same `path` at once: the last one stays. Raises WriteError where the
    disk is full or may not be written to.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}{PART}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(part, "w+b") as file:
            yield file
        os.replace(part, path)
    except OSError as error:
        raise WriteError(error.errno, error.strerror, str(path)) from error
    finally:
        with suppress(OSError):  # the folder cannot be written to, or is not there
            part.unlink(missing_ok=True)


def write_atomically(path, content: bytes) -> None:
    """Put `content` at `path` in one step."""
    with atomic_file(path) as file:
        file.write(content)


def wav_bytes(samples: np.ndarray, sample_rate: int) -> bytes:
    """A 16-bit wav file of samples [T], whole numbers or floats of full scale 1.

    In memory first: libsndfile does not say why a disk did not take it.
    """
    file = io.BytesIO()
    soundfile.write(file, samples, sample_rate, format="WAV", subtype="PCM_16")
    return file.getvalue()
