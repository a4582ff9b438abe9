"""Errors by kind of generator. kinds.csv beside the weights names the kind of each system, by what is published of it.

Voice conversion, language models, diffusion and codecs are kinds of their own, whatever makes their waveform; all
others are sorted by what makes it.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from dfa_utils import metrics
from dfa_utils.checkpoint import SHIPPED
from dfa_utils.evaluation import clusters_of
from dfa_utils.metrics import clustered_interval
from dfa_utils.support import atomic_file
from research.compare import finished_columns

KINDS = SHIPPED.parent / "kinds.csv"
SHOWN = ("plain augmented", "first release", "release")  # in the picture, as far as they were compared


def missed_by_kind(scores: pd.DataFrame) -> pd.DataFrame:
    """Share of fakes missed at the threshold of the EER, from a table of `compare`: one row a kind of generator.

    Columns: clips, systems, and for each recipe (name, "missed"), (name, "low") and (name, "high"), its 95 % interval
    by system, NaN where there is one system alone. The threshold is that of each fold and seed, at which as many reals
    are accused as fakes missed. The kind that the first recipe misses most comes first. Systems that kinds.csv does not
    name are of the kind "not named".
    """
    kind = scores.system.map(pd.read_csv(KINDS).set_index("system").kind).fillna("not named")
    missed = {name: _missed(scores, columns) for name, columns in finished_columns(scores).items()}
    rows, fake = {}, scores.label == 1
    for name, fakes in scores[fake].groupby(kind[fake]):
        rows[name] = {("clips", ""): len(fakes), ("systems", ""): fakes.system.nunique()}
        part = scores[~fake | (kind == name)]
        for recipe, values in missed.items():
            rows[name] |= _shares(recipe, part, values[part.index])
    table = pd.DataFrame(rows).T
    return table.sort_values(table.columns[2], ascending=False)


def _missed(scores: pd.DataFrame, columns: list[str]) -> pd.Series:
    """Of how many of the seeds `columns` each clip was missed, as a share; 0 for reals."""
    shares = pd.DataFrame(0.0, scores.index, columns)
    for _, fold in scores.groupby("fold"):
        if fold.label.nunique() == 2:
            for column in columns:
                threshold = metrics.eer(fold.label, fold[column])[1]
                shares.loc[fold.index, column] = ((fold[column] < threshold) & (fold.label == 1)).astype(float)
    return shares.mean(axis=1)


def _shares(recipe: str, part: pd.DataFrame, missed: pd.Series) -> dict:
    """The columns of a recipe in the row of a kind: `part` holds its fakes and all reals, `missed` is of `_missed`."""

    def rate(labels, values) -> float:
        """Mean of the fakes' values."""
        return values[labels == 1].mean()

    low = high = np.nan
    if part.system[part.label == 1].nunique() > 1:
        low, high = clustered_interval(rate, part.label, missed, clusters_of(part)[["system"]], n=200)
    return {(recipe, "missed"): rate(part.label, missed), (recipe, "low"): low, (recipe, "high"): high}


def draw(table: pd.DataFrame, path: Path) -> None:
    """Save `missed_by_kind` as a picture: one row a kind, in it a dot with its interval for each recipe of SHOWN."""
    import matplotlib.pyplot as plt
    from matplotlib.ticker import PercentFormatter

    from dfa_utils import plots

    styles = {recipe: style for recipe, style in zip(SHOWN, plots.LINES, strict=True) if recipe in table}
    with plt.rc_context(plots.STYLE):
        fig, ax = plt.subplots(figsize=(7.5, 0.8 + 0.5 * len(table)), layout="constrained")
        for i, (recipe, style) in enumerate(styles.items()):
            shares = table[recipe]
            spread = [shares.missed - shares.low, shares.high - shares.missed]
            places = np.arange(len(table)) + 0.22 * (i - (len(styles) - 1) / 2)
            ax.errorbar(shares.missed, places, xerr=spread, fmt="o", color=style["color"], capsize=2, label=recipe)
        names = [f"{kind} ({clips:.0f} clips)" for kind, clips in table["clips", ""].items()]
        ax.set_yticks(range(len(table)), names)
        ax.set(xlabel="fakes missed where as many reals are accused", xlim=(0, None), ylim=(len(table) - 0.4, -0.6))
        ax.xaxis.set_major_formatter(PercentFormatter(1))
        ax.legend()
        with atomic_file(path) as file:
            fig.savefig(file, format="png")
        plt.close(fig)
