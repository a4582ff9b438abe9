"""The model card's tables and picture, anew from the CSVs beside the weights: python -m research.card."""

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from dfa_utils import metrics
from dfa_utils.calibrate import logit
from dfa_utils.checkpoint import SHIPPED
from dfa_utils.evaluation import by_condition, eer_interval, load_scores, parts_of, summarise
from dfa_utils.inference import Detector
from dfa_utils.support import write_atomically
from research.compare import finished_columns, interval_over_seeds, mean_rate, read_table, summary
from research.generators import draw, missed_by_kind

START, END = "<!-- tables: python -m research.card -->", "<!-- end of tables -->"
HARMLESS = ("gain -20", "gain 20", "offset 0.1", "silence 1")  # what must not move a score


def main(arguments=None) -> int:
    """Put the tables into FOLDER/MODEL_CARD.md, between its two marks, and the picture beside it."""
    top = argparse.ArgumentParser("python -m research.card", description="The model card's tables from its CSVs.")
    top.add_argument("folder", nargs="?", type=Path, default=SHIPPED.parent, help="default: the package's weights")
    folder = top.parse_args(arguments).folder
    card = folder / "MODEL_CARD.md"
    before, rest = card.read_text(encoding="utf-8").split(START)
    after = rest.split(END)[1]
    compared = read_table(folder / "compare.csv.gz")
    by_kind = missed_by_kind(compared)
    draw(by_kind, folder / "kinds.png")
    write_atomically(card, f"{before}{START}\n\n{tables(folder, compared, by_kind)}\n{END}{after}".encode())
    return 0


def tables(folder: Path, compared: pd.DataFrame, by_kind: pd.DataFrame) -> str:
    """All tables, in Markdown, from the CSVs and the bounds that the weights hold.

    `compared` is the table of `compare`, `by_kind` what `missed_by_kind` makes of it.
    """
    scores, threshold = load_scores(folder / "scores.csv")
    damage = pd.read_csv(folder / "damage.csv").set_index("path")
    testing = scores[scores.split == "testing"].set_index("path")
    band = Detector.load(folder / SHIPPED.name).uncertain
    as_mp3 = pd.read_csv(folder / "damage_validation.csv")["mp3 64"]  # its clips stand in the order of the scores
    validation = scores[scores.split == "validation"].assign(as_mp3=as_mp3.to_numpy())
    new = validation[~validation.system.isin(scores[scores.split == "training"].system)]
    parts = {
        "Splits": splits(scores, threshold, band),
        "Damage, on `testing`": damaged(testing, damage, threshold, band),
        "What must not change a score, on `testing`": shifts(damage),
        "Fakes of `testing` by system": systems(scores[scores.split == "testing"], threshold),
        "Fakes of `validation` by system, of those that `training` lacks": systems(new, threshold),
        "Leave systems and pages out": left_out(compared),
        "Leave systems and pages out, fakes by kind of generator": kinds(by_kind),
        "Recipes that were tried": tried(pd.read_csv(SHIPPED.parent / "screening.csv")),
    }
    return "\n\n".join(f"**{title}**\n\n{markdown(table)}" for title, table in parts.items()) + "\n"


def splits(scores: pd.DataFrame, threshold: float, band: tuple[float, float]) -> pd.DataFrame:
    """One row a split: EER with its interval, AUC, accuracy, HTER, Cllr and its least value, share of `uncertain`."""
    table = summarise(scores, threshold)
    unsure = {split: part.score.between(*band, inclusive="left").mean() for split, part in parts_of(scores).items()}
    columns = ["eer", "eer_low", "eer_high", "accuracy", "hter"]
    kept = percent(table[columns].assign(uncertain=pd.Series(unsure)))
    return kept.join(table[["auc", "cllr", "min_cllr"]].astype(float).round(3).map("{:.3f}".format))


