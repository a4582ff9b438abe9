"""What several modules need: files written in one step, the table of `predict --out`, processes, threads, progress."""

import csv
import io
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import soundfile
from tqdm.auto import tqdm

PART = ".part"  # suffix of a file that is being written
# Columns of the table of predictions
HEADINGS = ["path", "score", "label", "likelihood_ratio", "support", "reason", "seconds", "detector", "error"]
HEADER = (",".join(HEADINGS) + "\r\n").encode()
SHARE = 64  # items per process between two gatherings of results
AHEAD = 1024  # most items that threads compute ahead, so that memory does not grow with the number of items


class WriteError(OSError):
    """A file that cannot be written; the message names it and the cure."""

    def __str__(self) -> str:
        return f"{self.filename}: cannot be written ({self.strerror}); free some space there, or choose another place"


class TableError(ValueError):
    """A table of predictions that cannot be started or continued; the message names it and the cure."""


@contextmanager
def atomic_file(path) -> Iterator[BinaryIO]:
    """Open a binary file that appears at `path`, complete, when the block ends; after an error nothing appears.

    Several threads and processes may write the same `path` at once: the last one wins. Raises WriteError if the disk
    is full or the folder is not writable.
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
        with suppress(OSError):  # the folder is not writable, or does not exist
            part.unlink(missing_ok=True)


def write_atomically(path, content: bytes) -> None:
    """Write `content` to `path` in one step; raises WriteError as `atomic_file` does."""
    with atomic_file(path) as file:
        file.write(content)


def wav_bytes(samples: np.ndarray, sample_rate: int) -> bytes:
    """A 16-bit wav file of samples [T], integers or floats of full scale 1, at `sample_rate` Hz.

    It is made in memory, because libsndfile does not say why a disk refuses a file.
    """
    file = io.BytesIO()
    soundfile.write(file, samples, sample_rate, format="WAV", subtype="PCM_16")
    return file.getvalue()


def look_up(table: Mapping[str, Any], name: str, what: str) -> Any:
    """The entry of `table` called `name`; `what` is the word for an entry in the error.

    Raises ValueError that lists the known names.
    """
    if name not in table:
        raise ValueError(f"no {what} called {name!r}; known: {', '.join(table)}")
    return table[name]


class ScoreTable:
    """The CSV of `predict --out`: one row per file, with the `fingerprint` of the detector.

    A row is on disk as soon as it is added. With `resume`, the rows of an earlier call stay, and `path in table` tells
    which files they judge; a last line that a kill cut off is dropped. `failed` counts the rows with an error. Raises
    TableError for a file that exists and is not resumed, is damaged, or holds another detector's scores.
    """

    def __init__(self, path, fingerprint: str, resume: bool = False):
        self.path, self.fingerprint, self.judged, self.failed = Path(path), fingerprint, set(), 0
        size = self.path.stat().st_size if self.path.exists() else 0
        if size and not resume:
            raise TableError(f"{path}: exists already; add --resume to continue it, remove it, or choose another name")
        if not size or not self._continue():
            write_atomically(path, HEADER)

    def __contains__(self, path) -> bool:
        return _one_line(path) in self.judged

    def add(self, path, result) -> None:
        """Append the row of a file: its `Prediction`, or the error that it raised. Raises WriteError."""
        if isinstance(result, Exception):
            self.failed += 1
            cells = [*[""] * 6, self.fingerprint, _one_line(result)]
        else:
            ratio = "" if result.likelihood_ratio is None else f"{result.likelihood_ratio:.6g}"
            verdict = f"{result.score:.9f}", result.label, ratio, result.support, result.reason
            cells = [*verdict, f"{result.seconds:.3f}", self.fingerprint, ""]
        row = io.StringIO(newline="")
        csv.writer(row).writerow([_one_line(path), *cells])
        try:
            with open(self.path, "ab") as file:
                file.write(row.getvalue().encode())
        except OSError as error:
            raise WriteError(error.errno, error.strerror, str(self.path)) from error

    def _continue(self) -> int:
        """Read the rows that are there, and cut off an incomplete last line; the number of lines that stay."""
        with open(self.path, "r+b") as file:
            lines = [line for line in file if line.endswith(b"\n")]  # only the last line may lack it
            for number, line in enumerate(lines):
                self._keep(number, line)
            file.truncate(sum(map(len, lines)))
        return len(lines)

    def _keep(self, number: int, line: bytes) -> None:
        try:
            path, *_, detector, error = row = next(csv.reader([line.decode(errors="replace")]))
        except (csv.Error, ValueError):
            row = []
        if len(row) != len(HEADINGS) or (number == 0 and row != HEADINGS):
            cure = "is damaged, or of another version; repair it, or choose another name"
            raise TableError(f"{self.path}: line {number + 1} {cure}")
        if number and detector != self.fingerprint:
            raise TableError(f"{self.path}: holds the scores of another detector; choose another name")
        if number:
            self.judged.add(path)
            self.failed += bool(error)


def _one_line(text) -> str:
    """The text in UTF-8, with line ends and what UTF-8 cannot hold escaped."""
    return str(text).encode("utf-8", "backslashreplace").decode().replace("\r", "\\r").replace("\n", "\\n")


def this_process() -> "PartialState":  # noqa: F821 -- accelerate and torch are imported when they are needed
    """This process as accelerate sees it: device, process_index, num_processes, is_main_process.

    There is one unless a launcher such as `torchrun` started more; ACCELERATE_USE_CPU=1 keeps all of them on the CPU.
    """
    import torch.distributed.nn  # noqa: F401 -- before a group exists, which default arguments in it would keep alive
    from accelerate import PartialState
    from accelerate.utils import parse_flag_from_env

    return PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"))


def is_main_process() -> bool:
    """Whether this is the first or only process; it prints and writes for the others."""
    return os.environ.get("RANK", "0") == "0"  # set by the launcher


def usable_device(name: str | None = None) -> "torch.device | str":  # noqa: F821
    """The device called `name`; None: this process's own, a GPU if there is one.

    Raises ValueError with the cure if it cannot be used.
    """
    import torch

    device = name or this_process().device
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"--device {device} cannot be used here ({reason}); --device cpu always works") from error
    return device


def my_share(items: list) -> list:
    """This process's part of `items`, which must be the same in all processes; with one process, all of them."""
    state = this_process()
    return items[state.process_index :: state.num_processes]


