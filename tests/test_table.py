import csv
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile
import torch
from conftest import RATE, hiss, tone

from dfa_utils import Detector, inference
from dfa_utils.audio import AudioError
from dfa_utils.checkpoint import save_checkpoint
from dfa_utils.models import build_model
from dfa_utils.support.table import COLUMNS, HEADER, ScoreTable, TableError, expand, score_files

rng = np.random.default_rng(0)


@pytest.fixture(scope="module")
def checkpoint(tiny_config, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "detector.safetensors"
    save_checkpoint(path, build_model(config=tiny_config), {"threshold": 0.5})
    return path


@pytest.fixture(scope="module")
def detector(checkpoint):
    return Detector.load(checkpoint)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """60 files: usual, short, long, empty, silent, no audio, and with names that a CSV must quote."""
    folder = tmp_path_factory.mktemp("clips")
    for i in range(54):
        soundfile.write(folder / f"{i:02}.wav", hiss(rng, float(rng.choice([0.1, 0.4, 0.5, 1.7]))), RATE)
    (folder / "20 empty.wav").touch()
    (folder / "30 text.wav").write_text("no audio")
    soundfile.write(folder / "40 silent.wav", np.zeros(9_000), RATE)
    soundfile.write(folder / '41 a "quoted", name.wav', tone(rng), RATE)
    soundfile.write(folder / "42 two\nlines.wav", tone(rng), RATE)
    (folder / "43 broken\nname.wav").touch()
    return folder


def score(detector, folder, path, resume=False):
    """One call of the command, in short."""
    paths = expand([folder])
    table = ScoreTable(path, paths, detector, resume)
    return list(table.add(score_files(detector, paths))), table


def rows_of(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def complete(detector, clips, tmp_path_factory):
    path = tmp_path_factory.mktemp("table") / "scores.csv"
    score(detector, clips, path)
    return path.read_bytes()


def test_batches_across_files_change_nothing(detector, clips):
    paths = list(expand([clips]))
    together = list(detector.predict_files(paths, batch_size=7))
    assert [path for path, _ in together] == [str(path) for path in paths]
    for path, result in together:
        if isinstance(result, AudioError):
            with pytest.raises(AudioError, match=re.escape(str(result))):
                detector.predict(path)
        else:
            alone = detector.predict(path)
            assert result.scores == pytest.approx(alone.scores, abs=1e-6)
            assert (result.seconds, result.times.tolist()) == (alone.seconds, alone.times.tolist())


def test_a_file_that_breaks_off_late_does_not_disturb_its_neighbours(detector, clips, tmp_path, monkeypatch):
    original = inference.stream_audio

    def stream(path, rate):
        yield from original(path, rate)
        if path.name == "02.wav":
            raise AudioError("damaged at the end")

    monkeypatch.setattr(inference, "stream_audio", stream)
    results = dict(detector.predict_files(sorted(clips.glob("0?.wav"))))
    assert [isinstance(result, AudioError) for result in results.values()] == [i == 2 for i in range(10)]


def test_results_come_before_all_files_are_read(detector, clips):
    read = []
    paths = (read.append(path) or path for path in clips.glob("0?.wav"))
    next(iter(detector.predict_files(paths, batch_size=2)))
    assert len(read) < 6


def test_many_bad_files_do_not_pile_up(detector, clips, tmp_path):
    read, bad = [], [tmp_path / f"{i}.wav" for i in range(100)]
    paths = (read.append(path) or path for path in [clips / "01.wav", *bad])
    results = detector.predict_files(paths, batch_size=4)
    assert next(results)[0] == str(clips / "01.wav")
    assert len(read) < 10
    assert [isinstance(result, AudioError) for _, result in results] == [True] * 100


def test_a_changed_model_is_scored_as_it_is(tiny_config, clips):
    detector = Detector(build_model(config=tiny_config), {})
    before = detector.predict(clips / "01.wav").score
    detector.model.back_end.head.bias.data += torch.tensor([0.0, 1.0])
    assert detector.predict(clips / "01.wav").score > before + 0.01


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
    assert list(rows[0]) == COLUMNS
    assert [row["path"] for row in rows] == [path for path, _ in results] == [str(path) for path in expand([clips])]
    assert {row["detector"] for row in rows} == {detector.fingerprint}
    assert table.failed == sum(bool(row["error"]) for row in rows) == 4


def test_a_table_is_continued_wherever_it_was_cut(detector, clips, complete, tmp_path):
    path, files = tmp_path / "a.csv", [str(file) for file in expand([clips])]
    for size in [0, 10, len(HEADER), *range(len(HEADER) + 1, len(complete), 97), len(complete) - 1, len(complete)]:
        path.write_bytes(complete[:size])
        results, _ = score(detector, clips, path, resume=True)
        assert [row["path"] for row in rows_of(path)] == files, size
        kept = complete[:size].rpartition(b"\r\n")[0] if size > len(HEADER) else b""
        assert path.read_bytes().startswith(kept)  # what was there stays
        assert [name for name, _ in results] == files[len(files) - len(results) :], size
    assert results == []


@pytest.mark.parametrize(("row", "text"), [(5, b'"'), (5, b"\r\n"), (5, b"a,b\r\n"), (54, b"\r\n")])
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
        "from dfa_utils import __main__ as command, bulk, processes",
        "assert processes.this_process().num_processes == 2",
        "time.sleep(float(os.environ['RANK']))  # one begins before the other",
        "bulk.CHUNK = 8  # so that results come together several times",
        "status = command.main()",
        "sys.exit(status != 1 - int(os.environ['RANK']))  # 1 in the main process: some files failed",
    ]
    (tmp_path / "two.py").write_text("\n".join(lines))
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", tmp_path / "two.py"]
    command = [*launch, "predict", "--resume", "--checkpoint", checkpoint, "--out", tmp_path / "a.csv", str(clips)]
    env = os.environ | {"ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=env, check=True, capture_output=True, text=True)
    same_as(tmp_path / "a.csv", complete)
    kept = max(begun.count(b"\r\n") - 1, 0)
    assert done.stdout.count(" threshold ") + done.stdout.count("error: ") == 60 - kept
