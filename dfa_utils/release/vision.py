"""Kinds of models on the same data, with the same budget: python -m dfa_utils.release.vision --data ROOT --out FOLDER.

Each model is trained on training, augmented, for the same epochs; validation, of which most systems and all pages of
its later parts are new, is what was left out. FOLDER gets models.csv, a row a model and seed: what it costs, all times
those for which one core is busy, so that other work on the machine does not count; and model_scores.csv, a row a clip
of validation and testing, and a column of P(fake) for each model and seed ("NAME SEED"). What is there is not computed
again.
"""

import argparse
import sys
import time
from dataclasses import replace
from itertools import product
from pathlib import Path

import pandas as pd
import torch
from torch.utils.flop_counter import FlopCounterMode

from dfa_utils.analysis.crossval import fit_all_epochs
from dfa_utils.checkpoint import load_checkpoint, runs_folder
from dfa_utils.config import Config
from dfa_utils.dataset import scan
from dfa_utils.evaluation import score_clips
from dfa_utils.inference import Detector
from dfa_utils.models import count_parameters
from dfa_utils.release.compare import names_of
from dfa_utils.release.recipes import PLAIN, augmented
from dfa_utils.support.files import write_atomically

GENTLE = replace(PLAIN, learning_rate=5e-4)  # attention does not stand the CNN's rate
MODELS = {
    "CNN": PLAIN,
    "spectrogram transformer": replace(GENTLE, model="ast", width=96, depth=3),
    "conformer": replace(GENTLE, model="conformer", channels=(16, 16), width=64, depth=2),
    "MobileNetV3": replace(PLAIN, model="timm:mobilenetv3_small_050"),
    "EfficientNet-B0": replace(PLAIN, model="timm:efficientnet_b0"),
    "SE-ResNet-18": replace(PLAIN, model="timm:legacy_seresnet18"),
    "ViT tiny": replace(GENTLE, model="timm:vit_tiny_patch16_224"),
}
CLIP = ["path", "split", "label", "system", "speaker"]


def main(arguments=None) -> int:
    """Train, score and measure what the two tables lack."""
    options = parser().parse_args(arguments)
    out, manifest = Path(options.out), scan(options.data)
    judged = manifest[manifest.split != "training"]
    clips = judged.assign(path=names_of(judged, Path(options.data)))[CLIP].reset_index(drop=True)
    costs = _read(out / "models.csv", pd.DataFrame(columns=["model", "seed"]))
    scores = _read(out / "model_scores.csv", clips)
    for seed, name in product(options.seeds, options.models):
        if ((costs.model == name) & (costs.seed == seed)).any():
            continue
        row, column = try_model(augmented(replace(MODELS[name], seed=seed)), manifest, judged)
        scores[f"{name} {seed}"] = column
        costs = pd.concat([costs, pd.DataFrame([{"model": name, "seed": seed, **row}])], ignore_index=True)
        write_atomically(out / "model_scores.csv", scores.to_csv(index=False, float_format="%.4f").encode())
        write_atomically(out / "models.csv", costs.to_csv(index=False).encode())
    print(costs.to_string(index=False))
    return 0


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    top = argparse.ArgumentParser("python -m dfa_utils.release.vision", description="Kinds of models, same data.")
    top.add_argument("--data", required=True, metavar="ROOT", help="a data set with the three splits")
    top.add_argument("--out", required=True, metavar="FOLDER", help="where the two tables go")
    top.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS), metavar="NAME")
    top.add_argument("--seeds", nargs="+", type=int, default=[0])
    return top


def try_model(config: Config, manifest: pd.DataFrame, judged: pd.DataFrame) -> tuple[dict, list[float]]:
    """What the model costs, and its P(fake) for each of the `judged` clips; trained if there is no such run yet."""
    start = time.process_time()
    checkpoint = fit_all_epochs(config, manifest, runs_folder() / "vision")
    trained = time.process_time() - start
    model = load_checkpoint(checkpoint)[0]
    start = time.process_time()
    column = score_clips(Detector(model, {}), judged).score.tolist()
    speed = len(judged) / (time.process_time() - start)
    row = {"parameters": count_parameters(model), "macs": count_macs(model), "train_seconds": round(trained)}
    return row | {"clips_per_second": round(speed)}, column


def count_macs(model: torch.nn.Module) -> int:
    """Multiplications with an addition that the network takes for one window; the spectrogram is not counted."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model.eval()(torch.randn(1, model.config.clip_samples))
    return counter.get_total_flops() // 2


def _read(path: Path, empty: pd.DataFrame) -> pd.DataFrame:
    return pd.read_csv(path, keep_default_na=False) if path.exists() else empty


if __name__ == "__main__":
    sys.exit(main())
