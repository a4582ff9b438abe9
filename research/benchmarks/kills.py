"""SIGKILL at 30 random moments each of all work that takes long, continued until done: nothing lost, nothing twice.

Cache fill and bulk scoring are hit at a random moment after their work began; at the end the cache must hold every clip
exactly, and the table every file once, in order, with the scores of an undisturbed run. Toy generation, training,
export and release are hit at any moment of the time that they take undisturbed; the files at the end must equal those
of an undisturbed call.
"""

import csv
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from common import ROOT, make_clips, scratch, write

from dfa_utils import cache
from dfa_utils.audio import load_audio
from dfa_utils.checkpoint import read_tensors, save_checkpoint
from dfa_utils.models import build_model
from dfa_utils.support import PART

KILLS, COUNT = 30, 6000
QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
FILL = (
    "import sys; from dfa_utils.dataset import find_unusable; from dfa_utils.layouts import find_audio; "
    "find_unusable(find_audio(sys.argv[1]))"
)
PREDICT = [sys.executable, "-m", "dfa_utils", "predict", "--resume"]
random.seed(0)


def kill_and_continue(command, progress, total: int) -> list[int]:
    """Kill `command` KILLS times while progress() grows to `total`, then let it finish; the progress at each kill."""
    seen = []
    while len(seen) < KILLS:
        aim = progress() + random.randint(1, max(total // (KILLS + 5), 1))
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while progress() < aim and process.poll() is None:
            time.sleep(0.001)
        time.sleep(random.random() * 0.02)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "finished before it was killed"
        seen.append(progress())
        assert seen == sorted(seen), "something was lost"
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return seen


def tensors(path: Path) -> dict[str, bytes]:
    """The tensors of a checkpoint; its header holds how long epochs took."""
    return {name: value.numpy().tobytes() for name, value in read_tensors(path)[1].items()}


def files(folder: Path, pattern: str) -> dict[str, bytes]:
    """The content of the files in a folder, but those that a kill left half written; of a checkpoint, its tensors."""
    paths = [path for path in sorted(folder.rglob(pattern)) if path.is_file() and path.suffix != PART]
    found = {str(path.relative_to(folder)): path for path in paths}
    return {name: tensors(path) if path.suffix == ".safetensors" else path.read_bytes() for name, path in found.items()}


def small_release(folder: Path) -> Path:
    """A manifest of the toy's clips with enough of them in validation for a band of `uncertain`."""
    table = pd.read_csv(TOY / "manifest.csv")
    number = table.groupby("label").cumcount()
    splits = np.select([number < 16, number < 36], ["training", "validation"], "testing")
    table.assign(path=[str(TOY / path) for path in table.path], split=splits).to_csv(folder / "manifest.csv")
    return folder / "manifest.csv"


TOY = ROOT / "data" / "toy"
WHOLE = {  # the command for a folder, and the files that count
    "toy": (lambda out: ["dfa_utils", "toy", out, "--size", "fixture"], "*"),
    "training": (lambda out: ["dfa_utils", "train", "--data", TOY, "--folder", out], "*.safetensors"),
    "export": (lambda out: ["dfa_utils", "export", "--onnx", out / "a.onnx"], "*"),
    "release": (
        lambda out: [
            *("research.build", "--data", small_release(out.parent)),
            *("--runs", out / "runs", "--out", out),
        ],
        "detector.safetensors",
    ),
}


def kill_anywhere(command, seconds: float) -> None:
    """Kill `command` KILLS times within `seconds` of its start, then let it finish."""
    killed = 0
    while killed < KILLS:
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        time.sleep(random.uniform(0, seconds))
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
    subprocess.run(command, check=True, **QUIET)


def kill_whole(name: str, folder: Path) -> dict:
    """One of WHOLE, undisturbed and killed: whether both wrote the same files, how many, and how long it took."""
    make_command, pattern = WHOLE[name]
    whole, killed = folder / "undisturbed", folder / "killed"
    folder.mkdir()
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", *make_command(whole)], check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - start
    kill_anywhere([sys.executable, "-m", *make_command(killed)], seconds)
    expected, found = files(whole, pattern), files(killed, pattern)
    return {"kills": KILLS, "files": len(expected), "all equal": expected == found}


def rows(path: Path) -> list[list[str]]:
    """The rows of a table without its header."""
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.reader(file))[1:]


with scratch() as folder:
    paths = make_clips(folder, COUNT, rate=22_050).path.tolist()  # not the rate of the model, so these are cached
    entries = cache.cache_folder()
    at = kill_and_continue(
        [sys.executable, "-c", FILL, folder / "clips"], lambda: sum(1 for _ in entries.glob("??/*.npy")), len(paths)
    )
    count = len(cache.find_entries(entries))
    before = sorted((entry, entry.stat().st_mtime_ns) for entry in entries.glob("??/*.npy"))
    same = all(torch.equal(cache.open_clip(path, 16_000), load_audio(path)) for path in paths)
    untouched = before == sorted((entry, entry.stat().st_mtime_ns) for entry in entries.glob("??/*.npy"))
    figures = {"cache: entries when killed": at, "cache: entries, clips": [count, len(paths)]}
    figures["cache: every clip exact, none decoded again"] = same and untouched

    checkpoint = folder / "detector.safetensors"
    save_checkpoint(checkpoint, build_model(), {"threshold": 0.5})
    undisturbed, table = folder / "undisturbed.csv", folder / "killed.csv"
    command = [*PREDICT, "--checkpoint", checkpoint, "--out"]
    subprocess.run([*command, undisturbed, folder / "clips"], check=True, stdout=subprocess.DEVNULL)
    table.touch()
    at = kill_and_continue([*command, table, folder / "clips"], lambda: max(len(rows(table)), 0), len(paths))
    pairs = list(zip(rows(undisturbed), rows(table), strict=True))
    figures["table: rows when killed"] = at
    figures["table: rows, files"] = [len(pairs), len(paths)]
    figures["table: same files in the same order"] = [a[0] for a, _ in pairs] == [b[0] for _, b in pairs]
    figures["table: largest difference of a score"] = max(abs(float(a[1]) - float(b[1])) for a, b in pairs)
    for name in WHOLE:
        figures[name] = kill_whole(name, folder / name)
    write("kills", figures)
    equal = all(figures[name]["all equal"] for name in WHOLE)
    sys.exit(0 if same and untouched and equal and len(pairs) == len(paths) == count else os.EX_SOFTWARE)
