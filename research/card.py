"""Write the tables of the model card and the README, and a picture, from the results: python -m research.card."""

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from dfa_utils import metrics
from dfa_utils.checkpoint import RELEASED
from dfa_utils.evaluation import by_condition, eer_interval, load_scores, parts_of, summarise
from dfa_utils.inference import Detector
from dfa_utils.support import write_atomically
from research.compare import CODINGS, detectors_of, difference, summary
from research.generators import draw, missed_by_kind
from research.tables import RESULTS, read_table, write_table

README = Path(__file__).parents[1] / "README.md"
MARKS = "<!-- {}: python -m research.card -->", "<!-- end of {} -->"  # around what this command writes
HARMLESS = ["gain -20", "gain 20", "offset 0.1", "silence 1"]  # conditions that must not change a score
LARGEST = 20  # sources that the card lists; sources.csv has all
FIRST = {"clean": "as they are", "mp3 64": "MP3, 64 kbit/s", "opus 24": "messenger (Opus, 24 kbit/s)"}
FIRST |= {"telephone 8": "telephone", "noise 20": "noise, 20 dB below the speech"}  # conditions in the README
LENGTHS = [0, 0.5, 1, 2, np.inf]  # s; bounds of the groups of recordings by length


def main(arguments=None) -> int:
    """Put the tables into the card and the README, between their marks; write missed_by_generator.csv and kinds.png."""
    top = argparse.ArgumentParser("python -m research.card", description="The model card's tables, from the results.")
    top.add_argument(
        "folder", nargs="?", type=Path, help="what build --out wrote (default: dfa_utils/weights and research/results)"
    )
    folder = top.parse_args(arguments).folder
    weights, results = (folder, folder) if folder else (RELEASED.parent, RESULTS)
    by_kind = missed_by_kind(read_table(results / "validation.csv.gz"))
    write_table(results / "missed_by_generator.csv", by_kind)
    draw(by_kind, results / "kinds.png")
    card = weights / "MODEL_CARD.md"
    first = summary_table(degradations(results))
    put(card, "summary", first)
    put(card, "tables", tables(results, Detector.load(weights / RELEASED.name), by_kind))
    if not folder:
        put(README, "summary", first)
    return 0


def put(path: Path, name: str, text: str) -> None:
    """Replace what is between two MARKS in a file."""
    start, end = (mark.format(name) for mark in MARKS)
    before, rest = path.read_text(encoding="utf-8").split(start)
    write_atomically(path, f"{before}{start}\n\n{text.strip()}\n\n{end}{rest.split(end)[1]}".encode())


def tables(results: Path, detector: Detector, by_kind: pd.DataFrame) -> str:
    """All tables, in Markdown; `by_kind` comes from `missed_by_kind`."""
    scores, threshold = load_scores(results / "scores.csv.gz")
    degraded = pd.read_csv(results / "degraded_testing.csv").set_index("path")
    testing, band = scores[scores.split == "testing"], detector.uncertain_band
    unheard = read_table(results / "validation.csv.gz")
    parts = {
        "Splits, clean": splits(scores, threshold, band),
        "`validation` as people receive it, by codec": codings(pd.read_csv(results / "coded_validation.csv.gz"), band),
        "Degradations, on `testing`": degradations(results),
        "Conditions that must not change a score, on `testing`": shifts(degraded),
        "Detectors on pages and systems that training lacks": compared(unheard),
        "Differences on the same clips": differences(unheard),
        "Fakes missed by kind of generator, as received": kinds(by_kind),
        "Fakes of `testing` by system": systems(testing, threshold),
    }
    if (people := results / "people.csv.gz").exists():
        parts["People who were held out"] = verdicts(pd.read_csv(people, keep_default_na=False))
    largest = pd.read_csv(results / "sources.csv", keep_default_na=False).head(LARGEST).set_index("source")
    parts[f"Training data: the {len(largest)} largest sources"] = largest
    return "\n\n".join(f"**{title}**\n\n{markdown(table)}" for title, table in parts.items()) + "\n"


def codings(table: pd.DataFrame, band: tuple[float, float]) -> pd.DataFrame:
    """One row per coding of `validation`: EER, and the verdicts on genuine recordings and on fakes."""
    rows, (low, high) = {}, band
    for name in (*CODINGS, "received"):
        real, fake = (table[name][table.label == label] for label in (0, 1))
        rows[name] = {
            "eer": metrics.eer_rate(table.label, table[name]),
            "genuine: real": (real < low).mean(),
            "uncertain": real.between(low, high, inclusive="left").mean(),
            "fake": (real >= high).mean(),
            "synthetic: fake": (fake >= high).mean(),
            "uncertain ": fake.between(low, high, inclusive="left").mean(),
            "real": (fake < low).mean(),
        }
    return percent(pd.DataFrame(rows).T)


def compared(table: pd.DataFrame) -> pd.DataFrame:
    """One row per detector: EER clean and as received, with 95 % intervals by speaker and system."""
    return percent(summary(table))


def differences(table: pd.DataFrame) -> pd.DataFrame:
    """EER of the first detector minus that of each other one, as received, with its paired 95 % interval, in points."""
    first, *others = detectors_of(table)
    rows = {f"{first} - {name}": difference(table, f"{first} received", f"{name} received") for name in others}
    found = pd.DataFrame(rows, index=["difference", "low", "high"]).T
    return (100 * found).map("{:+.1f}".format)


