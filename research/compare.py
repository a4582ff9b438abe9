"""Compare recipes on systems they never heard: python -m research.compare --data ROOT.

Each recipe is trained without some systems, speakers and pages, and scored on these alone, once clean and once
degraded. The table compare.csv.gz has one row per clip, and a column of scores for each recipe and seed ("NAME SEED",
"NAME SEED degraded"). Scores that it holds are not computed again, and a training that was stopped continues.
"""

import argparse
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from dfa_utils import metrics
from dfa_utils.checkpoint import load_checkpoint, runs_folder
from dfa_utils.dataset import scan
from dfa_utils.evaluation import clusters_of, score_clips
from dfa_utils.inference import Detector
from dfa_utils.metrics import clustered_interval
from dfa_utils.models import Ensemble
from research.conditions import score_conditions
from research.crossval import fit_all_epochs, left_in, make_folds
from research.recipes import RECIPES, members
from research.tables import RESULTS, names_of, read_table, write_table

CONDITIONS = [("noise", 10), ("mp3", 64), ("telephone", 8), ("rerecording", 0.3)]  # a clip goes through one of them
CLIP = ["path", "label", "system", "speaker", "fold"]  # columns of the table before those of the recipes


def main(arguments=None) -> int:
    """Compute the scores that the table lacks, and print the mean of each recipe."""
    options = parser().parse_args(arguments)
    manifest = scan(options.data, splits=("training", "validation"))
    manifest = leave_out(manifest[manifest.split != "testing"], options.without)
    page = options.page if options.page in manifest else None
    numbers = make_folds(manifest, options.folds, page=page)
    out, folder = Path(options.out), Path(options.runs or runs_folder() / "compare")
    clips = manifest.assign(path=names_of(manifest, Path(options.data)), fold=numbers)[CLIP]
    table = begin_table(out, clips)
    for seed, fold, recipe in product(options.seeds, range(options.folds), options.recipes):
        name = f"{recipe} {seed}"
        there = table[table.fold == fold].reindex(columns=[name, f"{name} degraded"])
        if there.isna().any(axis=None):
            write_scores(out, table, name, score_fold(manifest, numbers, recipe, seed, fold, folder))
    print(summary(table).to_string(float_format="{:.3f}".format))
    return 0


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    top = argparse.ArgumentParser("python -m research.compare", description="Recipes on systems that they never heard.")
    top.add_argument("--data", required=True, metavar="ROOT", help="a data set that names systems and speakers")
    top.add_argument("--out", default=RESULTS / "compare.csv.gz", metavar="CSV", help="the table; *.csv or *.csv.gz")
    top.add_argument("--recipes", nargs="+", choices=list(RECIPES), default=list(RECIPES), metavar="NAME")
    top.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    top.add_argument("--folds", type=int, default=3)
    top.add_argument("--page", default="source_repo", help="column that names the source of a clip, if there is one")
    top.add_argument("--without", metavar="COLUMN=VALUE", help="clips to leave out, such as part=late")
    top.add_argument("--runs", metavar="FOLDER", help="for the training runs (default: below $DFA_RUNS)")
    return top


def leave_out(manifest: pd.DataFrame, rule: str | None) -> pd.DataFrame:
    """The manifest without the clips whose column has a value, by a rule "COLUMN=VALUE"; None keeps all.

    Raises ValueError for a rule that fits no clip: a typo must not readmit clips that were excluded.
    """
    if rule is None:
        return manifest.reset_index(drop=True)
    column, _, value = rule.partition("=")
    out = manifest[column].astype(str) == value if column in manifest else pd.Series(False, manifest.index)
    if not out.any():
        raise ValueError(f"--without {rule}: fits no clip; give COLUMN=VALUE with a column of {[*manifest.columns]}")
    return manifest[~out].reset_index(drop=True)


