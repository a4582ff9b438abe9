"""Recipes against each other: python -m research.compare --data ROOT --out CSV.

Each recipe is trained without some systems, speakers and pages, and judged on these alone, once clean and once
damaged. The CSV has a row a clip, and a column of scores for each recipe and seed ("NAME SEED", "NAME SEED damaged").
What is there is not computed again, and a training that was stopped goes on where it was.
"""

import argparse
import gzip
import os
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from dfa_utils import metrics
from dfa_utils.checkpoint import load_checkpoint, runs_folder
from dfa_utils.dataset import scan
from dfa_utils.degradations import UNDECIDED, score_conditions
from dfa_utils.evaluation import clusters_of, score_clips
from dfa_utils.inference import Detector
from dfa_utils.metrics import clustered_interval
from dfa_utils.models import Ensemble
from dfa_utils.support import write_atomically
from research.crossval import fit_all_epochs, left_in, make_folds
from research.recipes import RECIPES

DAMAGE = [("noise", 10), ("mp3", 64), ("telephone", 8), ("rerecording", 0.3)]  # a clip goes through one of them
CLIP = ["path", "label", "system", "speaker", "fold"]  # columns of the table before those of the recipes


def main(arguments=None) -> int:
    """Compute the scores that the CSV lacks, and print the mean of each recipe."""
    options = parser().parse_args(arguments)
    manifest = scan(options.data, splits=("training", "validation"))
    manifest = leave_out(manifest[manifest.split != "testing"], options.without)
    page = options.page if options.page in manifest else None
    numbers = make_folds(manifest, options.folds, page=page)
    out, folder = Path(options.out), Path(options.runs or runs_folder() / "compare")
    clips = manifest.assign(path=names_of(manifest, Path(options.data)), fold=numbers)[CLIP]
    table = read_table(out, clips)
    for seed, fold, recipe in product(options.seeds, range(options.folds), options.recipes):
        name = f"{recipe} {seed}"
        there = table[table.fold == fold].reindex(columns=[name, f"{name} damaged"])
        if there.isna().any(axis=None):
            write_scores(out, table, name, judge(manifest, numbers, recipe, seed, fold, folder))
    print(summary(table).to_string(float_format="{:.3f}".format))
    return 0


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    top = argparse.ArgumentParser("python -m research.compare", description="Recipes on systems they never heard.")
    top.add_argument("--data", required=True, metavar="ROOT", help="a data set that names systems and speakers")
    top.add_argument(
        "--out", required=True, metavar="CSV", help="one row a clip, one column a recipe and seed; *.csv or *.csv.gz"
    )
    top.add_argument("--recipes", nargs="+", choices=list(RECIPES), default=list(RECIPES), metavar="NAME")
    top.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    top.add_argument("--folds", type=int, default=3)
    top.add_argument("--page", default="source_repo", help="column that names where a clip comes from, if there is one")
    top.add_argument("--without", metavar="COLUMN=VALUE", help="clips that have no say, such as part=late")
    top.add_argument("--runs", metavar="FOLDER", help="where the training runs lie (default: below $DFA_RUNS)")
    return top


def leave_out(manifest: pd.DataFrame, rule: str | None) -> pd.DataFrame:
    """The manifest without the clips whose column has a value, by a rule "COLUMN=VALUE"; None leaves all in.

    Raises ValueError for a rule that fits no clip: a slip of the pen must not let clips in that were to stay out.
    """
    if rule is None:
        return manifest.reset_index(drop=True)
    column, _, value = rule.partition("=")
    out = manifest[column].astype(str) == value if column in manifest else pd.Series(False, manifest.index)
    if not out.any():
        raise ValueError(
            f"--without {rule}: no clip has that; give COLUMN=VALUE with a column of {[*manifest.columns]}"
        )
    return manifest[~out].reset_index(drop=True)


def judge(manifest: pd.DataFrame, numbers: pd.Series, recipe: str, seed: int, fold: int, folder: Path) -> pd.DataFrame:
    """The fold's clips with the columns score and damaged, by a detector that never heard their like."""
    training, unheard = left_in(manifest, numbers, fold), manifest[numbers == fold]
    clips = pd.concat([training.assign(split="training"), unheard.assign(split="validation")])
    runs = [fit_all_epochs(config, clips, folder / f"fold{fold}") for config in RECIPES[recipe].members(seed)]
    detector = Detector(Ensemble([load_checkpoint(run)[0] for run in runs], RECIPES[recipe].roles), {})
    return score_clips(detector, unheard).assign(damaged=damaged_scores(detector, unheard))