def damaged(testing: pd.DataFrame, damage: pd.DataFrame, threshold: float, band: tuple[float, float]) -> pd.DataFrame:
    """One row a condition: EER with its 95 % interval, HTER at the stored threshold, verdicts.

    `uncertain` is the share of clips that are called so; `accused` that of the reals called fake, `missed` that of the
    fakes called real.
    """
    rows, (below, above) = {}, band
    for name, values in damage.items():
        labels = testing.label.loc[damage.index]
        low, high = eer_interval(testing.loc[damage.index].assign(score=values))
        rows[name] = {
            "eer": metrics.eer_rate(labels, values),
            "low": low,
            "high": high,
            "hter": metrics.hter(labels, values, threshold),
            "uncertain": values.between(below, above, inclusive="left").mean(),
            "accused": (values[labels == 0] >= above).mean(),
            "missed": (values[labels == 1] < below).mean(),
        }
    return percent(pd.DataFrame(rows).T)


def shifts(damage: pd.DataFrame) -> pd.DataFrame:
    """Mean and 95th percentile of |score - clean score|."""
    moved = damage[list(HARMLESS)].sub(damage.clean, axis=0).abs()
    table = pd.DataFrame({"mean": moved.mean(), "95th percentile": moved.quantile(0.95)})
    return table.map("{:.3f}".format)


def systems(clips: pd.DataFrame, threshold: float) -> pd.DataFrame:
    """Clips of each system, and the share that is missed with its interval (Wilson); the most missed first.

    Where `clips` has scores `as_mp3`, also the share missed when each went through MP3 at 64 kbit/s.
    """
    fakes = clips[clips.label == 1]
    table = by_condition(fakes, threshold, "system")
    if "as_mp3" in fakes:
        table["as MP3"] = (fakes.as_mp3 < threshold).groupby(fakes.system).mean()
    return table[["clips"]].astype(str).join(percent(table.drop(columns="clips")))


def kinds(table: pd.DataFrame) -> pd.DataFrame:
    """What `missed_by_kind` gives without its intervals: clips, systems, and the share that each recipe missed."""
    shares = table.xs("missed", axis=1, level=1)
    return table[["clips", "systems"]].droplevel(1, axis=1).astype(int).astype(str).join(percent(shares))


def left_out(scores: pd.DataFrame) -> pd.DataFrame:
    """One row a recipe: mean EER over folds and seeds with its interval, that of each seed, that of all averaged.

    `low` and `high` bound the 95 % interval by speaker and system, `best` and `worst` are the seeds' means;
    `averaged` is the mean over folds of the EER of the mean logit over the seeds; `damaged` is `eer` on damaged clips.
    Where there is one seed alone, its columns are left out.
    """
    table, columns = {}, finished_columns(scores)
    for recipe, part in summary(scores).iterrows():
        seeds = scores[columns[recipe]]  # [N, seeds]
        low, high = interval_over_seeds(scores, seeds)
        averaged = mean_rate(scores, logit(seeds).mean(axis=1))
        table[recipe] = {"eer": part.eer, "low": low, "high": high, "best": part.low, "worst": part.high}
        table[recipe] |= {"averaged": averaged, "damaged": part.damaged, "seeds": part.seeds}
    rows = pd.DataFrame(table).T
    return percent(rows if (rows.seeds > 1).any() else rows.drop(columns=["best", "worst", "averaged"]))


def tried(trials: pd.DataFrame) -> pd.DataFrame:
    """Mean EER over the folds of each recipe, clean and damaged, and the number of folds; the best first."""
    recipes = trials.groupby("recipe")
    means = recipes[["clean", "mp3 64", "noise 20", "telephone 8"]].mean().sort_values("clean")
    return percent(means).assign(folds=recipes.size().astype(str))


def percent(table: pd.DataFrame) -> pd.DataFrame:
    """Shares as percent; counts (a column `seeds`) as they are."""
    return table.apply(
        lambda c: c.astype(int).astype(str) if c.name == "seeds" else c.astype(float).map("{:.1%}".format)
    )


def markdown(table: pd.DataFrame) -> str:
    """A table as Markdown, its index first."""
    rows = [["", *table.columns], ["---"] * (1 + len(table.columns))]
    rows += [[name, *values] for name, values in zip(table.index, np.asarray(table, dtype=str), strict=True)]
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in rows)


if __name__ == "__main__":
    sys.exit(main())