def verdicts(people: pd.DataFrame) -> pd.DataFrame:
    """Verdicts on recordings of people, by package and rate, and by length over all packages at 16 kHz."""
    names = people.package.str.removeprefix("debian/") + people.rate.map(lambda rate: f" at {rate:,} Hz")
    groups = {name: people[names == name] for name in dict.fromkeys(names)}
    whole = people[people.rate == people.rate.max()]
    for length, part in whole.groupby(pd.cut(whole.seconds, LENGTHS, right=False), observed=True):
        groups[f"all, from {length.left:g} s" + (f" to {length.right:g} s" if length.right < np.inf else " on")] = part
    shares = {name: part.label.value_counts(normalize=True) for name, part in groups.items()}
    table = percent(pd.DataFrame(shares).T.reindex(columns=["real", "uncertain", "fake"]).fillna(0))
    table.insert(0, "recordings", [str(len(part)) for part in groups.values()])
    return table


def splits(scores: pd.DataFrame, threshold: float, band: tuple[float, float]) -> pd.DataFrame:
    """One row per split: EER with its interval, AUC, accuracy, HTER, Cllr and its minimum, share of "uncertain"."""
    table = summarise(scores, threshold)
    unsure = {split: part.score.between(*band, inclusive="left").mean() for split, part in parts_of(scores).items()}
    columns = ["eer", "eer_low", "eer_high", "accuracy", "hter"]
    kept = percent(table[columns].assign(uncertain=pd.Series(unsure)))
    return kept.join(table[["auc", "cllr", "min_cllr"]].astype(float).round(3).map("{:.3f}".format))


def degradations(results: Path) -> pd.DataFrame:
    """One row per condition of `testing`: EER, its 95 % interval, HTER at the stored threshold, verdicts as shipped.

    `uncertain` is the share of clips with that verdict; `false positives` is the share of real clips that are called
    fake, `missed` that of fakes that are called real.
    """
    scores, threshold = load_scores(results / "scores.csv.gz")
    tables = (pd.read_csv(results / f"{name}_testing.csv").set_index("path") for name in ("degraded", "verdicts"))
    (degraded, verdicts), rows = tables, {}
    for name in degraded:
        clips = scores.set_index("path").loc[degraded.index].assign(score=degraded[name])
        low, high = eer_interval(clips)
        rows[name] = {
            "eer": metrics.eer_rate(clips.label, clips.score),
            "low": low,
            "high": high,
            "hter": metrics.hter(clips.label, clips.score, threshold),
            "uncertain": (verdicts[name] == "uncertain").mean(),
            "false positives": (verdicts[name][clips.label == 0] == "fake").mean(),
            "missed": (verdicts[name][clips.label == 1] == "real").mean(),
        }
    return percent(pd.DataFrame(rows).T)


def summary_table(table: pd.DataFrame) -> str:
    """The table of the README and at the top of the card, from `degradations`."""
    words = {name: f"{row.eer} [{row.low}, {row.high}]".replace("%", " %") for name, row in table.iterrows()}
    rows = [
        [FIRST[name], words[name], *table.loc[name, ["uncertain", "false positives"]].str.replace("%", " %")]
        for name in FIRST
    ]
    heads = ["recordings of `testing`", "equal error rate [95 % interval]", "uncertain", "genuine speech called fake"]
    return "\n".join("| " + " | ".join(row) + " |" for row in [heads, ["---"] * len(heads), *rows])


def shifts(degraded: pd.DataFrame) -> pd.DataFrame:
    """Mean and 95th percentile of |score - clean score|."""
    moved = degraded[HARMLESS].sub(degraded.clean, axis=0).abs()
    table = pd.DataFrame({"mean": moved.mean(), "95th percentile": moved.quantile(0.95)})
    return table.map("{:.3f}".format)


def systems(clips: pd.DataFrame, threshold: float) -> pd.DataFrame:
    """Clips of each system, and the share that is missed with its interval (Wilson); the most missed first."""
    fakes = clips[clips.label == 1]
    table = by_condition(fakes, threshold, "system")
    return table[["clips"]].astype(str).join(percent(table.drop(columns="clips")))


def kinds(table: pd.DataFrame) -> pd.DataFrame:
    """One row per kind of generator, from `missed_by_kind`: clips, systems, and the share that each detector missed."""
    shares = table.pivot(index="kind", columns="detector", values="missed")[table.detector.unique()]
    counts = table.drop_duplicates("kind").set_index("kind")[["clips", "systems"]]
    return counts.astype(str).join(percent(shares))


def percent(table: pd.DataFrame) -> pd.DataFrame:
    """Shares as percent."""
    return table.astype(float).map("{:.1%}".format)


def markdown(table: pd.DataFrame) -> str:
    """A table as Markdown, its index first."""
    rows = [["", *table.columns], ["---"] * (1 + len(table.columns))]
    rows += [[name, *values] for name, values in zip(table.index, np.asarray(table, dtype=str), strict=True)]
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in rows)


if __name__ == "__main__":
    sys.exit(main())
