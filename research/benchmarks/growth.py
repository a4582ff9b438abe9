"""Seconds against work, 1x to 8x: number of clips and length of a file; the exponent of the fitted power law."""

import time

import numpy as np
import soundfile
from common import make_clips, scratch, training_state, write

from dfa_utils.audio import load_audio
from dfa_utils.config import Config
from dfa_utils.dataset import ClipDataset, find_unusable, make_loader
from dfa_utils.inference import Detector
from dfa_utils.models import build_model
from dfa_utils.train import train_one_epoch

FACTORS, TURNS = (1, 2, 4, 8), 5


def growth(function) -> dict:
    """Least seconds of function(factor) over the turns, factors in turns; the slope of the line through their logs."""
    best = dict.fromkeys(FACTORS, np.inf)
    for turn in range(TURNS + 1):
        for factor in FACTORS:
            start = time.perf_counter()
            function(factor)
            if turn:
                best[factor] = min(best[factor], time.perf_counter() - start)
    slope = np.polyfit(np.log(FACTORS), np.log(list(best.values())), 1)[0]
    return {"seconds": {f"{factor}x": round(s, 3) for factor, s in best.items()}, "exponent": round(float(slope), 3)}


with scratch() as folder:
    manifest, config = make_clips(folder, 1600), Config()
    training = manifest[manifest.split == "training"]
    paths, detector = training.path.tolist(), Detector(build_model(), {})
    state, batches = training_state(config), {}
    for factor in FACTORS:
        batches[factor] = make_loader(ClipDataset(training[: 80 * factor], config, train=True))
        minute = np.tile(load_audio(paths[0]).numpy(), 30)
        soundfile.write(folder / f"{factor}.wav", np.tile(minute, factor), config.sample_rate)

    write(
        "growth",
        {
            "checking clips (200)": growth(lambda factor: find_unusable(paths[: 200 * factor])),
            "training epoch (80 clips)": growth(lambda factor: train_one_epoch(state, batches[factor])),
            "scoring files (100 clips)": growth(lambda factor: list(detector.predict_files(paths[: 100 * factor]))),
            "one file (1 minute)": growth(lambda factor: detector.predict(folder / f"{factor}.wav")),
        },
    )
