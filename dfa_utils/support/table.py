"""Bulk scoring: any number of files into a CSV that a kill cannot harm, by one process or by several."""

import csv
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice, takewhile
from operator import itemgetter
from pathlib import Path
from typing import BinaryIO

from accelerate.utils import broadcast_object_list, gather_object

from dfa_utils.audio import AudioError
from dfa_utils.dataset import walk_audio
from dfa_utils.inference import Detector, Prediction
from dfa_utils.support.parallel import this_process

COLUMNS = ["path", "score", "label", "seconds", "detector", "error"]
HEADER = (",".join(COLUMNS) + "\r\n").encode()
CHUNK = 64  # files that each of several processes judges before their results are put together
TORN = 8  # line ends that the row a kill cut off may hold, in a quoted name


class TableError(ValueError):
    """A CSV that cannot be written or continued; the message names it and the cure."""


class ScoreTable:
    """A CSV with one row a file, in the order of `paths`; a row is on disk as soon as it is written.

    With `resume`, the rows that an earlier call left are kept and their files taken off the iterator `paths`; `done`
    counts them, `failed` those among all rows that hold an error. Raises TableError for a table that is there without
    `resume`, or that holds other files or another detector's scores.
    """

    def __init__(self, table, paths: Iterator, detector: Detector, resume: bool = False):
        self.table, self.detector = Path(table), detector
        self.done = self.failed = 0
        begun = self._first_bytes()
        if HEADER.startswith(begun):
            self.table.parent.mkdir(parents=True, exist_ok=True)
            self.table.write_bytes(HEADER)
        elif resume:
            self._continue(paths)
        else:
            raise TableError(f"{table}: is there already; --resume continues it; or remove it, or choose another name")

    def add(self, results: Iterable) -> Iterator[tuple[str, Prediction | AudioError]]:
        """Pass (path, result) pairs through and write a row for each."""
        with open(self.table, "a", newline="", buffering=1, encoding="utf-8", errors="backslashreplace") as file:
            for path, result in results:
                self.failed += isinstance(result, AudioError)
                csv.writer(file).writerow(self._row(path, result))
                yield path, result

    def _row(self, path: str, result: Prediction | AudioError) -> tuple:
        if isinstance(result, AudioError):
            return path, "", "", "", self.detector.fingerprint, str(result)
        return path, f"{result.score:.9f}", result.label, f"{result.seconds:.3f}", self.detector.fingerprint, ""

    def _first_bytes(self) -> bytes:
        if not self.table.exists():
            return b""
        with open(self.table, "rb") as file:
            return file.read(len(HEADER) + 1)

    def _continue(self, paths: Iterator) -> None:
        with open(self.table, "r+b") as file:
            rows = _complete_rows(file)
            header, end = next(rows, ([], 0))
            if header != COLUMNS:
                raise TableError(f"{self.table}: has not the columns {', '.join(COLUMNS)}; choose another name")
            for row, position in rows:
                self._refuse_other(row, str(next(paths, "nothing")))
                self.done, self.failed, end = self.done + 1, self.failed + bool(row[-1]), position
            file.seek(end)
            if file.read().count(b"\n") > TORN:
                raise TableError(f"{self.table}: no table from row {self.done + 1} on; mend it, or choose another name")
            file.truncate(end)

    def _refuse_other(self, row: list[str], path: str) -> None:
        if len(row) != len(COLUMNS):
            raise TableError(f"{self.table}: row {self.done + 1} is damaged; mend it, or choose another name")
        if row[0] != path.encode("utf-8", "backslashreplace").decode():
            raise TableError(
                f"{self.table}: row {self.done + 1} is of {row[0]}, where {path} comes now; files came or went since "
                "it was begun: choose another name"
            )
        if row[4] != self.detector.fingerprint:
            raise TableError(f"{self.table}: holds the scores of another detector; choose another name")


def score_files(detector: Detector, paths: Iterable) -> Iterator[tuple[str, Prediction | AudioError]]:
    """What `detector.predict_files` yields; under several processes all call this, and the main one yields.

    The `paths` of the main process count; of every CHUNK * processes of them each process judges its share.
    """
    state, paths = this_process(), iter(paths)
    if state.num_processes == 1:
        yield from detector.predict_files(paths)
        return
    while chunk := _from_main(list(islice(paths, CHUNK * state.num_processes)) if state.is_main_process else None):
        share = range(state.process_index, len(chunk), state.num_processes)
        results = list(zip(share, detector.predict_files(chunk[i] for i in share), strict=True))
        gathered = gather_object(results)
        if state.is_main_process:
            yield from map(itemgetter(1), sorted(gathered, key=itemgetter(0)))


def expand(paths: Iterable) -> Iterator[Path]:
    """The files among `paths` and all audio files below the folders; a folder without any stands for itself."""
    for path in map(Path, paths):
        found = walk_audio(path) if path.is_dir() else iter(())
        yield next(found, path)
        yield from found


def _from_main(thing):
    """What the main process has, in every process."""
    return broadcast_object_list([thing])[0]


def _complete_rows(file: BinaryIO) -> Iterator[tuple[list[str], int]]:
    """The rows of a CSV, each with the position behind it, up to one that a kill cut off."""
    lines = takewhile(lambda line: line.endswith(b"\n"), iter(file.readline, b""))
    with suppress(csv.Error):  # the file ends within quotes
        for row in csv.reader(map(bytes.decode, lines), strict=True):
            yield row, file.tell()
