"""Scoring 2 s clips with the default CNN: from files (decode included) and from memory; threads and batch size.

Beside it the released detector on the same clips, in torch, and exported to ONNX by web/without_torch.py.
"""

import torch
from common import make_clips, scratch, threads, time_in_turns, write

from dfa_utils.audio import load_audio
from dfa_utils.config import Config
from dfa_utils.export import export_onnx
from dfa_utils.inference import Detector
from dfa_utils.models import build_model, fuse_for_scoring
from web.without_torch import Detector as ExportedDetector

COUNT, config = 512, Config()
RELEASED = "time, released detector / default CNN"


def score(scorer, batches):
    """Logits of batches of windows [B, T]."""
    with torch.inference_mode():
        return [scorer(batch) for batch in batches]


with scratch() as folder:
    paths = make_clips(folder, COUNT).path[:COUNT].tolist()
    waves = [load_audio(path) for path in paths]
    detector, scorer = Detector(build_model(), {}), fuse_for_scoring(build_model())
    released = Detector.load()
    fused, file = fuse_for_scoring(released.model), export_onnx(released, folder / "a.onnx")
    figures = {}
    for number in (1, 2):
        with threads(number):
            ways = {}
            for size in (1, 32):
                setting = f"{number} thread{'s'[: number - 1]}, batch {size}"
                ways[f"files, {setting}"] = lambda size=size: list(detector.predict_files(paths, size))
                batches = torch.stack(waves).split(size)
                ways[f"memory, {setting}"] = lambda batches=batches: score(scorer, batches)
            ways[f"released detector, {setting}"] = lambda: list(released.predict_files(paths))
            exported = ExportedDetector(file)
            one_by_one = f"exported, {number} thread{'s'[: number - 1]}, file by file"
            ways[one_by_one] = lambda exported=exported: [exported.predict(path) for path in paths]
            ways[RELEASED] = lambda batches=batches: score(fused, batches)  # those of 32
            taken = time_in_turns(ways)
            ratio = taken.pop(RELEASED) / taken[f"memory, {number} thread{'s'[: number - 1]}, batch 32"]
            figures[f"{RELEASED}, {number} thread{'s'[: number - 1]}"] = round(ratio, 2)
            for name, seconds in taken.items():
                figures[f"{name} (clips a second)"] = round(COUNT / seconds)
                figures[f"{name} (times real time)"] = round(COUNT * config.clip_seconds / seconds)
    write("scoring", figures)
