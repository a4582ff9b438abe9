"""SIGKILL at 20 random moments each of a cache fill and of a bulk scoring, continued until done: nothing lost, doubled.

Each kill hits the process at a random moment after its work began; the next call goes on. At the end the cache must
hold every clip exactly, and the table every file once, in order, with the scores of an undisturbed run.
"""

import csv
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch
from common import make_clips, scratch, write

from dfa_utils.audio import load_audio
from dfa_utils.checkpoint import save_checkpoint
from dfa_utils.datasets import cache
from dfa_utils.models import build_model

KILLS, COUNT = 20, 6000
FILL = (
    "import sys; from dfa_utils.dataset import find_unusable; from dfa_utils.datasets.walk import find_audio; "
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


def rows(path: Path) -> list[list[str]]:
    """The rows of a table without its header."""
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.reader(file))[1:]


with scratch() as folder:
    paths = make_clips(folder, COUNT, rate=22_050).path.tolist()  # another rate than the model's: these are cached
    entries = cache.cache_folder()
    at = kill_and_continue(
        [sys.executable, "-c", FILL, folder / "clips"], lambda: sum(1 for _ in entries.glob("??/*.npy")), len(paths)
    )
    count, _ = cache.usage(entries)
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
    write("kills", figures)
    sys.exit(0 if same and untouched and len(pairs) == len(paths) == count else os.EX_SOFTWARE)
