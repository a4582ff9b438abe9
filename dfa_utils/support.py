"""Work that is shared: by the processes that a launcher started, and by threads under one progress bar.

MERGED: Files that are written in one step: a reader, or a kill, meets the old file or the new one, never a part.

MERGED: Tables of named things: the models, augmentations, corruptions and vocoders that there are.

MERGED: The table of `predict --out`: a CSV with one line a file, which a kill cannot harm and a later call continues."""

import csv
import io
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from importlib.util import find_spec
from io import FileIO, StringIO
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar

import numpy as np
import soundfile
from tqdm.auto import tqdm

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


Entry = TypeVar("Entry")


def find_entry(table: Mapping[str, Entry], name: str, what: str) -> Entry:
    """What `table` holds under `name`; `what` says in the error what its entries are.

    Raises ValueError, which lists the known names.
    """
    if name not in table:
        raise ValueError(f"no {what} called {name!r}; known: {', '.join(table)}")
    return table[name]


HEADINGS = ["path", "score", "label", "reason", "seconds", "detector", "error"]
HEADER = (",".join(HEADINGS) + "\r\n").encode()


class TableError(ValueError):
    """A CSV that cannot be written or continued; the message names it and the cure."""


class ScoreTable:
    """A CSV with one line a file, in the order of `paths`, of the scores of the detector with this `fingerprint`.

    A line is on disk as soon as it is written; a line end in a file's name is written as \\n. With `resume`, the lines
    that an earlier call left are kept, and `paths` is advanced past their files; `done` counts them, `failed` those
    among all lines that hold an error. Raises TableError for a table that is there without `resume`, or that
    holds other files or another detector's scores.
    """

    def __init__(self, table, paths: Iterator, fingerprint: str, resume: bool = False):
        self.table, self.fingerprint = Path(table), fingerprint
        self.done = self.failed = 0
        if HEADER.startswith(self._first_bytes()):
            self.table.parent.mkdir(parents=True, exist_ok=True)
            self.table.write_bytes(HEADER)
        elif resume:
            self._continue(paths)
        else:
            raise TableError(f"{table}: exists already; add --resume to continue it, remove it, or choose another name")

    def add(self, results: Iterable) -> Iterator[tuple]:
        """Pass (path, result) pairs through, and write a line for each; a result is a `Prediction`, or an error."""
        with open(self.table, "ab", buffering=0) as file:
            for path, result in results:
                self.failed += isinstance(result, Exception)
                self._write(file, self._row(path, result))
                yield path, result

    def _write(self, file: FileIO, row: tuple) -> None:
        text = StringIO(newline="")
        csv.writer(text).writerow(row)
        line = text.getvalue().encode()
        try:
            while line:
                line = line[file.write(line) :]
        except OSError as error:
            raise TableError(
                f"{self.table}: cannot be written ({error.strerror}); free some space there, then go on with --resume"
            ) from error

    def _row(self, path: str, result) -> tuple:
        if isinstance(result, Exception):
            return _one_line(path), "", "", "", "", self.fingerprint, _one_line(result)
        seconds = f"{result.seconds:.3f}"
        return _one_line(path), f"{result.score:.9f}", result.label, result.reason, seconds, self.fingerprint, ""

    def _first_bytes(self) -> bytes:
        if not self.table.exists():
            return b""
        with open(self.table, "rb") as file:
            return file.read(len(HEADER) + 1)

    def _continue(self, paths: Iterator) -> None:
        with open(self.table, "r+b") as file:
            if file.readline() != HEADER:
                raise TableError(f"{self.table}: has not the columns {', '.join(HEADINGS)}; choose another name")
            end = len(HEADER)
            for line in file:
                if line.endswith(b"\r\n"):  # else a kill cut it off
                    self._keep(_cells(line), _one_line(next(paths, "nothing")))
                    end += len(line)
            file.truncate(end)

    def _keep(self, row: list[str], path: str) -> None:
        self.done += 1
        if len(row) != len(HEADINGS):
            raise TableError(f"{self.table}: row {self.done} is damaged; mend it, or choose another name")
        if row[0] != path:
            raise TableError(
                f"{self.table}: row {self.done} is of {row[0]}, where {path} comes now; files came or went since it "
                "was begun: choose another name"
            )
        if row[HEADINGS.index("detector")] != self.fingerprint:
            raise TableError(f"{self.table}: holds the scores of another detector; choose another name")
        self.failed += bool(row[-1])


