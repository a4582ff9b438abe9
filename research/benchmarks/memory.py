"""Peak memory of a process against the number of clips and the length of a file; 70,000 files through the cache."""

import shutil
import time

import numpy as np
import soundfile
from common import make_clips, peak_megabytes, scratch, write

from dfa_utils.audio import load_audio
from dfa_utils.cache import cache_folder, find_entries
from dfa_utils.checkpoint import save_checkpoint
from dfa_utils.models import build_model

PREDICT = """
import sys, itertools
from dfa_utils import Detector
from dfa_utils.layouts import expand
detector = Detector.load(sys.argv[1])
for _ in detector.predict_files(itertools.islice(expand([sys.argv[2]]), int(sys.argv[3]))): pass
"""
CACHE = """
import sys
from dfa_utils.cache import open_clip
from dfa_utils.layouts import find_audio
from dfa_utils.support import map_in_threads
paths = find_audio(sys.argv[1])[: int(sys.argv[2])]
for _ in map_in_threads(lambda path: open_clip(path, 16_000), paths, ""): pass
"""

with scratch() as folder:
    wave = load_audio(make_clips(folder, 2000).path[0]).numpy()
    checkpoint = folder / "detector.safetensors"
    save_checkpoint(checkpoint, build_model(), {"threshold": 0.5})
    figures = {"predict, clips (MB)": {}, "predict, one file (MB)": {}, "cache, files of 0.1 s (MB)": {}}
    for count in (250, 500, 1000, 2000):
        figures["predict, clips (MB)"][count] = round(peak_megabytes(PREDICT, checkpoint, folder / "clips", count))
    for minutes in (7.5, 15, 30, 60):
        long = folder / "long" / "long.wav"
        long.parent.mkdir(exist_ok=True)
        soundfile.write(long, np.tile(wave, int(30 * minutes)), 16_000)
        figures["predict, one file (MB)"][f"{minutes} min"] = round(peak_megabytes(PREDICT, checkpoint, long.parent, 1))
    many = folder / "many"
    soundfile.write(folder / "short.wav", wave[:2205], 22_050)
    for i in range(70_000):
        part = many / f"{i // 1000:02}"
        part.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / "short.wav", part / f"{i % 1000:03}.wav")
    shutil.rmtree(cache_folder(), ignore_errors=True)
    for count in (7_000, 70_000):
        start = time.perf_counter()
        figures["cache, files of 0.1 s (MB)"][count] = round(peak_megabytes(CACHE, many, count))
        seconds = time.perf_counter() - start
    sizes = [entry.stat().st_size for entry in find_entries(cache_folder())]
    figures["cache, 70,000 files: entries, MB"] = [len(sizes), round(sum(sizes) / 1e6)]
    figures["cache, fill of the last 63,000 (s)"] = round(seconds)
    start = time.perf_counter()
    peak_megabytes(CACHE, many, 70_000)
    figures["cache, reading 70,000 (s)"] = round(time.perf_counter() - start)
    write("memory", figures)
