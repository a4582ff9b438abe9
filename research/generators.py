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
SHOWN = {"plain augmented": "#999999", "release": "#009E73"}  # colours in the picture


def missed_by_kind(scores: pd.DataFrame) -> pd.DataFrame:
    """Share of fakes missed at the threshold of the EER, from a table of `compare`: one row per kind of generator.

    Columns: clips, systems, and for each recipe NAME, "NAME low" and "NAME high", the share and its 95 % interval by
    system, NaN where there is only one system. Each fold and seed has its own threshold, at which as many reals are
    called fake as fakes are missed. The kind that the first recipe misses most comes first. Systems that generators.csv
    does not name are of the kind "not named".
    """
    kind = scores.system.map(pd.read_csv(KINDS).set_index("system").kind).fillna("not named")
    missed = {name: _missed(scores, columns) for name, columns in finished_columns(scores).items()}
    rows, fake = {}, scores.label == 1
    for name, fakes in scores[fake].groupby(kind[fake]):
        rows[name] = {"clips": len(fakes), "systems": fakes.system.nunique()}
        part = scores[~fake | (kind == name)]
        for recipe, values in missed.items():
            rows[name] |= _shares(recipe, part, values[part.index])
    table = pd.DataFrame(rows).T.astype({"clips": int, "systems": int}).rename_axis("kind")
    return table.sort_values(table.columns[2], ascending=False)


def _missed(scores: pd.DataFrame, columns: list[str]) -> pd.Series:
    """The share of the seeds `columns` that missed each clip; 0 for reals."""
    shares = pd.DataFrame(0.0, scores.index, columns)
    for _, fold in scores.groupby("fold"):
        if fold.label.nunique() == 2:
            for column in columns:
                threshold = metrics.eer(fold.label, fold[column])[1]
                shares.loc[fold.index, column] = ((fold[column] < threshold) & (fold.label == 1)).astype(float)
    return shares.mean(axis=1)


def _shares(recipe: str, part: pd.DataFrame, missed: pd.Series) -> dict:
    """A recipe's columns in the row of a kind; `part` holds its fakes and all reals, `missed` comes from `_missed`."""

    def rate(labels, values) -> float:
        """Mean of the fakes' values."""
        return values[labels == 1].mean()

    low = high = np.nan
    if part.system[part.label == 1].nunique() > 1:
        low, high = clustered_interval(rate, part.label, missed, clusters_of(part)[["system"]], n=200)
    return {recipe: rate(part.label, missed), f"{recipe} low": low, f"{recipe} high": high}


def draw(table: pd.DataFrame, path: Path) -> None:
    """Save `missed_by_kind` as a picture: one row per kind, with a dot and its interval for each recipe of SHOWN."""
    recipes = [recipe for recipe in SHOWN if recipe in table]
    with plt.rc_context(plots.STYLE):
        fig, ax = plt.subplots(figsize=(7.5, 0.8 + 0.5 * len(table)), layout="constrained")
        for i, recipe in enumerate(recipes):
            spread = [table[recipe] - table[f"{recipe} low"], table[f"{recipe} high"] - table[recipe]]
            places = np.arange(len(table)) + 0.22 * (i - (len(recipes) - 1) / 2)
            ax.errorbar(table[recipe], places, xerr=spread, fmt="o", color=SHOWN[recipe], capsize=2, label=recipe)
        ax.set_yticks(range(len(table)), [f"{kind} ({clips} clips)" for kind, clips in table.clips.items()])
        ax.set(xlabel="share of fakes missed, at the threshold of the EER", xlim=(0, None))
        ax.invert_yaxis()
        ax.xaxis.set_major_formatter(PercentFormatter(1))
        ax.legend()
        with atomic_file(path) as file:
            fig.savefig(file, format="png", dpi=150)
        plt.close(fig)