def damaged_scores(detector: Detector, clips: pd.DataFrame) -> np.ndarray:
    """P(fake) [N] of clips that went through noise, MP3, a telephone or a loudspeaker, one after the other.

    0.5 for a clip that is silent afterwards.
    """
    scores = np.empty(len(clips))
    for i, condition in enumerate(DAMAGE):
        scores[i :: len(DAMAGE)] = score_conditions(detector, clips.path.iloc[i :: len(DAMAGE)], [condition])[0]
    return np.nan_to_num(scores, nan=UNDECIDED)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Mean EER over seeds and folds of each recipe, its lowest and highest seed, the EER on damaged clips; best first.

    Seeds whose folds are not all there are left out.
    """
    rows = [
        (recipe, mean_rate(table, table[name]), mean_rate(table, table[f"{name} damaged"]))
        for recipe, names in finished_columns(table).items()
        for name in names
    ]
    recipes = pd.DataFrame(rows, columns=["recipe", "eer", "damaged"]).groupby("recipe")
    means = recipes.agg(eer=("eer", "mean"), low=("eer", "min"), high=("eer", "max"), damaged=("damaged", "mean"))
    return means.assign(seeds=recipes.size()).sort_values("eer")


def finished_columns(table: pd.DataFrame) -> dict[str, list[str]]:
    """The columns "NAME SEED" of each recipe's seeds of which every clip has a score."""
    found: dict[str, list[str]] = {}
    for name in table.columns.drop(CLIP):
        if not name.endswith(" damaged") and table[name].notna().all():
            found.setdefault(name.rsplit(" ", 1)[0], []).append(name)
    return found


def mean_rate(table: pd.DataFrame, scores) -> float:
    """Mean over the folds of the EER of `scores` [N]; a fold that has one class alone has no say."""
    folds = table.assign(score=np.asarray(scores)).groupby("fold")
    return float(np.mean([metrics.eer_rate(f.label, f.score) for _, f in folds if f.label.nunique() == 2]))


def interval_over_seeds(table: pd.DataFrame, seeds: pd.DataFrame) -> tuple[float, float]:
    """95 % interval, by speaker and system, of the mean over `seeds` [N, seeds] of what `mean_rate` gives."""

    def rate(_, drawn) -> float:
        """The mean of the drawn rows."""
        rows = drawn.astype(int)
        return float(np.mean([mean_rate(table.iloc[rows], seeds[name].iloc[rows]) for name in seeds]))

    return clustered_interval(rate, table.label, np.arange(len(table)), clusters_of(table), n=200)


def names_of(manifest: pd.DataFrame, root: Path) -> list[str]:
    """The clips' paths below `root`, with forward slashes, as UTF-8 can hold them."""
    names = [Path(os.path.relpath(path, root)).as_posix() for path in manifest.path]
    return [name.encode(errors="backslashreplace").decode() for name in names]


def read_table(path: Path, clips: pd.DataFrame | None = None) -> pd.DataFrame:
    """The CSV; where there is none yet, the `clips` alone. Raises ValueError where it is of other clips or folds."""
    if clips is not None and not path.exists():
        return clips.copy()
    names = dict.fromkeys(("system", "speaker"), str)
    table = pd.read_csv(path, keep_default_na=False, na_values=[""], dtype=names).fillna(dict.fromkeys(names, ""))
    if clips is not None and not table.reindex(columns=["path", "fold"]).equals(clips[["path", "fold"]]):
        raise ValueError(f"{path} holds the scores of other clips or folds; choose another name")
    return table


def write_scores(path: Path, table: pd.DataFrame, name: str, scores: pd.DataFrame) -> None:
    """Put the scores, clean and damaged, of the clips that `scores` has into the columns `name`, and save the table."""
    for column, values in ((name, scores.score), (f"{name} damaged", scores.damaged)):
        table[column] = values.combine_first(table.get(column, pd.Series(np.nan, table.index)))
    content = table.to_csv(index=False, float_format="%.4f").encode()
    write_atomically(path, gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)


if __name__ == "__main__":
    sys.exit(main())
