"""The table of `predict --out`: a CSV with one line a file, which a kill cannot harm and a later call continues."""

import csv
from collections.abc import Iterable, Iterator
from io import FileIO, StringIO
from pathlib import Path

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
