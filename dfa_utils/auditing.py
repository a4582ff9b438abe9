"""Audit of a data set: broken files, duplicates, and everything that gives the class away without listening."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import triu

from dfa_utils.cues import CURES, NUISANCE, SPECTRAL, measure_clip, probe
from dfa_utils.dataset import refuse_gaps
from dfa_utils.display import as_text, findings_html, formatted
from dfa_utils.layouts import CLASSES, counted, read
from dfa_utils.support import map_in_threads

FORMAT = {"codec": "codec", "sample_rate": "sample rate", "channels": "number of channels"}  # column: name
ALIKE = 0.98  # cosine of two sketches above which clips are near duplicates
ENOUGH = 10  # training clips per class; with fewer, cues get no verdict
TELLING = 0.1  # |AUC - 0.5|, or accuracy above 0.5, from which a cue gets a verdict
DOUBTFUL = {"clipped": "record or convert them at a lower level", "short": "leave them out, or join them"}


@dataclass(eq=False, repr=False)
class Findings:
    """The result of `audit`.

    clips: one row per clip with the columns of `cues.measure_clip`; problems, formats: counts by split and class;
    duplicates: pairs of `find_duplicates`; probes: AUC of each cue (`cues.probe`); verdicts: sentences.
    """

    clips: pd.DataFrame
    problems: pd.DataFrame
    formats: pd.DataFrame
    duplicates: pd.DataFrame
    probes: pd.DataFrame
    verdicts: list[str]

    def tables(self) -> dict[str, pd.DataFrame]:
        """The tables behind the verdicts, by title."""
        probes = "AUC of each cue (low, high: 95 % interval on training; for all cues together, on validation)"
        formats = "File formats: codec, sample rate (Hz), channels"
        return {"Clips and problems": self.problems, formats: self.formats, probes: formatted(self.probes, "{:.2f}")}

    @property
    def nothing_found(self) -> str:
        """What there is to say without a verdict: with few training clips, the cues were not judged."""
        training = self.clips[(self.clips.split == "training") & (self.clips.problem == "")]
        real, fake = ((training.label == label).sum() for label in (0, 1))
        if min(real, fake) >= ENOUGH:
            return "No trap found."
        few = f"{real} real and {fake} fake training clips are too few ({ENOUGH} of each are needed)"
        return f"No trap found in the files, but their sound was not judged: {few}."

    def __repr__(self) -> str:
        lines = [f"{i}. {line}" for i, line in enumerate(self.verdicts, 1)] or [self.nothing_found]
        return "\n".join(lines) + f"\n\n{as_text(self.tables())}"

    def _repr_html_(self) -> str:
        return findings_html(self)


def audit(root) -> Findings:
    """Measure every clip of a data set (`root` as for `dataset.scan`); the verdict to act on first comes first.

    The order of the verdicts is: contradictory labels, broken files, formats and names that separate the classes,
    shared speakers, duplicates, cues. Raises DataError as `layouts.read` does, and if no split has both classes.
    """
    manifest = read(root)
    refuse_gaps(manifest, Path(root), splits=None)
    clips = measure(manifest)
    usable = clips[clips.problem == ""]
    training = usable[usable.split == "training"]
    duplicates, probes = find_duplicates(usable), probe(usable)
    label = dict(zip(usable.path, usable.label, strict=True))
    torn = (duplicates.match == "exact") & (duplicates.a.map(label) != duplicates.b.map(label))
    verdicts = _label_verdicts(duplicates[torn]) + _file_verdicts(clips) + _format_verdicts(training)
    verdicts += _speaker_verdicts(usable) + _duplicate_verdicts(duplicates[~torn])
    if min((training.label == label).sum() for label in (0, 1)) >= ENOUGH:
        verdicts += _cue_verdicts(probes)
    return Findings(clips, *_counts(clips, usable), duplicates, probes, verdicts)


def measure(manifest: pd.DataFrame) -> pd.DataFrame:
    """The manifest with the columns of `cues.measure_clip`; NaN where a clip cannot be used.

    Measured columns replace columns of the same name in the manifest (ASVspoof has a codec).
    """
    columns = ["hash", "kind", "problem", *FORMAT, *NUISANCE, *SPECTRAL, "clipped", "sketch"]
    rows = pd.DataFrame(map_in_threads(measure_clip, manifest.path, "measuring"), columns=columns)
    return pd.concat([manifest.reset_index(drop=True).drop(columns=rows.columns, errors="ignore"), rows], axis=1)


def find_duplicates(clips: pd.DataFrame) -> pd.DataFrame:
    """Pairs of clips with the same content (`match` "exact") or the same sound ("near"), and their splits.

    Each clip is paired with the first one of the same content, and near duplicates are searched among these first
    clips. Near means that the cosine of the two sketches is above ALIKE: the same words by the same voice at the same
    moment, as after another encoding or a change of level. Columns match, a, b (paths), split_a, split_b.
    """
    first, again = clips.drop_duplicates("hash"), clips[clips.duplicated("hash")]
    a, b = _alike(np.array([*first.sketch]))
    one = pd.concat([first.set_index("hash").loc[again.hash], first.iloc[a]], ignore_index=True)
    other = pd.concat([again, first.iloc[b]], ignore_index=True)
    match = np.repeat(["exact", "near"], [len(again), len(a)])
    return pd.DataFrame({"match": match, "a": one.path, "b": other.path, "split_a": one.split, "split_b": other.split})


def _alike(sketches: np.ndarray) -> np.ndarray:
    """Indices [2, pairs] of sketches [N, D] that are alike, each pair once."""
    from sklearn.neighbors import radius_neighbors_graph

    if len(sketches) < 2:
        return np.empty((2, 0), int)
    return np.array(triu(radius_neighbors_graph(sketches, 1 - ALIKE, metric="cosine")).nonzero())


def _counts(clips: pd.DataFrame, usable: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """By split and class: how many clips have each kind of problem, and how many usable ones have each format."""
    classes = [clips.split, clips.label.map(dict(enumerate(CLASSES)))]
    problems = pd.crosstab(classes, clips.kind)
    problems.insert(0, "clips", problems.sum(axis=1))
    formats = pd.crosstab([usable[name].fillna(0) for name in FORMAT], classes)
    return problems.drop(columns="", errors="ignore"), formats


def _label_verdicts(pairs: pd.DataFrame) -> list[str]:
    """A sentence on pairs of clips with the same content and different labels."""
    if pairs.empty:
        return []
    clips, example = counted(len(pairs), "clip"), f"{pairs.a.iloc[0]} and {pairs.b.iloc[0]}"
    return [f"{clips} labelled both real and fake, such as {example}; keep the correct one of each pair"]


def _file_verdicts(clips: pd.DataFrame) -> list[str]:
    """One sentence per kind of problem, the most frequent first, with the message for one such file."""
    examples = clips.drop_duplicates("kind").set_index("kind")
    return [
        f"{kind}: {counted(count, 'file')}, such as "
        f"{examples.problem[kind] or f'{examples.path[kind]}: {DOUBTFUL[kind]}'}"
        for kind, count in clips.kind[clips.kind != ""].value_counts().items()
    ]


def _format_verdicts(training: pd.DataFrame) -> list[str]:
    """One sentence per property of the files from which the class can be guessed."""
    properties = training[[*FORMAT]].astype(str).rename(columns=FORMAT)
    patterns = training.path.map(lambda path: re.sub(r"\d+", "#", Path(path).stem))
    if patterns.nunique() <= len(training) / 4:
        properties["pattern of the file names"] = patterns
    tables = {name: pd.crosstab(values, training.label, normalize="columns") for name, values in properties.items()}
    shares = {name: table.max(axis=1).sum() / 2 for name, table in tables.items()}  # of the more frequent class
    return [
        f"the {name} alone gives the class of {share:.0%} of the training clips; make it the same in both classes"
        for name, share in shares.items()
        if share > 0.5 + TELLING
    ]


def _speaker_verdicts(clips: pd.DataFrame) -> list[str]:
    speakers = clips[clips.speaker != ""].groupby("speaker").agg({"split": set, "label": "nunique"})
    shared = speakers[speakers.split.map({"training", "testing"}.issubset).astype(bool)]
    if shared.empty:
        return []
    why = ", each in one class only, so the voice gives the class away" if (shared.label == 1).all() else ""
    return [f"{counted(len(shared), 'speaker')} in both training and testing{why}; use each in one split only"]


def _duplicate_verdicts(duplicates: pd.DataFrame) -> list[str]:
    where = np.where(duplicates.split_a == duplicates.split_b, "within a split", "across splits")
    return [
        f"{counted(len(part), 'pair')} of {match} duplicates {place}, such as {part.a.iloc[0]} and {part.b.iloc[0]}; "
        "keep one of each pair"
        for (match, place), part in duplicates.groupby(["match", where])
    ]


def _cue_verdicts(probes: pd.DataFrame) -> list[str]:
    """One sentence per nuisance cue that separates the classes on training, unless validation contradicts it."""
    telling = (probes.low > 0.5) & (probes.training > 0.5 + TELLING) & ~(probes.validation <= 0.5)
    alone = probes[telling & probes.index.isin(NUISANCE)].sort_values("training", ascending=False)
    together = probes.loc["all nuisance cues"]
    if alone.empty and together.low > 0.5 and together.validation > 0.5 + TELLING:
        auc = f"AUC {together.validation:.2f} [{together.low:.2f}, {together.high:.2f}] on validation"
        return [f"the nuisance cues together separate the classes: {auc}, though none does alone"]
    return [
        f"{NUISANCE[row.Index].split(' (')[0]} alone separates the classes: AUC {row.training:.2f} [{row.low:.2f}, "
        f"{row.high:.2f}] on training, {row.validation:.2f} on validation, {row.testing:.2f} on testing; "
        f"{CURES[row.Index]}"
        for row in alone.itertuples()
    ]
