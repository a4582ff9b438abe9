"""Errors by kind of generator: voice conversion, language model, diffusion, codec, vocoder and others."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.ticker import PercentFormatter

from dfa_utils import metrics, plots
from dfa_utils.support import atomic_file
from research.compare import detectors_of, interval

COLOURS = ("#009E73", "0.4", "#CC79A7", "#56B4E9")  # of the detectors in the picture


def missed_by_kind(table: pd.DataFrame) -> pd.DataFrame:
    """Share of fakes missed as received at the threshold of the EER: a row per kind and detector of a `compare` table.

    Columns: kind, clips, systems, detector; missed, low and high, the share and its 95 % interval by system, NaN where
    there is only one system. At a detector's threshold as many real clips are called fake as fakes are missed. The kind
    that the first detector misses most comes first.
    """
    rows = []
    for name in (name for name in detectors_of(table) if not name.startswith("seed")):  # not single trainings
        scores = table[f"{name} received"]
        missed = table.assign(missed=scores < metrics.eer(table.label, scores)[1])
        fake = missed.label == 1
        for kind, part in missed[fake].groupby("kind"):
            systems, low, high = part.system.nunique(), np.nan, np.nan
            if systems > 1:
                low, high = interval(missed[~fake | (missed.kind == kind)], _share_missed, n=200)
            rows.append((kind, len(part), systems, name, _share_missed(part), low, high))
    found = pd.DataFrame(rows, columns=["kind", "clips", "systems", "detector", "missed", "low", "high"])
    first = found[found.detector == found.detector.iloc[0]].set_index("kind").missed
    return found.sort_values("kind", key=lambda names: -names.map(first), kind="stable", ignore_index=True)


def _share_missed(table: pd.DataFrame) -> float:
    return table.missed[table.label == 1].mean()


def draw(table: pd.DataFrame, path: Path) -> None:
    """Save `missed_by_kind` as a picture: one row per kind, with a dot and its interval for each detector."""
    parts = dict(tuple(table.groupby("detector", sort=False)))
    kinds = table.drop_duplicates("kind")
    with plt.rc_context(plots.STYLE):
        fig, ax = plt.subplots(figsize=(7.5, 0.8 + 0.5 * len(kinds)), layout="constrained")
        for i, ((name, part), colour) in enumerate(zip(parts.items(), COLOURS, strict=False)):
            spread = [part.missed - part.low, part.high - part.missed]
            places = np.arange(len(part)) + 0.22 * (i - (len(parts) - 1) / 2)
            ax.errorbar(part.missed, places, xerr=spread, fmt="o", color=colour, capsize=2, label=name)
        names = [f"{kind} ({clips} clips)" for kind, clips in zip(kinds.kind, kinds.clips, strict=True)]
        ax.set_yticks(range(len(kinds)), names)
        ax.set(xlabel="share of fakes missed, at the threshold of the EER", xlim=(0, None))
        ax.invert_yaxis()
        ax.xaxis.set_major_formatter(PercentFormatter(1))
        ax.legend()
        with atomic_file(path) as file:
            fig.savefig(file, format="png", dpi=150)
        plt.close(fig)