def score_fold(manifest: pd.DataFrame, numbers: pd.Series, recipe: str, seed: int, fold: int, folder: Path):
    """The fold's clips, with the columns score and degraded, by a detector that never heard their systems or voices."""
    training, unheard = left_in(manifest, numbers, fold), manifest[numbers == fold]
    clips = pd.concat([training.assign(split="training"), unheard.assign(split="validation")])
    runs = [fit_all_epochs(config, clips, folder / f"fold{fold}") for config in members(recipe, seed)]
    detector = Detector(Ensemble([load_checkpoint(run)[0] for run in runs]), {})
    return score_clips(detector, unheard).assign(degraded=degraded_scores(detector, unheard))


def degraded_scores(detector: Detector, clips: pd.DataFrame) -> np.ndarray:
    """P(fake) [N] of clips that went through noise, MP3, a telephone or a loudspeaker, each in turn."""
    scores = np.empty(len(clips))
    for i, condition in enumerate(CONDITIONS):
        scores[i :: len(CONDITIONS)] = score_conditions(detector, clips.path.iloc[i :: len(CONDITIONS)], [condition])[0]
    return scores


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Mean EER over seeds and folds of each recipe, its lowest and highest seed, its EER on degraded clips; best first.

    Seeds that lack a fold are left out.
    """
    rows = [
        (recipe, mean_rate(table, table[name]), mean_rate(table, table[f"{name} degraded"]))
        for recipe, names in finished_columns(table).items()
        for name in names
    ]
    recipes = pd.DataFrame(rows, columns=["recipe", "eer", "degraded"]).groupby("recipe")
    means = recipes.agg(eer=("eer", "mean"), low=("eer", "min"), high=("eer", "max"), degraded=("degraded", "mean"))
    return means.assign(seeds=recipes.size()).sort_values("eer")


def finished_columns(table: pd.DataFrame) -> dict[str, list[str]]:
    """The columns "NAME SEED" of each recipe's seeds that have a score for every clip."""
    found: dict[str, list[str]] = {}
    for name in table.columns.drop(CLIP):
        if not name.endswith(" degraded") and table[name].notna().all():
            found.setdefault(name.rsplit(" ", 1)[0], []).append(name)
    return found


def mean_rate(table: pd.DataFrame, scores) -> float:
    """Mean over the folds of the EER of `scores` [N]; a fold with a single class does not count."""
    folds = table.assign(score=np.asarray(scores)).groupby("fold")
    return float(np.mean([metrics.eer_rate(f.label, f.score) for _, f in folds if f.label.nunique() == 2]))


def interval_over_seeds(table: pd.DataFrame, seeds: pd.DataFrame) -> tuple[float, float]:
    """95 % interval, by speaker and system, of the mean over `seeds` [N, seeds] of their `mean_rate`."""

    def rate(_, drawn) -> float:
        """The mean of the drawn rows."""
        rows = drawn.astype(int)
        return float(np.mean([mean_rate(table.iloc[rows], seeds[name].iloc[rows]) for name in seeds]))

    return clustered_interval(rate, table.label, np.arange(len(table)), clusters_of(table), n=200)


def begin_table(path: Path, clips: pd.DataFrame) -> pd.DataFrame:
    """The table at `path`, or `clips` alone; ValueError where it holds other clips or folds."""
    if not path.exists():
        return clips.copy()
    table = read_table(path)
    if not table.reindex(columns=["path", "fold"]).equals(clips[["path", "fold"]]):
        raise ValueError(f"{path} holds the scores of other clips or folds; choose another name")
    return table


def write_scores(path: Path, table: pd.DataFrame, name: str, scores: pd.DataFrame) -> None:
    """Put the clean and the degraded scores of some clips into the columns `name`, and save the table."""
    for column, values in ((name, scores.score), (f"{name} degraded", scores.degraded)):
        table[column] = values.combine_first(table.get(column, pd.Series(np.nan, table.index)))
    write_table(path, table)


if __name__ == "__main__":
    sys.exit(main())
