import csv
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from dfa_utils import Detector
from dfa_utils.audio import AudioError
from dfa_utils.checkpoint import save_checkpoint
from dfa_utils.layouts import expand
from dfa_utils.models import build_model
from dfa_utils.support import HEADER, HEADINGS, ScoreTable, TableError, share_between_processes

rng = np.random.default_rng(0)


@pytest.fixture(scope="module")
def checkpoint(tiny_config, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "detector.safetensors"
    save_checkpoint(path, build_model(config=tiny_config), {"threshold": 0.5})
    return path


@pytest.fixture(scope="module")
def detector(checkpoint):
    return Detector.load(checkpoint)


def score(detector, folder, path, resume=False):
    """One call of the command, in short."""
    paths = expand([folder])
    table = ScoreTable(path, paths, detector.fingerprint, resume)
    return list(table.add(share_between_processes(detector.predict_files, paths))), table


def one_line(path):
    """How the table writes a name."""
    return str(path).replace("\n", "\\n")


def rows_of(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def complete(detector, clips, tmp_path_factory):
    path = tmp_path_factory.mktemp("table") / "scores.csv"
    score(detector, clips, path)
    return path.read_bytes()


@pytest.mark.skipif(sys.platform != "linux", reason="only here may a name be any bytes")
def test_names_of_any_bytes_are_scored(detector, clips, tmp_path):
    (tmp_path / "in").mkdir()
    shutil.copyfile(clips / "00.wav", os.fsencode(tmp_path / "in") + b"/caf\xe9.wav")
    (tmp_path / "in" / "loop.wav").symlink_to("loop.wav")
    results, _ = score(detector, tmp_path / "in", tmp_path / "a.csv")
    assert [isinstance(result, AudioError) for _, result in results] == [False, True]
    assert score(detector, tmp_path / "in", tmp_path / "a.csv", resume=True)[1].done == 2


def test_folders_are_walked_in_order(tmp_path):
    for name in ("b/2.wav", "b/10.wav", "a.wav", "a/x.flac", ".hidden/y.wav", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "empty").mkdir()
    found = [str(path.relative_to(tmp_path)) for path in expand([tmp_path / "b", tmp_path, tmp_path / "empty"])]
    assert found == ["b/10.wav", "b/2.wav", "a/x.flac", "a.wav", "b/10.wav", "b/2.wav", "empty"]


def test_a_table_has_a_row_for_every_file(detector, clips, tmp_path):
    results, table = score(detector, clips, tmp_path / "a.csv")
    rows = rows_of(tmp_path / "a.csv")
    assert list(rows[0]) == HEADINGS
    assert [path for path, _ in results] == [str(path) for path in expand([clips])]
    assert [row["path"] for row in rows] == [one_line(path) for path in expand([clips])]
    assert len((tmp_path / "a.csv").read_bytes().splitlines()) == 1 + len(results)
    assert {row["detector"] for row in rows} == {detector.fingerprint}
    assert table.failed == sum(bool(row["error"]) for row in rows) == 4


def test_a_table_is_continued_wherever_it_was_cut(detector, clips, complete, tmp_path):
    path, files = tmp_path / "a.csv", [str(file) for file in expand([clips])]
    for size in [0, 10, len(HEADER), *range(len(HEADER) + 1, len(complete), 97), len(complete) - 1, len(complete)]:
        path.write_bytes(complete[:size])
        results, _ = score(detector, clips, path, resume=True)
        assert [row["path"] for row in rows_of(path)] == list(map(one_line, files)), size
        kept = complete[:size].rpartition(b"\r\n")[0] if size > len(HEADER) else b""
        assert path.read_bytes().startswith(kept)  # what was there stays
        assert [name for name, _ in results] == files[len(files) - len(results) :], size
    assert results == []


@pytest.mark.parametrize(("row", "text"), [(5, b'"'), (5, b"\r\n"), (5, b"a,b\r\n"), (5, b"a\rb,c\r\n"), (54, b"\r\n")])
def test_a_table_that_is_damaged_inside_is_left_alone(detector, clips, complete, tmp_path, row, text):
    lines = complete.splitlines(keepends=True)
    damaged = b"".join([*lines[:row], text, *lines[row:]])
    (tmp_path / "a.csv").write_bytes(damaged)
    with pytest.raises(TableError, match="mend it"):
        score(detector, clips, tmp_path / "a.csv", resume=True)
    assert (tmp_path / "a.csv").read_bytes() == damaged


def test_failures_of_earlier_calls_count(detector, clips, complete, tmp_path):
    (tmp_path / "a.csv").write_bytes(complete)
    assert score(detector, clips, tmp_path / "a.csv", resume=True)[1].failed == 4


def test_a_table_is_never_overwritten(detector, clips, complete, tmp_path):
    (tmp_path / "a.csv").write_bytes(complete)
    with pytest.raises(TableError, match="--resume"):
        score(detector, clips, tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_bytes() == complete


def test_other_files_another_detector_and_other_tables_are_refused(detector, clips, complete, tiny_config, tmp_path):
    (tmp_path / "a.csv").write_bytes(complete)
    (tmp_path / "other").mkdir()
    with pytest.raises(TableError, match="files came or went"):
        score(detector, tmp_path / "other", tmp_path / "a.csv", resume=True)
    with pytest.raises(TableError, match="another detector"):
        score(Detector(build_model(config=tiny_config), {"threshold": 0.4}), clips, tmp_path / "a.csv", resume=True)
    assert (tmp_path / "a.csv").read_bytes() == complete
    (tmp_path / "b.csv").write_text("path,score\r\na.wav,0.5\r\n")
    with pytest.raises(TableError, match="has not the columns"):
        score(detector, clips, tmp_path / "b.csv", resume=True)


def test_a_kill_loses_nothing_and_doubles_nothing(checkpoint, detector, clips, complete, tmp_path):
    out = tmp_path / "a.csv"
    command = [
        sys.executable,
        "-m",
        "dfa_utils",
        "predict",
        "--resume",
        "--checkpoint",
        checkpoint,
        "--out",
        out,
        clips,
    ]
    code = "import time; from dfa_utils import audio, inference, __main__ as m; original = inference.stream_audio; " \
           "inference.stream_audio = lambda *a: time.sleep(0.05) or original(*a); m.main()"  # fmt: skip
    process = subprocess.Popen([sys.executable, "-c", code, *command[3:]], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (out.exists() and out.read_bytes().count(b"\n") > 5) and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    before = out.read_bytes()
    assert 5 < before.count(b"\n") < complete.count(b"\n")
    assert subprocess.run(command, stdout=subprocess.DEVNULL).returncode == 1  # four files cannot be judged
    same_as(out, complete)
    assert out.read_bytes().startswith(before)


def same_as(path, complete):
    """The same rows in the same order, scores within 1e-6."""
    expected = list(csv.DictReader(complete.decode().splitlines(keepends=True)))
    for row, other in zip(rows_of(path), expected, strict=True):
        assert {**row, "score": ""} == {**other, "score": ""}
        assert (row["score"] == other["score"] == "") or abs(float(row["score"]) - float(other["score"])) <= 1e-6


@pytest.mark.parametrize("share", [0, 1 / 3])
def test_two_processes_give_the_same_table(checkpoint, clips, complete, tmp_path, share):
    begun = complete[: int(len(complete) * share)]
    (tmp_path / "a.csv").write_bytes(begun)
    lines = [
        "import os, sys, time",
        "from dfa_utils import __main__ as command",
        "from dfa_utils.support import parallel",
        "assert parallel.this_process().num_processes == 2",
        "time.sleep(float(os.environ['RANK']))  # one begins before the other",
        "parallel.SHARE = 8  # so that results come together several times",
        "status = command.main()",
        "sys.exit(status != 1 - int(os.environ['RANK']))  # 1 in the main process: some files failed",
    ]
    (tmp_path / "two.py").write_text("\n".join(lines))
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", tmp_path / "two.py"]
    command = [*launch, "predict", "--resume", "--checkpoint", checkpoint, "--out", tmp_path / "a.csv", str(clips)]
    env = os.environ | {"ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    same_as(tmp_path / "a.csv", complete)
    kept = max(begun.count(b"\r\n") - 1, 0)
    assert done.stdout.count(": uncertain (") + done.stdout.count("error: ") == 60 - kept