def _cells(line: bytes) -> list[str]:
    """The cells of one line; none where it is no line of a CSV."""
    try:
        return next(csv.reader([line.decode(errors="replace")]))
    except csv.Error:
        return []


def _one_line(text) -> str:
    """As UTF-8 can hold it, without line ends."""
    return str(text).encode("utf-8", "backslashreplace").decode().replace("\r", "\\r").replace("\n", "\\n")


if TYPE_CHECKING:
    from accelerate import PartialState

SHARE = 64  # items that each of several processes takes before their results are put together
UNDER_WAY = 1024  # items that are computed ahead at most, so that memory does not grow with their number


class Alone:
    """The only process there is, where torch is not installed; the names are those of accelerate's `PartialState`."""

    device, process_index, num_processes, is_main_process = "cpu", 0, 1, True

    def local_main_process_first(self) -> AbstractContextManager:
        """Nobody waits."""
        return nullcontext()

    def destroy_process_group(self) -> None:
        """There is no group."""


def this_process() -> "PartialState | Alone":
    """This process as accelerate sees it: device, process_index, num_processes, is_main_process.

    It is alone unless a launcher such as `torchrun` started more; ACCELERATE_USE_CPU=1 keeps all of them off the GPU.
    """
    if find_spec("torch") is None:
        return Alone()
    import torch.distributed.nn  # noqa: F401 -- before a group exists, which default arguments in it would keep alive
    from accelerate import PartialState
    from accelerate.utils import parse_flag_from_env

    return PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"))


def usable_device(name: str | None = None):
    """The device of that name; None: this process's own, a GPU if there is one.

    Raises ValueError, with the cure, where it cannot be used.
    """
    import torch

    device = name or this_process().device
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"--device {device} cannot be used here ({reason}); --device cpu always can") from error
    return device


def share_between_processes(function: Callable[[Iterable], Iterable], items: Iterable) -> Iterator:
    """Yield what function(items) gives, one result an item, in order.

    Under several processes all must call this: the items of the main process count, of every SHARE * processes of them
    each process computes its share, and the main one yields all results, the others nothing.
    """
    state, rest = this_process(), iter(items)
    if state.num_processes == 1:
        yield from function(rest)
        return
    while chunk := _from_main(list(islice(rest, SHARE * state.num_processes)) if state.is_main_process else None):
        results = gather_in_order(list(function(my_share(chunk))))
        if state.is_main_process:
            yield from results


def my_share(items: list) -> list:
    """What this process has to do of the same `items` in all processes; of one process, all."""
    state = this_process()
    return items[state.process_index :: state.num_processes]


def gather_in_order(results: list) -> list:
    """The results of all items, in order and in every process, from those of each process's `my_share`."""
    from accelerate.utils import gather_object

    state = this_process()
    places = range(state.process_index, state.process_index + len(results) * state.num_processes, state.num_processes)
    gathered = gather_object(list(zip(places, results, strict=True)))
    return [result for _, result in sorted(gathered, key=itemgetter(0))]


def progress_bar(*args, **kwargs) -> tqdm:
    """`tqdm.auto.tqdm`, without a bar where TQDM_DISABLE is set (tqdm's own bar for notebooks ignores that).

    Of several processes only the first shows one.
    """
    hidden = bool(os.environ.get("TQDM_DISABLE")) or os.environ.get("RANK", "0") != "0"
    return tqdm(*args, disable=kwargs.pop("disable", False) or hidden, **kwargs)


def map_in_threads(function: Callable, items: Iterable, description: str) -> Iterator:
    """Yield function(item) for each item, in order, computed in one thread a core, under a progress bar.

    For work that releases the interpreter's lock: decoding, reading, hashing. Memory does not grow with the items.
    """
    from joblib import cpu_count

    total, rest = len(items) if hasattr(items, "__len__") else None, iter(items)
    with progress_bar(total=total, desc=description) as bar:
        while chunk := list(islice(rest, UNDER_WAY)):
            with ThreadPoolExecutor(cpu_count()) as pool:  # after an error it waits for what the others have begun
                for result in pool.map(function, chunk):
                    yield result
                    bar.update()


def _from_main(thing):
    """What the main process has, in every process."""
    from accelerate.utils import broadcast_object_list

    return broadcast_object_list([thing])[0]
