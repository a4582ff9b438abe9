"""Shared by the benchmarks: clips to work on, timing side by side, results as JSON.

Each benchmark is a command: `python research/benchmarks/NAME.py` prints its figures and writes them to
research/benchmarks/results/NAME.json. Times on a shared machine vary, so alternatives are timed in turns and the median
of the turns counts; ratios say more than milliseconds.
"""

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from statistics import median

os.environ["TQDM_DISABLE"] = "1"

import pandas as pd
import soundfile
import torch
from accelerate import Accelerator
from threadpoolctl import threadpool_limits
from torch.optim.lr_scheduler import ConstantLR

from dfa_utils.config import Config
from dfa_utils.models import build_model
from dfa_utils.train import Run, _State

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).parent / "results"
sys.path.append(str(ROOT))  # research and web are not installed


@contextmanager
def scratch():
    """A temporary folder, with an empty cache of decoded clips in it."""
    with tempfile.TemporaryDirectory() as name:
        os.environ["DFA_CACHE"] = str(Path(name) / "cache")
        yield Path(name)


def make_clips(folder: Path, count: int, rate: int = 16_000) -> pd.DataFrame:
    """A manifest of `count` clips (16 bit, 2 s at 16 kHz) for training and 88 for validation: copies of data/toy.

    With another `rate` in Hz the same samples are played faster or slower.
    """
    toy = pd.read_csv(ROOT / "data" / "toy" / "manifest.csv")
    rows = []
    for split, number in (("training", count), ("validation", 88)):
        for i in range(number):
            clip = toy.iloc[i % len(toy)]
            path = folder / "clips" / split / f"{i:06}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / "data" / "toy" / clip.path, path)
            if rate != 16_000:
                soundfile.write(path, soundfile.read(path)[0], rate)
            rows.append((str(path), split, int(clip.label == "fake")))
    return pd.DataFrame(rows, columns=["path", "split", "label"])


def time_in_turns(functions: dict, turns: int = 5) -> dict[str, float]:
    """Median seconds of each function over `turns` rounds, after one round of warming up."""
    seconds = {name: [] for name in functions}
    for turn in range(turns + 1):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return {name: median(values) for name, values in seconds.items()}


@contextmanager
def threads(number: int):
    """Compute on `number` threads, and on as many cores, decoding included (Linux)."""
    before, cores = torch.get_num_threads(), os.sched_getaffinity(0)
    torch.set_num_threads(number)
    _pin(set(sorted(cores)[:number]))
    with threadpool_limits(number):  # of NumPy's libraries, whose idle threads would go on spinning
        yield
    torch.set_num_threads(before)
    _pin(cores)


def _pin(cores: set[int]) -> None:
    """Keep every thread of this process on these cores."""
    for thread in os.listdir("/proc/self/task"):
        os.sched_setaffinity(int(thread), cores)


def training_state(config: Config, precision: str = "fp32") -> _State:
    """A fresh detector with optimizer and schedule, as `fit` makes them, to be given to `train_one_epoch`."""
    accelerator, detector = Accelerator(), build_model(config=config)
    optimizer = torch.optim.AdamW(detector.parameters(), config.learning_rate, weight_decay=config.weight_decay)
    prepared, schedule = accelerator.prepare(detector, optimizer), ConstantLR(optimizer, factor=1)
    return _State(Run(Path()), accelerator, detector, *prepared, schedule, {"precision": precision})


def peak_megabytes(code: str, *arguments) -> float:
    """Peak memory of a fresh Python that runs `code` with sys.argv[1:] = arguments (Linux).

    getrusage would not do: its peak begins with that of the parent process.
    """
    code += "\nprint(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1]) / 1e3


def write(name: str, figures: dict) -> None:
    """Print the figures and keep them, with the machine they were measured on."""
    machine = {
        "processor": getattr(torch.cpu, "get_capabilities", dict)().get("cpu_name", platform.machine()),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    text = json.dumps({"machine": machine, **figures}, indent=1)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(text + "\n")
    print(text)
