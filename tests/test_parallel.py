"""Threads and processes: every result once, in order, and an error leaves nobody waiting."""

import csv
import os
import subprocess
import sys
import time

import pytest
import soundfile
from conftest import RATE, ROOT, tone
from numpy.random import default_rng

from dfa_utils import Detector, build_model
from dfa_utils.checkpoint import save_checkpoint
from dfa_utils.layouts import expand
from dfa_utils.support import AHEAD, ScoreTable, map_in_threads, share_between_processes


def test_results_come_in_order_and_not_all_at_once():
    begun = []

    def items():
        for i in range(3 * AHEAD):
            begun.append(i)
            yield i

    results = map_in_threads(lambda i: i * i, items(), "")
    assert next(results) == 0
    assert len(begun) == AHEAD
    assert list(results) == [i * i for i in range(1, 3 * AHEAD)]


def test_an_error_in_a_thread_is_raised_when_all_that_began_have_ended():
    begun, ended = [], []

    def work(number):
        begun.append(number)
        if number == 0:
            raise ValueError("the first one fails")
        time.sleep(0.05)
        ended.append(number)

    with pytest.raises(ValueError, match="the first one fails"):
        list(map_in_threads(work, range(20), "failing"))
    assert sorted(ended) == sorted(begun)[1:]


def test_one_process_shares_with_nobody():
    taken = []
    results = share_between_processes(lambda items: (taken.append(i) or -i for i in items), iter(range(5)))
    assert next(results) == 0
    assert taken == [0]
    assert list(results) == [-1, -2, -3, -4]


TWO = """
import sys
from pathlib import Path
import pandas as pd
from dfa_utils import AudioError, Detector, support
from dfa_utils.__main__ import main
from dfa_utils.evaluation import score_clips
from dfa_utils.support import gather_in_order, my_share, share_between_processes, this_process

good, bad, checkpoint, table, clips = sys.argv[1:]
state = this_process()
assert state.num_processes == 2
for count in (7, 8, 1, 0):
    assert gather_in_order([i * i for i in my_share(list(range(count)))]) == [i * i for i in range(count)]
support.SHARE = 8  # so that results come together several times
shared = list(share_between_processes(lambda items: (-i for i in items), range(200 if state.is_main_process else 0)))
assert shared == ([-i for i in range(200)] if state.is_main_process else [])

detector = Detector.load(checkpoint)
manifest = pd.DataFrame({"path": [good, bad, good], "label": [0, 1, 1]})
try:
    score_clips(detector, manifest)
except AudioError as error:
    assert error.kind == "missing" and bad in str(error)
else:
    sys.exit("no error")
assert len(score_clips(detector, manifest[manifest.path == good])) == 2

status = main(["predict", "--resume", "--checkpoint", checkpoint, "--out", table, clips])
assert status == int(state.is_main_process)  # some files failed, as the main process knows
if Path("/proc/self/task").is_dir():
    names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    assert "pt_gloo_runloop" not in names, names  # such a thread would meet the end of the interpreter
"""


def test_two_processes_share_clips_and_errors_write_one_table_and_end(tiny_config, clips, tmp_path):
    run, whole, begun = tmp_path / "best.safetensors", tmp_path / "whole.csv", tmp_path / "begun.csv"
    save_checkpoint(run, build_model(config=tiny_config), {"threshold": 0.5})
    detector = Detector.load(run)
    table = ScoreTable(whole, detector.fingerprint)
    for path, result in detector.predict_files(expand([clips])):
        table.add(path, result)
    complete = whole.read_bytes()
    begun.write_bytes(complete[: len(complete) // 3])
    soundfile.write(tmp_path / "good.wav", tone(default_rng(0)), RATE)
    (tmp_path / "two.py").write_text(TWO)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", tmp_path / "two.py"]
    env = os.environ | {"ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    arguments = [tmp_path / "good.wav", tmp_path / "bad.wav", run, begun, clips]
    done = subprocess.run([*launch, *arguments], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    kept = complete[: len(complete) // 3].count(b"\r\n") - 1
    assert done.stdout.count(": uncertain (") + done.stdout.count("error: ") == 60 - kept
    same_rows(begun, whole)


def same_rows(path, other):
    """The same rows in the same order, scores within 1e-6: batches differ."""
    with open(path, newline="", encoding="utf-8") as a, open(other, newline="", encoding="utf-8") as b:
        for row, expected in zip(csv.DictReader(a), csv.DictReader(b), strict=True):
            score, truth = row.pop("score"), expected.pop("score")
            assert row == expected
            assert score == truth == "" or float(score) == pytest.approx(float(truth), abs=1e-6)
