"""Write the model card's tables, and their picture, from the tables of results: python -m research.card."""

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from dfa_utils import metrics
from dfa_utils.calibrate import logit
from dfa_utils.checkpoint import RELEASED
from dfa_utils.evaluation import by_condition, eer_interval, load_scores, parts_of, summarise
from dfa_utils.inference import Detector
from dfa_utils.support import write_atomically
from research.compare import finished_columns, interval_over_seeds, mean_rate, summary
from research.generators import draw, missed_by_kind
from research.tables import RESULTS, read_table, write_table

START, END = "<!-- tables: python -m research.card -->", "<!-- end of tables -->"
HARMLESS = ["gain -20", "gain 20", "offset 0.1", "silence 1"]  # conditions that must not change a score


def main(arguments=None) -> int:
    """Put the tables into the card, between its two marks; write missed_by_generator.csv and kinds.png."""
    top = argparse.ArgumentParser("python -m research.card", description="The model card's tables, from the results.")
    top.add_argument(
        "folder", nargs="?", type=Path, help="what build --out wrote (default: dfa_utils/weights and research/results)"
    )
    folder = top.parse_args(arguments).folder
    weights, results = (folder, folder) if folder else (RELEASED.parent, RESULTS)
    by_kind = missed_by_kind(read_table(results / "compare.csv.gz"))
    write_table(results / "missed_by_generator.csv", by_kind)
    draw(by_kind, results / "kinds.png")
    card = weights / "MODEL_CARD.md"
    before, rest = card.read_text(encoding="utf-8").split(START)
    band = Detector.load(weights / RELEASED.name).uncertain_band
    text = f"{before}{START}\n\n{tables(results, band, by_kind)}\n{END}{rest.split(END)[1]}"
    write_atomically(card, text.encode())
    return 0


def tables(results: Path, band: tuple[float, float], by_kind: pd.DataFrame) -> str:
    """All tables, in Markdown; `band` holds the bounds of "uncertain", `by_kind` comes from `missed_by_kind`."""
    scores, threshold = load_scores(results / "scores.csv.gz")
    degraded = pd.read_csv(results / "degraded_testing.csv").set_index("path")
    testing, validation = (scores[scores.split == split] for split in ("testing", "validation"))
    as_mp3 = pd.read_csv(results / "degraded_validation.csv").groupby("path")["mp3 64"].first()
    new = validation[~validation.system.isin(scores[scores.split == "training"].system)]
    new = new.assign(as_mp3=new.path.map(as_mp3))
    parts = {
        "Splits": splits(scores, threshold, band),
        "Degradations, on `testing`": degradations(testing.set_index("path"), degraded, threshold, band),
        "Conditions that must not change a score, on `testing`": shifts(degraded),
        "Fakes of `testing` by system": systems(testing, threshold),
        "Fakes of `validation` by system, of those that `training` lacks": systems(new, threshold),
        "Leave systems and pages out": left_out(read_table(results / "compare.csv.gz")),
        "Leave systems and pages out, fakes by kind of generator": kinds(by_kind),
        "Recipes that were tried": tried(pd.read_csv(RESULTS / "screening.csv")),
    }
    return "\n\n".join(f"**{title}**\n\n{markdown(table)}" for title, table in parts.items()) + "\n"


def splits(scores: pd.DataFrame, threshold: float, band: tuple[float, float]) -> pd.DataFrame:
    """One row per split: EER with its interval, AUC, accuracy, HTER, Cllr and its minimum, share of "uncertain"."""
    table = summarise(scores, threshold)
    unsure = {split: part.score.between(*band, inclusive="left").mean() for split, part in parts_of(scores).items()}
    columns = ["eer", "eer_low", "eer_high", "accuracy", "hter"]
    kept = percent(table[columns].assign(uncertain=pd.Series(unsure)))
    return kept.join(table[["auc", "cllr", "min_cllr"]].astype(float).round(3).map("{:.3f}".format))


def degradations(
    testing: pd.DataFrame, degraded: pd.DataFrame, threshold: float, band: tuple[float, float]
) -> pd.DataFrame:
    """One row per condition: EER with its 95 % interval, HTER at the stored threshold, verdicts.

    `uncertain` is the share of clips with that verdict; `false positives` is the share of reals that are called fake,
    `missed` that of fakes that are called real.
    """
    rows, (below, above) = {}, band
    for name, values in degraded.items():
        clips = testing.loc[degraded.index].assign(score=values)
        low, high = eer_interval(clips)
        rows[name] = {
            "eer": metrics.eer_rate(clips.label, values),
            "low": low,
            "high": high,
            "hter": metrics.hter(clips.label, values, threshold),
            "uncertain": values.between(below, above, inclusive="left").mean(),
            "false positives": (values[clips.label == 0] >= above).mean(),
            "missed": (values[clips.label == 1] < below).mean(),
        }
    return percent(pd.DataFrame(rows).T)


def shifts(degraded: pd.DataFrame) -> pd.DataFrame:
    """Mean and 95th percentile of |score - clean score|."""
    moved = degraded[HARMLESS].sub(degraded.clean, axis=0).abs()
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
    """One row per kind of generator, from `missed_by_kind`: clips, systems, and the share that each recipe missed."""
    shares = table.pivot(index="kind", columns="recipe", values="missed")[table.recipe.unique()]
    counts = table.drop_duplicates("kind").set_index("kind")[["clips", "systems"]]
    return counts.astype(str).join(percent(shares))


def left_out(scores: pd.DataFrame) -> pd.DataFrame:
    """One row per recipe: mean EER over folds and seeds with its interval, that of each seed, that of all averaged.

    `low` and `high` bound the 95 % interval by speaker and system, `best` and `worst` are the seeds' means; `averaged`
    is the mean over folds of the EER of the seeds' mean logit; `degraded` is `eer` on degraded clips. With a single
    seed its columns are left out.
    """
    table, columns = {}, finished_columns(scores)
    for recipe, part in summary(scores).iterrows():
        seeds = scores[columns[recipe]]  # [N, seeds]
        low, high = interval_over_seeds(scores, seeds)
        averaged = mean_rate(scores, logit(seeds).mean(axis=1))
        table[recipe] = {"eer": part.eer, "low": low, "high": high, "best": part.low, "worst": part.high}
        table[recipe] |= {"averaged": averaged, "degraded": part.degraded, "seeds": part.seeds}
    rows = pd.DataFrame(table).T
    return percent(rows if (rows.seeds > 1).any() else rows.drop(columns=["best", "worst", "averaged"]))


def tried(trials: pd.DataFrame) -> pd.DataFrame:
    """Mean EER over the folds of each recipe, clean and degraded, and the number of folds; the best first."""
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
