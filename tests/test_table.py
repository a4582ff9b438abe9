"""The CSV of `predict --out`: a kill cannot harm it, and a later call continues it whatever files came or went."""

import csv
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from dfa_utils.audio import AudioError
from dfa_utils.support import HEADER, ScoreTable, TableError

DETECTOR = "0123456789ab"
NAMES = ["a.wav", '"b", c.wav', "d\ne.wav", "é\udce9"] * 7
EVIDENCE = {"likelihood_ratio": None, "support": ""}, {"likelihood_ratio": 12.5, "support": "about 12 times: moderate"}
RESULTS = {
    f"{i:02} {name}": AudioError("empty\nfile")
    if i % 5 == 4
    else SimpleNamespace(
        score=i / 30, label="uncertain", reason="no speech, only noise", seconds=2.0, **EVIDENCE[i % 2]
    )
    for i, name in enumerate(NAMES)
}


def score(path, results=RESULTS, resume=True):
    """What the command does: a row for every file that has none. The table, and the files that it judged."""
    table = ScoreTable(path, DETECTOR, resume)
    missing = [name for name in results if name not in table]
    for name in missing:
        table.add(name, results[name])
    return table, missing


def rows_of(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def complete(tmp_path):
    """The table of all files, as bytes."""
    return score(tmp_path / "new" / "scores.csv")[0].path.read_bytes()


def test_a_table_has_a_row_for_every_file(complete, tmp_path):
    rows = rows_of(tmp_path / "new" / "scores.csv")
    assert len(complete.splitlines()) == 1 + len(RESULTS)
    evidence = ["likelihood_ratio", "support"]
    assert list(rows[0]) == ["path", "score", "label", *evidence, "reason", "seconds", "detector", "error"]
    for row, (path, result) in zip(rows, RESULTS.items(), strict=True):
        assert row["path"] == path.replace("\n", "\\n").replace("\udce9", "\\udce9")
        if isinstance(result, AudioError):
            expected = [*[""] * 6, DETECTOR, r"empty\nfile"]
        else:
            weighed = ["12.5", result.support] if result.support else ["", ""]
            expected = [f"{result.score:.9f}", result.label, *weighed, result.reason, "2.000", DETECTOR, ""]
        assert list(row.values())[1:] == expected


def test_a_table_is_continued_wherever_it_was_cut(complete, tmp_path):
    for size in [*range(0, len(complete), 17), len(HEADER), len(complete) - 1, len(complete)]:
        (tmp_path / "a.csv").write_bytes(complete[:size])
        table, missing = score(tmp_path / "a.csv")
        assert table.path.read_bytes() == complete, size
        assert len(missing) == len(RESULTS) - max(0, complete[:size].count(b"\r\n") - 1)
        assert table.failed == sum(isinstance(result, AudioError) for result in RESULTS.values())


def test_files_may_have_come_and_gone(complete, tmp_path):
    (tmp_path / "a.csv").write_bytes(complete)
    gone, *stayed = RESULTS
    now = {"0 new.wav": RESULTS[gone]} | {name: RESULTS[name] for name in stayed}
    table, missing = score(tmp_path / "a.csv", now)
    assert missing == ["0 new.wav"]
    assert table.path.read_bytes().startswith(complete)
    assert len(rows_of(table.path)) == len(RESULTS) + 1


@pytest.mark.parametrize(
    ("line", "text"), [(0, b"a,b\r\n"), (5, b'"\r\n'), (5, b"\r\n"), (5, b"a\rb,c\r\n"), (29, b"\n")]
)
def test_a_damaged_table_is_named_and_left_alone(complete, tmp_path, line, text):
    lines = complete.splitlines(keepends=True)
    damaged = b"".join([*lines[:line], text, *lines[line:]])
    (tmp_path / "a.csv").write_bytes(damaged)
    with pytest.raises(TableError, match=rf"a\.csv: line {line + 1} is damaged"):
        score(tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_bytes() == damaged


def test_a_table_is_never_overwritten_nor_mixed_with_another_detectors(complete, tmp_path):
    (tmp_path / "a.csv").write_bytes(complete)
    with pytest.raises(TableError, match="--resume"):
        score(tmp_path / "a.csv", resume=False)
    with pytest.raises(TableError, match="another detector"):
        ScoreTable(tmp_path / "a.csv", "ba9876543210", resume=True)
    assert (tmp_path / "a.csv").read_bytes() == complete


def test_a_row_is_on_disk_before_a_kill(complete, tmp_path):
    code = f"import os, sys, test_table as t; t.score(sys.argv[1]); os.kill(os.getpid(), {int(signal.SIGKILL)})"
    command = [sys.executable, "-c", code, tmp_path / "a.csv"]
    assert subprocess.run(command, cwd=Path(__file__).parent).returncode == -signal.SIGKILL
    assert (tmp_path / "a.csv").read_bytes() == complete
