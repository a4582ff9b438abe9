"""Errors by kind of generator. results/generators.csv has the kind of each system, according to publications.

Voice conversion, language models, diffusion and codecs are kinds of their own, whatever makes their waveform; all
others are sorted by what makes it.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.ticker import PercentFormatter

from dfa_utils import metrics, plots
from dfa_utils.evaluation import clusters_of
from dfa_utils.metrics import clustered_interval
from dfa_utils.support import atomic_file
from research.compare import finished_columns
from research.tables import RESULTS

KINDS = RESULTS / "generators.csv"
SHOWN = {"plain augmented": "0.4", "release": "#009E73"}  # colours in the picture


def missed_by_kind(scores: pd.DataFrame) -> pd.DataFrame:
    """Share of fakes missed at the threshold of the EER, from a table of `compare`: a row per kind and recipe.

    Columns: kind, clips, systems, recipe; missed, low and high, the share and its 95 % interval by system, NaN where
    there is only one system. Each fold and seed has its own threshold, at which as many reals are called fake as fakes
    are missed. The kind that the first recipe misses most comes first. Systems that generators.csv does not name are of
    the kind "not named".
    """
    kind = scores.system.map(pd.read_csv(KINDS).set_index("system").kind).fillna("not named")
    missed = {name: _missed(scores, columns) for name, columns in finished_columns(scores).items()}
    rows, fake = [], scores.label == 1
    for name, fakes in scores[fake].groupby(kind[fake]):
        part = scores[~fake | (kind == name)]
        for recipe, values in missed.items():
            rows.append((name, len(fakes), fakes.system.nunique(), recipe, *_share(part, values[part.index])))
    table = pd.DataFrame(rows, columns=["kind", "clips", "systems", "recipe", "missed", "low", "high"])
    first = table[table.recipe == table.recipe[0]].set_index("kind").missed
    return table.sort_values("kind", key=lambda names: -names.map(first), kind="stable", ignore_index=True)


def _missed(scores: pd.DataFrame, columns: list[str]) -> pd.Series:
    """The share of the seeds `columns` that missed each clip; 0 for reals."""
    shares = pd.DataFrame(0.0, scores.index, columns)
    for _, fold in scores.groupby("fold"):
        if fold.label.nunique() == 2:
            for column in columns:
                threshold = metrics.eer(fold.label, fold[column])[1]
                shares.loc[fold.index, column] = ((fold[column] < threshold) & (fold.label == 1)).astype(float)
    return shares.mean(axis=1)


def _share(part: pd.DataFrame, missed: pd.Series) -> tuple[float, float, float]:
    """The share missed and its interval; `part` holds fakes of one kind and all reals, `missed` is from `_missed`."""

    def rate(labels, values) -> float:
        """Mean of the fakes' values."""
        return values[labels == 1].mean()

    low = high = np.nan
    if part.system[part.label == 1].nunique() > 1:
        low, high = clustered_interval(rate, part.label, missed, clusters_of(part)[["system"]], n=200)
    return rate(part.label, missed), low, high


def draw(table: pd.DataFrame, path: Path) -> None:
    """Save `missed_by_kind` as a picture: one row per kind, with a dot and its interval for each recipe of SHOWN."""
    parts = {recipe: part for recipe, part in table.groupby("recipe", sort=False) if recipe in SHOWN}
    kinds = table.drop_duplicates("kind")
    with plt.rc_context(plots.STYLE):
        fig, ax = plt.subplots(figsize=(7.5, 0.8 + 0.5 * len(kinds)), layout="constrained")
        for i, (recipe, part) in enumerate(parts.items()):
            spread = [part.missed - part.low, part.high - part.missed]
            places = np.arange(len(part)) + 0.22 * (i - (len(parts) - 1) / 2)
            ax.errorbar(part.missed, places, xerr=spread, fmt="o", color=SHOWN[recipe], capsize=2, label=recipe)
        names = [f"{kind} ({clips} clips)" for kind, clips in zip(kinds.kind, kinds.clips, strict=True)]
        ax.set_yticks(range(len(kinds)), names)
        ax.set(xlabel="share of fakes missed, at the threshold of the EER", xlim=(0, None))
        ax.invert_yaxis()
        ax.xaxis.set_major_formatter(PercentFormatter(1))
        ax.legend()
        with atomic_file(path) as file:
            fig.savefig(file, format="png", dpi=150)
        plt.close(fig)
