"""Compare kinds of models on the same data, with the same budget: python -m research.model_comparison --data ROOT.

Each model is trained on the augmented clips of training, for the same number of epochs, and scored once on validation
and testing. model_costs.csv gets a row per model and seed with its costs; model_scores.csv.gz a row per clip, and a
column of P(fake) for each model and seed ("NAME SEED"). What is there is not computed again. core_seconds are those
that one core spent on training. With --speeds nothing is trained: all models score the same windows in turn, for the
column clips_per_second, while nothing else should run; then models.csv gets a row per model, with costs and errors.

The rows of the spectrogram transformer and of the conformer are kept; commit 7e0fb69 is the last that trains them.
"""

import argparse
import sys
import time
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.utils.flop_counter import FlopCounterMode

from dfa_utils import metrics
from dfa_utils.checkpoint import load_checkpoint, runs_folder
from dfa_utils.config import Config
from dfa_utils.dataset import scan
from dfa_utils.evaluation import score_clips
from dfa_utils.inference import Detector
from dfa_utils.models import build_model, count_parameters
from research.compare import interval
from research.recipes import PLAIN, augmented, fit_all_epochs
from research.tables import RESULTS, names_of, read_table, write_table

MODELS = {
    "CNN": PLAIN,
    "MobileNetV3": replace(PLAIN, model="timm:mobilenetv3_small_050"),
    "SE-ResNet-18": replace(PLAIN, model="timm:legacy_seresnet18"),
    "ViT tiny": replace(PLAIN, model="timm:vit_tiny_patch16_224", learning_rate=5e-4),  # attention needs a lower rate
}
CLIP = ["path", "split", "label", "system", "speaker", "heard"]
WINDOWS, ROUNDS = 32, 9  # windows of the batch that is timed, and how often


def main(arguments=None) -> int:
    """Train and score what the two tables lack, or measure how fast the models are."""
    options = parser().parse_args(arguments)
    out = Path(options.out)
    costs = _read(out / "model_costs.csv", pd.DataFrame(columns=["model", "seed"]))
    costs = with_speeds(costs) if options.speeds else train_all(options, costs, out)
    write_table(out / "model_costs.csv", costs, "%.9g")
    print(costs.to_string(index=False))
    if options.speeds:
        table = comparison(costs, read_table(out / "model_scores.csv.gz"))
        write_table(out / "models.csv", table, index=True)
        print(table.to_string())
    return 0


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    top = argparse.ArgumentParser("python -m research.model_comparison", description="Kinds of models, same data.")
    what = top.add_mutually_exclusive_group(required=True)
    what.add_argument("--data", metavar="ROOT", help="a data set with the three splits, to train on")
    what.add_argument("--speeds", action="store_true", help="measure clips_per_second instead, with one thread")
    top.add_argument("--out", default=RESULTS, metavar="FOLDER", help="for the tables (default: research/results)")
    top.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS), metavar="NAME")
    top.add_argument("--seeds", nargs="+", type=int, default=[0])
    return top


def train_all(options: argparse.Namespace, costs: pd.DataFrame, out: Path) -> pd.DataFrame:
    """`costs` with a row for each of the models and seeds; the scores are written after each training."""
    manifest = scan(options.data)
    judged = manifest[manifest.split != "training"]
    known = set(manifest.system[manifest.split == "training"]) - {""}
    heard = judged.system.isin(known) & (judged.label == 1)
    clips = judged.assign(path=names_of(judged, Path(options.data)), heard=heard)[CLIP].reset_index(drop=True)
    scores = _read(out / "model_scores.csv.gz", clips)
    for seed, name in product(options.seeds, options.models):
        if ((costs.model == name) & (costs.seed == seed)).any():
            continue
        row, column = try_model(augmented(replace(MODELS[name], seed=seed)), manifest, judged)
        scores[f"{name} {seed}"] = column
        costs = pd.concat([costs, pd.DataFrame([{"model": name, "seed": seed, **row}])], ignore_index=True)
        write_table(out / "model_scores.csv.gz", scores)
        write_table(out / "model_costs.csv", costs, "%.9g")
    return costs


def try_model(config: Config, manifest: pd.DataFrame, judged: pd.DataFrame) -> tuple[dict, list[float]]:
    """The model's costs, and its P(fake) for each of the `judged` clips; it is trained if there is no such run yet."""
    start = time.process_time()
    checkpoint = fit_all_epochs(config, manifest, runs_folder() / "vision")
    busy = time.process_time() - start
    model = load_checkpoint(checkpoint)[0]
    row = {"parameters": count_parameters(model), "macs": count_macs(model), "core_seconds": round(busy)}
    return row, score_clips(Detector(model, {}), judged).score.round(4).tolist()


def count_macs(model: torch.nn.Module) -> int:
    """Multiply-accumulate operations of the networks for one window; the spectrogram is not counted."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model.eval()(torch.randn(1, model.config.clip_samples))
    return counter.get_total_flops() // 2


def with_speeds(costs: pd.DataFrame) -> pd.DataFrame:
    """`costs` with clips_per_second of the models in MODELS."""
    models = {name: build_model(config=MODELS[name]) for name in costs.model.unique() if name in MODELS}
    speeds = costs.model.map(measure_speeds(models)).round()
    return costs.assign(clips_per_second=speeds.fillna(costs.get("clips_per_second")))


def measure_speeds(models: dict[str, torch.nn.Module]) -> dict[str, float]:
    """Windows a second of each model on one thread, spectrogram included, decoding not: the median of ROUNDS batches.

    The models take turns, so whatever else happens on the machine hits them alike.
    """
    torch.set_num_threads(1)
    waves = 0.1 * torch.randn(WINDOWS, PLAIN.clip_samples, generator=torch.Generator().manual_seed(0))
    took: dict[str, list[float]] = {name: [] for name in models}
    for _, name in product(range(ROUNDS), models):
        model = models[name].eval()
        start = time.perf_counter()
        with torch.inference_mode():
            model(waves)
        took[name].append(time.perf_counter() - start)
    return {name: WINDOWS / float(np.median(times)) for name, times in took.items()}


def comparison(costs: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """One row per model, the lowest error on new systems first, from the two tables.

    parameters, macs (of one window), core_minutes of training and clips_per_second are its costs; seeds, how often it
    was trained. new: mean EER over the seeds on the reals of validation and its fakes by systems that training lacks;
    testing: that on testing; each with its 95 % interval by speaker and system (_low, _high).
    """
    unheard = (scores.split == "validation") & ~scores.heard
    parts = {"new": scores[unheard], "testing": scores[scores.split == "testing"]}
    rows = costs.groupby("model").agg(
        parameters=("parameters", "first"),
        macs=("macs", "first"),
        core_minutes=("core_seconds", lambda seconds: seconds.mean() / 60),
        clips_per_second=("clips_per_second", "first"),
        seeds=("seed", "size"),
    )
    for name, model in product(parts, rows.index):
        own = [column for column in scores if column.rsplit(" ", 1)[0] == model]

        def rate(part: pd.DataFrame, own: list[str] = own) -> float:
            """The mean over the seeds of their EER."""
            return float(np.mean([metrics.eer_rate(part.label, part[column]) for column in own]))

        rows.loc[model, name] = rate(parts[name])
        rows.loc[model, [f"{name}_low", f"{name}_high"]] = interval(parts[name], rate, n=200)
    return rows.sort_values("new")


def _read(path: Path, empty: pd.DataFrame) -> pd.DataFrame:
    return read_table(path) if path.exists() else empty


if __name__ == "__main__":
    sys.exit(main())
