"""Data-set health: what is broken, what occurs twice, and what gives the class away before anyone hears the voice.

MERGED: What occurs more than once in a data set: clips, speakers, systems."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from dfa_utils.cues import NUISANCE, SPECTRAL, measure_clip, probe
from dfa_utils.display import findings_html
from dfa_utils.layouts import CLASSES, LAYOUT, SPLITS, DataError, read
from dfa_utils.support import map_in_threads

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


ENOUGH = 10  # training clips of a class below which a cue gets no verdict
TELLING = 0.1  # |AUC - 0.5| from which a cue is worth a verdict, if its interval lies beyond 0.5 as well
CURES = {
    "clipped": "record or convert them at a lower level",
    "short": "leave them out, or join them",
    "rms_db": "normalise it",
    "peak_db": "normalise the level",
    "dc": "subtract the mean",
    "seconds": "cut all clips to one length (ffmpeg -i IN -t 2 OUT)",
    "lead": "trim it from both classes",
    "trail": "trim it from both classes",
    "edge": "give both classes the same band (resample, low-pass)",
    "floor_db": "record both classes alike, or add noise to both",
}


@dataclass(repr=False)
class Findings:
    """What `audit` found: one row a clip, counts by split and class, pairs of twins, probes, and plain verdicts."""

    clips: pd.DataFrame
    problems: pd.DataFrame
    formats: pd.DataFrame
    twins: pd.DataFrame
    probes: pd.DataFrame
    verdicts: list[str]

    def __str__(self) -> str:
        lines = self.verdicts or ["no trap found"]
        tables = {"problems": self.problems, "formats": self.formats, "probes": self.probes.round(3)}
        parts = [f"{name}\n{table.to_string()}" for name, table in tables.items()]
        return "\n\n".join(["\n".join(f"{i}. {line}" for i, line in enumerate(lines, 1)), *parts])

    def __repr__(self) -> str:
        return f"Findings({_counted(len(self.clips), 'clip')}, {_counted(len(self.verdicts), 'verdict')}; print it)"

    def _repr_html_(self) -> str:
        return findings_html(self)


def audit(root) -> Findings:
    """Look at every clip of a data set (a root as for `dataset.scan`); the first verdict is the one to mend first.

    Files first, then what tells the classes apart without their sound, then clips that occur twice, then cues. Raises
    DataError as `layouts.read` does, and where no split has clips of both classes.
    """
    manifest = read(root)
    if not (manifest.groupby("split").label.nunique() == len(CLASSES)).any():
        raise DataError(f"{root}: no split with clips of both classes; expected {LAYOUT}")
    clips = measure(manifest)
    usable = clips[clips.problem == ""].reset_index(drop=True)
    twins, probes = find_twins(usable), probe(usable)
    verdicts = [
        *_file_verdicts(clips),
        *_format_verdicts(usable),
        *_name_verdicts(usable),
        *_session_verdicts(usable),
        *_speaker_verdicts(usable),
        *_twin_verdicts(twins),
        *(_cue_verdicts(probes) if _fewest(usable) >= ENOUGH else []),
    ]
    return Findings(clips, count_problems(clips), count_formats(usable), twins, probes, verdicts)


def measure(manifest: pd.DataFrame) -> pd.DataFrame:
    """The manifest with the columns of `cues.measure_clip`, NaN for what a clip that cannot be used does not have.

    Where the source names a column alike (ASVspoof has a codec), what was measured stands.
    """
    rows = pd.DataFrame(list(map_in_threads(measure_clip, manifest.path, "measuring")))
    expected = ["sample_rate", "channels", *NUISANCE, *SPECTRAL, "clipped", "sketch"]
    rows = rows.reindex(columns=[*dict.fromkeys([*rows.columns, *expected])])
    kept = manifest.reset_index(drop=True).drop(columns=rows.columns, errors="ignore")
    return pd.concat([kept, rows], axis=1)


def count_problems(clips: pd.DataFrame) -> pd.DataFrame:
    """Clips of each split and class, and how many of them are empty, truncated, unreadable, silent, clipped, short."""
    counts = pd.crosstab([clips.split, _classes(clips)], clips.kind)
    counts.insert(0, "clips", counts.sum(axis=1))
    return counts.drop(columns="", errors="ignore")


def count_formats(clips: pd.DataFrame) -> pd.DataFrame:
    """Clips by codec, sample rate (Hz) and channels, a column for each split and class."""
    by = [clips[name].fillna(0) for name in ("codec", "sample_rate", "channels")]
    return pd.crosstab(by, [clips.split, _classes(clips)])


def _classes(clips: pd.DataFrame) -> pd.Series:
    return clips.label.map(dict(enumerate(CLASSES)))


def _fewest(clips: pd.DataFrame) -> int:
    """Training clips of the smaller class."""
    labels = clips.label[clips.split == "training"]
    return int(min((labels == 0).sum(), (labels == 1).sum()))


def _told_by(clips: pd.DataFrame, values: pd.Series) -> float:
    """Balanced accuracy of guessing the class from a categorical value, by its more frequent class."""
    counts = pd.crosstab(values, clips.label, normalize="columns")
    return float(counts.max(axis=1).sum() / 2)


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _file_verdicts(clips: pd.DataFrame) -> list[str]:
    """One for each kind of problem, the most frequent first; for unusable files it is the reader's own message."""
    kinds = clips.kind[clips.kind != ""].value_counts()
    examples = clips.drop_duplicates("kind").set_index("kind")
    return [
        f"{kind}: {_counted(count, 'file')}, such as "
        f"{examples.problem[kind] or f'{examples.path[kind]}: {CURES[kind]}'}"
        for kind, count in kinds.items()
    ]


