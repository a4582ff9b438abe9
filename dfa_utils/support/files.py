"""Files that are written in one step: a reader, or a kill, meets the old file or the new one, never a part."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

PART = ".part"  # suffix of a file that is being written


@contextmanager
def atomic_file(path) -> Iterator[BinaryIO]:
    """Open a binary file whose content appears at `path` when the block ends; after an error nothing appears.

    Several threads and processes may write the same `path` at once: the last one stays.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}{PART}")
    try:
        with open(part, "w+b") as file:
            yield file
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_atomically(path, content: bytes) -> None:
    """Put `content` at `path` in one step."""
    with atomic_file(path) as file:
        file.write(content)
