"""What 10,000 predictions leave behind: open files, threads, temporary files and memory, after every 1,000 (Linux).

`resources.py [--predictions N] [--checkpoint FILE]`: files of several formats; one in ten is refused.
"""

import argparse
import os
import tempfile
from pathlib import Path

import numpy as np
import soundfile
from common import scratch, write

from dfa_utils.audio import AudioError
from dfa_utils.inference import Detector


def state() -> dict[str, float]:
    """The open files, threads, temporary files and memory of this process."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {
        "open files": len(os.listdir("/proc/self/fd")),
        "threads": int(status["Threads"]),
        "temporary files": len(os.listdir(tempfile.gettempdir())),
        "memory (MB)": round(int(status["VmRSS"].split()[0]) / 1e3, 1),
    }


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--predictions", type=int, default=10_000)
parser.add_argument("--checkpoint", help="default: the weights of the package")
options = parser.parse_args()
detector, rng = Detector.load(options.checkpoint), np.random.default_rng(0)
with scratch() as folder:
    (folder / "temporary").mkdir()
    tempfile.tempdir = str(folder / "temporary")  # others leave their files in the system's
    paths = [folder / f"{i}.{suffix}" for i, suffix in enumerate(["wav", "flac", "mp3", "ogg", "wav"] * 2)]
    for path, rate in zip(paths, (16_000, 44_100) * 5, strict=True):
        soundfile.write(path, 0.1 * rng.standard_normal(rate), rate)
    paths[-1].write_bytes(b"RIFF, but no audio")
    table = {}
    for number in range(1, options.predictions + 1):
        try:
            detector.predict(paths[number % len(paths)])
        except AudioError:
            continue
        if number % (options.predictions // 10) == 1:
            table[number] = state()
write("resources", {"after": table})
