"""Recipes against each other: python -m dfa_utils.lab.compare --data ROOT --out CSV.

Each recipe is trained without some systems, speakers and pages, and judged on these alone, once clean and once
damaged. A row of the CSV is one (recipe, seed, fold). Rows that are there are not computed again, and a training that
was stopped goes on where it was.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from dfa_utils import metrics
from dfa_utils.checkpoint import load_checkpoint, runs_folder
from dfa_utils.crossval import fit_all_epochs, left_in, make_folds
from dfa_utils.data import scan
from dfa_utils.evaluate import score_clips
from dfa_utils.files import write_atomically
from dfa_utils.lab.recipes import RECIPES
from dfa_utils.models import Ensemble, count_parameters
from dfa_utils.robustness import score_conditions

DAMAGE = [("noise", 10), ("mp3", 64), ("telephone", 8), ("rerecording", 0.3)]  # a clip goes through one of them
KEY = ["recipe", "seed", "fold"]


def main(arguments=None) -> int:
    """Compute the rows that the CSV lacks, and print the mean of each recipe."""
    options = parser().parse_args(arguments)
    manifest = scan(options.data, splits=("training", "validation"))
    manifest = manifest[manifest.split != "testing"].reset_index(drop=True)
    page = options.page if options.page in manifest else None
    numbers = make_folds(manifest, options.folds, page=page)
    out, folder = Path(options.out), Path(options.runs or runs_folder() / "compare")
    for seed in options.seeds:
        for fold in range(options.folds):
            for recipe in options.recipes:
                compare(manifest, numbers, recipe, seed, fold, out, folder)
    print(summary(pd.read_csv(out)).to_string(float_format="{:.3f}".format))
    return 0


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    top = argparse.ArgumentParser("python -m dfa_utils.lab.compare", description="Recipes on systems they never heard.")
    top.add_argument("--data", required=True, metavar="ROOT", help="a data set that names systems and speakers")
    top.add_argument(
        "--out", required=True, metavar="CSV", help="one row a recipe, seed and fold; its scores beside it"
    )
    top.add_argument("--recipes", nargs="+", choices=list(RECIPES), default=list(RECIPES), metavar="NAME")
    top.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    top.add_argument("--folds", type=int, default=3)
    top.add_argument("--page", default="source_repo", help="column that names where a clip comes from, if there is one")
    top.add_argument("--runs", metavar="FOLDER", help="where the training runs lie (default: below $DFA_RUNS)")
    return top


def compare(
    manifest: pd.DataFrame, numbers: pd.Series, recipe: str, seed: int, fold: int, out: Path, folder: Path
) -> None:
    """Add the row of one recipe, seed and fold to the CSV, and its scores to that beside it, unless they are there."""
    rows = pd.read_csv(out) if out.exists() else pd.DataFrame(columns=KEY)
    if ((rows.recipe == recipe) & (rows.seed == seed) & (rows.fold == fold)).any():
        return
    training, unheard = left_in(manifest, numbers, fold), manifest[numbers == fold]
    clips = pd.concat([training.assign(split="training"), unheard.assign(split="validation")])
    configs = [replace(config, seed=seed) for config in RECIPES[recipe]]
    runs = [fit_all_epochs(config, clips, folder / f"fold{fold}") for config in configs]
    model = Ensemble([load_checkpoint(run)[0] for run in runs])
    scores = score_clips(model, unheard).assign(damaged=damaged_scores(model, unheard))
    names = dict(zip(KEY, (recipe, seed, fold), strict=True))
    row = names | figures(scores) | {"parameters": count_parameters(model)}
    table = out.with_name(f"{out.stem}_scores.csv")
    known = [pd.read_csv(table, keep_default_na=False)] if table.exists() else []
    kept = scores[["path", "label", "system", "speaker", "score", "damaged"]].assign(**names)
    write(table, pd.concat([*known, kept]))
    write(out, pd.concat([rows, pd.DataFrame([row])]))


def damaged_scores(model: Ensemble, clips: pd.DataFrame) -> np.ndarray:
    """P(fake) [N] of clips that went through noise, MP3, a telephone or a loudspeaker, one after the other."""
    scores = np.empty(len(clips))
    for i, condition in enumerate(DAMAGE):
        scores[i :: len(DAMAGE)] = score_conditions(model, clips.path.iloc[i :: len(DAMAGE)], [condition])[0]
    return scores


def figures(scores: pd.DataFrame) -> dict[str, float]:
    """EER and AUC of the scores, and the EER of the damaged clips' scores; in [0, 1]."""
    return {
        "eer": metrics.eer_rate(scores.label, scores.score),
        "auc": metrics.roc_auc(scores.label, scores.score),
        "damaged_eer": metrics.eer_rate(scores.label, scores.damaged),
        "clips": len(scores),
    }


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean over seeds and folds of each recipe, and the lowest and highest of its seeds' means; best EER first."""
    seeds = rows.groupby(["recipe", "seed"])[["eer", "damaged_eer"]].mean().reset_index()
    table = seeds.groupby("recipe").agg(
        eer=("eer", "mean"),
        low=("eer", "min"),
        high=("eer", "max"),
        damaged=("damaged_eer", "mean"),
        seeds=("eer", "size"),
    )
    return table.sort_values("eer")


def write(path: Path, table: pd.DataFrame) -> None:
    """The table as CSV, atomically."""
    write_atomically(path, table.to_csv(index=False, float_format="%.6g").encode(errors="backslashreplace"))


if __name__ == "__main__":
    sys.exit(main())
