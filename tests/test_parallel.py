import os
import subprocess
import sys
import time

import pytest
import soundfile
from conftest import RATE, tone
from numpy.random import default_rng

from dfa_utils.support import UNDER_WAY, map_in_threads, share_between_processes


def test_results_come_in_order_and_not_all_at_once():
    begun = []

    def items():
        for i in range(3 * UNDER_WAY):
            begun.append(i)
            yield i

    results = map_in_threads(lambda i: i * i, items(), "")
    assert next(results) == 0
    assert len(begun) == UNDER_WAY
    assert list(results) == [i * i for i in range(1, 3 * UNDER_WAY)]


def test_an_error_in_a_thread_is_raised():
    with pytest.raises(ZeroDivisionError):
        list(map_in_threads(lambda i: 1 // i, [1, 0, 2], ""))


def test_one_process_shares_with_nobody():
    taken = []
    results = share_between_processes(lambda items: (taken.append(i) or -i for i in items), iter(range(5)))
    assert next(results) == 0
    assert taken == [0]
    assert list(results) == [-1, -2, -3, -4]


SCRIPT = """
import sys
import pandas as pd
from dfa_utils import Config, Detector, build_model
from dfa_utils.audio import AudioError
from dfa_utils.evaluation import score_clips
from dfa_utils.support import gather_in_order, my_share, share_between_processes, this_process
state = this_process()
assert state.num_processes == 2
assert gather_in_order([i * i for i in my_share(list(range(7)))]) == [i * i for i in range(7)]
shared = list(share_between_processes(lambda items: (-i for i in items), range(200 if state.is_main_process else 0)))
assert shared == ([-i for i in range(200)] if state.is_main_process else [])
good, bad = sys.argv[1:]
manifest = pd.DataFrame({"path": [good, bad, good], "label": [0, 1, 1]})
detector = Detector(build_model(config=Config(clip_seconds=0.4, channels=(4, 8))), {})
try:
    score_clips(detector, manifest)
except AudioError as error:
    assert error.kind == "missing" and bad in str(error)
else:
    sys.exit("no error")
assert len(score_clips(detector, manifest[manifest.path == good])) == 2
state.wait_for_everyone()
state.destroy_process_group()
"""


def test_a_clip_that_fails_in_one_process_fails_in_all_and_leaves_none_waiting(tmp_path):
    soundfile.write(tmp_path / "good.wav", tone(default_rng(0)), RATE)
    (tmp_path / "script.py").write_text(SCRIPT)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command = [*launch, tmp_path / "script.py", tmp_path / "good.wav", tmp_path / "bad.wav"]
    env = os.environ | {"ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1"}
    subprocess.run(command, check=True, env=env, timeout=100)


LEAVING = """
from pathlib import Path
from dfa_utils.support import gather_in_order, this_process
this_process()
import torchcodec  # as the first compressed file does
gather_in_order([1])
this_process().destroy_process_group()
names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
assert "pt_gloo_runloop" not in names, names
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only here can threads be looked up by name")
def test_no_thread_of_the_group_is_left_to_meet_the_end_of_the_interpreter(tmp_path):
    (tmp_path / "two.py").write_text(LEAVING)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", tmp_path / "two.py"]
    done = subprocess.run(launch, env=os.environ | {"ACCELERATE_USE_CPU": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_after_an_error_no_thread_goes_on():
    begun, ended = [], []

    def work(number):
        begun.append(number)
        if number == 0:
            raise ValueError("the first one fails")
        time.sleep(0.05)
        ended.append(number)

    with pytest.raises(ValueError, match="the first one fails"):
        list(map_in_threads(work, range(1_000), "failing"))
    assert len(begun) < 500
    assert sorted(ended) == sorted(begun)[1:]
