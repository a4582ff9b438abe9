"""What occurs more than once in a data set: clips, speakers, systems."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from dfa_utils.datasets.layouts import SPLITS

ALIKE = 0.98  # cosine of two sketches above which clips are near duplicates
STEP = 1024  # sketches that are compared with all others at once


def find_twins(clips: pd.DataFrame) -> pd.DataFrame:
    """Pairs of clips with the same content (`match` "exact") or that sound the same ("near"): paths a and b.

    Each clip is paired with the first one of its content; near duplicates are sought among these. Near: the cosine of
    the two sketches is above ALIKE, so the same words by the same voice at the same moment, as after re-encoding or a
    change of level. Columns match, a, b, and the splits of the two, split_a and split_b.
    """
    firsts, copies = clips.drop_duplicates("hash"), clips[clips.duplicated("hash")]
    originals = firsts.set_index("hash").loc[copies.hash]
    a, b = _alike(firsts.sketch)
    found = [_pairs("exact", originals, copies), _pairs("near", firsts.iloc[a], firsts.iloc[b])]
    return pd.concat(found, ignore_index=True)


def shared_between_splits(manifest: pd.DataFrame, column: str) -> pd.DataFrame:
    """How many values of `column` (speaker, system, hash) each pair of splits has in common; the diagonal counts all.

    Empty values stand for "not known" and are left out.
    """
    values = {split: set(manifest.loc[manifest.split == split, column]) - {""} for split in SPLITS}
    return pd.DataFrame({a: {b: len(values[a] & values[b]) for b in SPLITS} for a in SPLITS})


def _alike(sketches: Iterable[np.ndarray]) -> np.ndarray:
    """The places of sketches that are alike, [2, pairs], each pair once."""
    table, found = np.array([*sketches]), [np.empty((2, 0), int)]
    for start in range(0, len(table), STEP):
        cosines = table[start : start + STEP] @ table.T  # [STEP, N]
        a, b = np.nonzero(np.triu(cosines > ALIKE, start + 1))
        found.append(np.stack([a + start, b]))
    return np.concatenate(found, axis=1)


def _pairs(match: str, a: pd.DataFrame, b: pd.DataFrame) -> pd.DataFrame:
    columns = {"a": a.path, "b": b.path, "split_a": a.split, "split_b": b.split}
    return pd.DataFrame({"match": match, **{name: values.to_numpy() for name, values in columns.items()}})