def _format_verdicts(clips: pd.DataFrame) -> list[str]:
    names = {"codec": "the codec", "sample_rate": "the sample rate", "channels": "the number of channels"}
    training = clips[clips.split == "training"]
    return [
        f"{name} alone tells {share:.0%} of the training clips' classes apart: bring both classes through the "
        "same conversion"
        for column, name in names.items()
        if (share := _told_by(training, training[column].astype(str))) > 0.5 + TELLING
    ]


def _name_verdicts(clips: pd.DataFrame) -> list[str]:
    training = clips[clips.split == "training"]
    patterns = training.path.map(lambda path: re.sub(r"\d+", "#", Path(path).stem))
    share = _told_by(training, patterns)
    if share <= 0.5 + TELLING or patterns.nunique() > len(training) / 4:
        return []
    return [f"file names betray the class: their patterns tell {share:.0%} apart; rename the files"]


def _session_verdicts(clips: pd.DataFrame) -> list[str]:
    blocks = {split: _class_blocks(clips[clips.split == split]) for split in SPLITS}
    return [
        f"numbered names of {split} hold the classes in {count} blocks where chance makes about {expected:.0f}: "
        "recording sessions, one class each; a session's sound then is the class's"
        for split, (count, expected) in blocks.items()
        if count < expected / 3
    ]


def _speaker_verdicts(clips: pd.DataFrame) -> list[str]:
    speakers = {split: set(part.speaker) - {""} for split, part in clips.groupby("split")}
    shared = speakers.get("training", set()) & speakers.get("testing", set())
    if not shared:
        return []
    classes = clips[clips.speaker.isin(shared)].groupby("speaker").label.nunique()
    alone = ", each in one class only, so that knowing the voice is knowing the class" if classes.max() == 1 else ""
    return [f"{_counted(len(shared), 'speaker')} in both training and testing{alone}: give each speaker to one split"]


def _class_blocks(clips: pd.DataFrame) -> tuple[int, float]:
    """Blocks of one class in the order of the numbers in the names, and how many chance would make.

    Of several numbers in a name the one counts that varies most. Names without one, and numbers that many clips of a
    class share, say nothing: as many blocks as clips where chance makes none.
    """
    nothing = len(clips), 0.0
    found = [dict(enumerate(re.findall(r"\d+", Path(path).stem))) for path in clips.path]
    fields = pd.DataFrame(found, clips.index).apply(pd.to_numeric)
    if fields.empty:
        return nothing
    table = pd.DataFrame({"number": fields[fields.nunique().idxmax()], "label": clips.label}).dropna().drop_duplicates()
    if len(table) < 0.9 * len(clips) or table.label.nunique() < 2:
        return nothing
    ordered = table.sort_values("number").label.to_numpy()
    real, fake = np.sum(ordered == 0), np.sum(ordered == 1)
    return 1 + int(np.sum(ordered[1:] != ordered[:-1])), 1 + 2 * real * fake / len(ordered)


def _twin_verdicts(twins: pd.DataFrame) -> list[str]:
    where = np.where(twins.split_a == twins.split_b, "within a split", "across splits")
    return [
        f"{_counted(len(part), 'pair')} of {match} duplicates {place}, such as {part.a.iloc[0]} and {part.b.iloc[0]}: "
        "keep one of each"
        for (match, place), part in twins.groupby(["match", where])
    ]


def _cue_verdicts(probes: pd.DataFrame) -> list[str]:
    telling = (probes.low > 0.5) & (probes.training > 0.5 + TELLING) & ~(probes.validation <= 0.5)
    alone = probes[telling & probes.index.isin(NUISANCE)].sort_values("training", ascending=False)
    together = probes.loc["all nuisance cues"]
    if alone.empty and together.low > 0.5 and together.validation > 0.5 + TELLING:
        return [
            f"the nuisance cues together separate the classes: AUC {together.validation:.2f} [{together.low:.2f}, "
            f"{together.high:.2f}] in validation, though none does alone"
        ]
    return [
        f"{NUISANCE[row.Index].split(' (')[0]} alone separates the classes: AUC {row.training:.2f} [{row.low:.2f}, "
        f"{row.high:.2f}] in training, {row.validation:.2f} in validation, {row.testing:.2f} in testing; "
        f"{CURES[row.Index]}"
        for row in alone.itertuples()
    ]
