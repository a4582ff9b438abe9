"""The CSV of `predict --out`: a kill cannot harm it, and a later call continues it whatever came or went."""

import csv
import os
import shutil
import signal
import subprocess
import sys

import pytest

from dfa_utils import AudioError, Detector, build_model
from dfa_utils.checkpoint import save_checkpoint
from dfa_utils.layouts import expand
from dfa_utils.support import HEADER, HEADINGS, ScoreTable, TableError


@pytest.fixture(scope="module")
def checkpoint(tiny_config, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "detector.safetensors"
    save_checkpoint(path, build_model(config=tiny_config), {"threshold": 0.5})
    return path


@pytest.fixture(scope="module")
def detector(checkpoint):
    return Detector.load(checkpoint)


@pytest.fixture(scope="module")
def results(detector, clips):
    """What the detector says of each file, by its path."""
    return dict(detector.predict_files(expand([clips])))


@pytest.fixture(scope="module")
def complete(results, detector, tmp_path_factory):
    """The table of all files, as bytes."""
    path = tmp_path_factory.mktemp("table") / "scores.csv"
    score(results, detector, path)
    return path.read_bytes()


def score(results, detector, path, resume=False):
    """What the command does: a row for every file that has none. The table, and the files that it judged."""
    table = ScoreTable(path, detector.fingerprint, resume)
    missing = [name for name in results if name not in table]
    for name in missing:
        table.add(name, results[name])
    return table, missing


def one_line(path):
    """How the table writes a name."""
    return path.replace("\n", "\\n")


def rows_of(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_table_has_a_row_for_every_file(results, detector, tmp_path):
    table, _ = score(results, detector, tmp_path / "new" / "a.csv")
    rows = rows_of(table.path)
    assert list(rows[0]) == HEADINGS == ["path", "score", "label", "reason", "seconds", "detector", "error"]
    assert [row["path"] for row in rows] == list(map(one_line, results))
    assert len(table.path.read_bytes().splitlines()) == 1 + len(results)
    assert {row["detector"] for row in rows} == {detector.fingerprint}
    for row, result in zip(rows, results.values(), strict=True):
        if isinstance(result, AudioError):
            assert (row["score"], row["label"], row["error"]) == ("", "", one_line(str(result)))
        else:
            assert (float(row["score"]), row["label"]) == (pytest.approx(result.score, abs=1e-9), result.label)
    assert table.failed == sum(isinstance(result, AudioError) for result in results.values()) == 4


def test_a_table_is_continued_wherever_it_was_cut(results, detector, complete, tmp_path):
    path = tmp_path / "a.csv"
    for size in [0, 10, len(HEADER), *range(len(HEADER) + 1, len(complete), 97), len(complete) - 1, len(complete)]:
        path.write_bytes(complete[:size])
        table, missing = score(results, detector, path, resume=True)
        assert path.read_bytes() == complete, size
        assert len(missing) == len(results) - max(0, complete[:size].count(b"\r\n") - 1)
        assert table.failed == 4


def test_files_may_have_come_and_gone(results, detector, complete, tmp_path):
    (tmp_path / "a.csv").write_bytes(complete)
    first, *others = results.items()
    now = {"0 new.wav": first[1], **dict(others)}
    table, missing = score(now, detector, tmp_path / "a.csv", resume=True)
    assert missing == ["0 new.wav"]
    assert table.path.read_bytes().startswith(complete)
    assert [row["path"] for row in rows_of(table.path)] == [*map(one_line, results), "0 new.wav"]


@pytest.mark.skipif(sys.platform != "linux", reason="only here may a name be any bytes")
def test_names_of_any_bytes_are_known_again(detector, clips, tmp_path):
    (tmp_path / "in").mkdir()
    shutil.copyfile(clips / "00.wav", os.fsencode(tmp_path / "in") + b"/caf\xe9.wav")
    (tmp_path / "in" / "loop.wav").symlink_to("loop.wav")
    found = dict(detector.predict_files(expand([tmp_path / "in"])))
    assert [isinstance(result, AudioError) for result in found.values()] == [False, True]
    score(found, detector, tmp_path / "a.csv")
    assert score(found, detector, tmp_path / "a.csv", resume=True)[1] == []


@pytest.mark.parametrize(
    ("line", "text"), [(0, b"a,b\r\n"), (5, b'"\r\n'), (5, b"\r\n"), (5, b"a\rb,c\r\n"), (61, b"\n")]
)
def test_a_damaged_table_is_named_and_left_alone(detector, complete, tmp_path, line, text):
    lines = complete.splitlines(keepends=True)
    damaged = b"".join([*lines[:line], text, *lines[line:]])
    (tmp_path / "a.csv").write_bytes(damaged)
    with pytest.raises(TableError, match=rf"a\.csv: line {line + 1} is damaged"):
        ScoreTable(tmp_path / "a.csv", detector.fingerprint, resume=True)
    assert (tmp_path / "a.csv").read_bytes() == damaged


def test_a_table_is_never_overwritten_nor_mixed_with_another_detectors(detector, complete, tmp_path):
    (tmp_path / "a.csv").write_bytes(complete)
    with pytest.raises(TableError, match="--resume"):
        ScoreTable(tmp_path / "a.csv", detector.fingerprint)
    with pytest.raises(TableError, match="another detector"):
        ScoreTable(tmp_path / "a.csv", "0123456789ab", resume=True)
    assert (tmp_path / "a.csv").read_bytes() == complete


KILLED = """
import os, signal, sys
from dfa_utils import __main__ as command, support
add, added = support.ScoreTable.add, []

def add_or_die(table, path, result):
    if len(added) == 20:
        os.kill(os.getpid(), signal.SIGKILL)
    added.append(add(table, path, result))

support.ScoreTable.add = add_or_die
command.main(sys.argv[1:])
"""


def test_a_kill_loses_no_row(checkpoint, clips, complete, tmp_path):
    arguments = ["predict", "--checkpoint", checkpoint, "--out", tmp_path / "a.csv", clips]
    done = subprocess.run([sys.executable, "-c", KILLED, *arguments], stdout=subprocess.DEVNULL)
    assert done.returncode == -signal.SIGKILL
    assert [row["path"] for row in rows_of(tmp_path / "a.csv")] == [
        row["path"] for row in csv.DictReader(complete.decode().splitlines()[:21])
    ]