def gather_in_order(results: list) -> list:
    """The results of all items, in order and in every process, from those of each process's `my_share`."""
    from accelerate.utils import gather_object

    shares = gather_object([results])  # one list per process
    return [share[i] for i in range(len(shares[0])) for share in shares if i < len(share)]


def share_between_processes(function: Callable[[Iterable], Iterable], items: Iterable) -> Iterator:
    """Yield the results of function(items), one per item, in order, and in the main process only.

    All processes must call this. The main one's `items` count; each process computes its share of them.
    """
    from accelerate.utils import broadcast_object_list

    state, rest = this_process(), iter(items)
    if state.num_processes == 1:
        yield from function(rest)
    while chunk := broadcast_object_list([list(islice(rest, SHARE * state.num_processes))])[0]:
        results = gather_in_order(list(function(my_share(chunk))))
        yield from results if state.is_main_process else ()


def progress_bar(*args, disable: bool = False, **kwargs) -> tqdm:
    """`tqdm.auto.tqdm`, hidden where TQDM_DISABLE is set (tqdm's bar for notebooks ignores it).

    Of several processes only the main one shows it.
    """
    return tqdm(*args, disable=disable or bool(os.environ.get("TQDM_DISABLE")) or not is_main_process(), **kwargs)


def map_in_threads(function: Callable, items: Iterable, description: str) -> Iterator:
    """Yield function(item) for each item, in order, computed in one thread per core, under a progress bar.

    It is for work that releases Python's lock: decoding, reading, hashing. Unlike tqdm's `thread_map`, it takes at most
    AHEAD items at once, so that memory does not grow with their number.
    """
    from joblib import cpu_count

    total, rest = len(items) if hasattr(items, "__len__") else None, iter(items)
    chunks = iter(lambda: list(islice(rest, AHEAD)), [])
    with ThreadPoolExecutor(cpu_count()) as pool:  # on an error it waits for the calls that have begun
        results = chain.from_iterable(pool.map(function, chunk) for chunk in chunks)
        yield from progress_bar(results, total=total, desc=description)
