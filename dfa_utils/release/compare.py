"""Recipes against each other: python -m dfa_utils.release.compare --data ROOT --out CSV.

Each recipe is trained without some systems, speakers and pages, and judged on these alone, once clean and once
damaged. A row of the CSV is one (recipe, seed, fold); the clips' scores stand beside it in NAME_scores.csv, a column
for each (recipe, seed), clean and damaged. Rows that are there are not computed again, and a training that was stopped
goes on where it was.
"""

import argparse
import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from dfa_utils import metrics
from dfa_utils.analysis.crossval import fit_all_epochs, left_in, make_folds
from dfa_utils.analysis.robustness import score_conditions
from dfa_utils.checkpoint import load_checkpoint, runs_folder
from dfa_utils.dataset import scan
from dfa_utils.evaluate import score_clips
from dfa_utils.models import Ensemble, count_parameters
from dfa_utils.release.recipes import RECIPES
from dfa_utils.support.files import write_atomically

DAMAGE = [("noise", 10), ("mp3", 64), ("telephone", 8), ("rerecording", 0.3)]  # a clip goes through one of them
KEY = ["recipe", "seed", "fold"]
CLIP = ["path", "label", "system", "speaker", "fold"]  # columns of the table of scores, before those of the recipes


def main(arguments=None) -> int:
    """Compute the rows that the CSV lacks, and print the mean of each recipe."""
    options = parser().parse_args(arguments)
    manifest = scan(options.data, splits=("training", "validation"))
    manifest = manifest[manifest.split != "testing"].reset_index(drop=True)
    page = options.page if options.page in manifest else None
    numbers = make_folds(manifest, options.folds, page=page)
    out, folder = Path(options.out), Path(options.runs or runs_folder() / "compare")
    clips = manifest.assign(path=names_of(manifest, Path(options.data)), fold=numbers)[CLIP]
    for seed in options.seeds:
        for fold in range(options.folds):
            for recipe in options.recipes:
                if not known(out, recipe, seed, fold):
                    scores, parameters = judge(manifest, numbers, recipe, seed, fold, folder)
                    add_scores(out.with_name(f"{out.stem}_scores.csv"), clips, f"{recipe} {seed}", scores)
                    add_row(out, dict(zip(KEY, (recipe, seed, fold), strict=True)) | figures(scores) | parameters)
    print(summary(pd.read_csv(out)).to_string(float_format="{:.3f}".format))
    return 0


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    top = argparse.ArgumentParser(
        "python -m dfa_utils.release.compare", description="Recipes on systems they never heard."
    )
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


def known(out: Path, recipe: str, seed: int, fold: int) -> bool:
    """Whether the CSV has the row."""
    rows = pd.read_csv(out) if out.exists() else pd.DataFrame(columns=KEY)
    return bool(((rows.recipe == recipe) & (rows.seed == seed) & (rows.fold == fold)).any())


def judge(
    manifest: pd.DataFrame, numbers: pd.Series, recipe: str, seed: int, fold: int, folder: Path
) -> tuple[pd.DataFrame, dict[str, int]]:
    """The fold's clips with the columns score and damaged, by a detector that never heard their like; and its size."""
    training, unheard = left_in(manifest, numbers, fold), manifest[numbers == fold]
    clips = pd.concat([training.assign(split="training"), unheard.assign(split="validation")])
    runs = [fit_all_epochs(config, clips, folder / f"fold{fold}") for config in RECIPES[recipe].members(seed)]
    model = Ensemble([load_checkpoint(run)[0] for run in runs], RECIPES[recipe].roles)
    scores = score_clips(model, unheard).assign(damaged=damaged_scores(model, unheard))
    return scores, {"parameters": count_parameters(model)}


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


def names_of(manifest: pd.DataFrame, root: Path) -> list[str]:
    """The clips' paths below `root`, with forward slashes."""
    return [Path(os.path.relpath(path, root)).as_posix() for path in manifest.path]


def add_scores(path: Path, clips: pd.DataFrame, name: str, scores: pd.DataFrame) -> None:
    """Put the scores, clean and damaged, into the columns `name` of the table of all clips, and save it.

    `scores` has the index of its clips in `clips`. Raises ValueError where the file is of other clips or folds.
    """
    table = pd.read_csv(path, keep_default_na=False) if path.exists() else clips
    if list(table.path) != list(clips.path) or list(table.fold) != list(clips.fold):
        raise ValueError(f"{path} holds the scores of other clips or folds; choose another name")
    table = table.set_axis(clips.index)
    for column, values in ((name, scores.score), (f"{name} damaged", scores.damaged)):
        table[column] = pd.to_numeric(table.get(column, pd.Series(np.nan, table.index)))
        table.loc[scores.index, column] = values
    write(path, table, "%.4f")


def add_row(path: Path, row: dict) -> None:
    """Append a row to the CSV."""
    rows = [pd.read_csv(path)] if path.exists() else []
    write(path, pd.concat([*rows, pd.DataFrame([row])]), "%.6g")


def write(path: Path, table: pd.DataFrame, digits: str) -> None:
    """The table as CSV, atomically."""
    write_atomically(path, table.to_csv(index=False, float_format=digits).encode(errors="backslashreplace"))


if __name__ == "__main__":
    sys.exit(main())
