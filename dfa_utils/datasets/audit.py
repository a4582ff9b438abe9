"""Data-set health: what is broken, what occurs twice, and what gives the class away before anyone hears the voice."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from dfa_utils.dataset import CLASSES, SPLITS, scan
from dfa_utils.datasets.cues import NUISANCE, SPECTRAL, measure_clip
from dfa_utils.support.parallel import map_in_threads

TOO_SHORT = 0.5  # s
CLIPPED = 1e-3  # share of samples at full scale
ALIKE = 0.98  # similarity of two fingerprints above which clips are near-duplicates
ALL_CUES = 2.73  # standard errors of an interval that holds for all eight nuisance cues at once (Bonferroni, 95 %)
ENOUGH = 10  # training clips of a class below which a cue gets no verdict
TELLING = 0.1  # |AUC - 0.5| from which a cue is worth a verdict, if its interval lies beyond 0.5 as well
CURES = {
    "rms_db": "normalise it",
    "peak_db": "normalise the level",
    "dc": "subtract the mean",
    "seconds": "cut all clips to one length",
    "lead": "trim it from both classes",
    "trail": "trim it from both classes",
    "edge": "give both classes the same band (resample, low-pass)",
    "floor_db": "record both classes alike, or add noise to both",
}


@dataclass
class Audit:
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


def audit(root) -> Audit:
    """Look at every clip of a data set (a root as for `data.scan`); the first verdict is the one to mend first.

    Files first, then what tells the classes apart without their sound, then clips that occur twice, then cues.
    """
    clips = measure(scan(root, check=False, splits=None))
    usable = clips[clips.problem == ""].reset_index(drop=True)
    twins, probes = find_twins(usable), probe(usable)
    found = [
        *_file_verdicts(clips),
        *_format_verdicts(usable),
        *_name_verdicts(usable),
        *_twin_verdicts(twins),
        *(_probe_verdicts(probes) if _fewest(usable) >= ENOUGH else []),
    ]
    return Audit(clips, count_problems(clips), count_formats(usable), twins, probes, found)


def measure(manifest: pd.DataFrame) -> pd.DataFrame:
    """The manifest with the columns of `cues.measure_clip`; `problem` says what is wrong with a clip, or is empty.

    Where the source names a column alike (ASVspoof has a codec), what was measured stands.
    """
    rows = pd.DataFrame(list(map_in_threads(measure_clip, manifest.path, "measuring")))
    rows = rows.reindex(columns=[*dict.fromkeys([*rows.columns, *NUISANCE, *SPECTRAL, "clipped", "fingerprint"])])
    kept = manifest.reset_index(drop=True).drop(columns=rows.columns, errors="ignore")
    return pd.concat([kept, rows], axis=1)


def count_problems(clips: pd.DataFrame) -> pd.DataFrame:
    """Clips of each split and class, and how many of them are empty, truncated, unreadable, silent, clipped, short."""
    kinds = pd.get_dummies(_kinds(clips)).drop(columns="", errors="ignore").astype(int)
    grouped = pd.concat([clips[["split"]], clips.label.map(dict(enumerate(CLASSES))), kinds], axis=1)
    counts = grouped.groupby(["split", "label"]).agg(clips=("label", "size"))
    return counts.join(grouped.groupby(["split", "label"]).sum(numeric_only=True))


def count_formats(clips: pd.DataFrame) -> pd.DataFrame:
    """Clips by codec, sample rate (Hz) and channels, a column for each split and class."""
    by = ["codec", "sample_rate", "channels"]
    classes = clips.label.map(dict(enumerate(CLASSES)))
    return pd.crosstab([clips[name].fillna(0) for name in by], [clips.split, classes]) if len(clips) else pd.DataFrame()


def find_twins(clips: pd.DataFrame) -> pd.DataFrame:
    """Pairs of clips with the same content (kind "exact") or that sound the same (kind "near"): paths a and b.

    Each clip is paired with the first one of its content; near-duplicates are sought among these. Near: the
    fingerprints' similarity (cosine) is above ALIKE, so the same words by the same voice at the same moment, as after
    re-encoding or a change of level.
    """
    groups = clips.groupby("hash", sort=False).ngroup().to_numpy()
    first = np.flatnonzero(~clips.duplicated("hash")) if len(clips) else np.empty(0, int)
    copies = np.flatnonzero(clips.duplicated("hash"))
    prints = np.stack(clips.fingerprint.iloc[first]) if len(first) else np.empty((0, 1), np.float32)
    near = [np.empty((2, 0), int)]
    for start in range(0, len(prints), 1024):
        alike = prints[start : start + 1024] @ prints.T > ALIKE
        a, b = np.nonzero(np.triu(alike, start + 1))
        near.append(np.stack([first[a + start], first[b]]))
    exact = np.stack([first[groups[copies]], copies])
    pairs = {"exact": exact, "near": np.concatenate(near, axis=1)}
    return pd.concat([_pairs(clips, *rows, kind) for kind, rows in pairs.items()], ignore_index=True)


def probe(clips: pd.DataFrame) -> pd.DataFrame:
    """How well each cue alone, and each group of cues by logistic regression, separates the classes: AUC by split.

    Direction and regression are fitted on training, where the AUC of one cue is thus at least 0.5, and read on
    validation and testing; `low` and `high` bound the interval on training, which holds for all nuisance cues at
    once in 95 % of cases (regression: the 95 % interval on validation, since on training it knows the answers). NaN
    where a split lacks a class.
    """
    rows = {name: _one_cue(clips, name) for name in [*NUISANCE, *SPECTRAL]}
    rows |= {"all nuisance cues": _together(clips, [*NUISANCE]), "all spectral cues": _together(clips, [*SPECTRAL])}
    return pd.DataFrame(rows, index=[*SPLITS, "low", "high"]).T


def cue_table(clips: pd.DataFrame) -> pd.DataFrame:
    """One row a nuisance cue, over all clips: AUC of fake against real; 0.5 = says nothing.

    `low` and `high` bound intervals that hold for all cues at once in 95 % of cases (Bonferroni).
    """
    rows = {name: auc_interval(clips.label, clips[cue], ALL_CUES) for cue, name in NUISANCE.items()}
    return pd.DataFrame(rows, index=["auc", "low", "high"]).T


def auc_interval(labels, values, width: float = 1.96) -> tuple[float, float, float]:
    """AUC of fake against real and its interval, clips taken as independent (DeLong et al. 1988, by ranks).

    `width` counts standard errors to either side: 1.96 for 95 %. NaN where a class has fewer than two clips.
    """
    from scipy.stats import rankdata

    labels, values = np.asarray(labels), np.asarray(values, dtype=float)
    fake, real, ranks = values[labels == 1], values[labels == 0], rankdata(values)
    if min(len(fake), len(real)) < 2:
        return np.nan, np.nan, np.nan
    above = (ranks[labels == 1] - rankdata(fake)) / len(real)  # share of reals below each fake
    below = 1 - (ranks[labels == 0] - rankdata(real)) / len(fake)  # share of fakes above each real
    auc = float(above.mean())
    error = width * float(np.sqrt(above.var(ddof=1) / len(fake) + below.var(ddof=1) / len(real)))
    return auc, max(auc - error, 0.0), min(auc + error, 1.0)


def duplicates(clips: pd.DataFrame) -> pd.DataFrame:
    """The clips whose file content occurs more than once, twins side by side."""
    known = clips[clips.hash != ""]
    return known[known.duplicated("hash", keep=False)].sort_values("hash")


def shared_between_splits(manifest: pd.DataFrame, column: str) -> pd.DataFrame:
    """How many values of `column` (speaker, system, hash) each pair of splits has in common; the diagonal counts all.

    Empty values stand for "not known" and are left out.
    """
    values = {split: set(manifest.loc[manifest.split == split, column]) - {""} for split in SPLITS}
    return pd.DataFrame({a: {b: len(values[a] & values[b]) for b in SPLITS} for a in SPLITS})


def _kinds(clips: pd.DataFrame) -> pd.Series:
    """The problem of each clip in a word; "" for none."""
    return pd.Series([_kind(clip) for clip in clips.itertuples()], clips.index, dtype=str)


def _kind(clip) -> str:
    if not clip.problem:
        return "short" if clip.seconds < TOO_SHORT else "clipped" if clip.clipped > CLIPPED else ""
    words = [word for word in ("empty", "truncated", "silent") if re.search(rf": (the file is )?{word}", clip.problem)]
    return (words or ["unreadable"])[0]


def _pairs(clips: pd.DataFrame, a, b, kind: str) -> pd.DataFrame:
    left, right = (clips.iloc[rows][["path", "split"]].reset_index(drop=True) for rows in (a, b))
    columns = {"a": left.path, "b": right.path, "split_a": left.split, "split_b": right.split}
    return pd.DataFrame({"kind": kind, **columns})


def _one_cue(clips: pd.DataFrame, cue: str) -> dict:
    part = clips[clips.split == "training"]
    sign = -1 if auc_interval(part.label, part[cue])[0] < 0.5 else 1
    return _by_split(clips, sign * clips[cue], "training")


def _together(clips: pd.DataFrame, cues: list[str]) -> dict:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    training = clips[clips.split == "training"]
    if training.label.nunique() < 2:
        return {}
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    model.fit(training[cues], training.label)
    return _by_split(clips, pd.Series(model.decision_function(clips[cues]), clips.index), "validation")


def _by_split(clips: pd.DataFrame, values: pd.Series, of: str) -> dict:
    """AUC of `values` in each split, and the interval in the split `of`; NaN where a class is missing."""
    width = ALL_CUES if of == "training" else 1.96
    rows = {split: auc_interval(part.label, values[part.index], width) for split, part in clips.groupby("split")}
    _, low, high = rows.get(of, (np.nan,) * 3)
    return {split: row[0] for split, row in rows.items()} | {"low": low, "high": high}


def _fewest(clips: pd.DataFrame) -> int:
    """Training clips of the smaller class."""
    labels = clips.label[clips.split == "training"]
    return int(min((labels == 0).sum(), (labels == 1).sum()))


def _file_verdicts(clips: pd.DataFrame) -> list[str]:
    kinds = _kinds(clips)
    cures = {"clipped": "record or convert them at a lower level", "short": "leave them out, or join them"}
    return [
        f"{count} {kind} {'file' if count == 1 else 'files'}, such as {clips.path[kinds == kind].iloc[0]}: "
        f"{cures.get(kind, 'leave them out, or fetch them again')}"
        for kind, count in kinds[kinds != ""].value_counts().items()
    ]


def _format_verdicts(clips: pd.DataFrame) -> list[str]:
    names = {"codec": "the codec", "sample_rate": "the sample rate", "channels": "the number of channels"}
    training = clips[clips.split == "training"]
    return [
        f"{names[column]} alone tells {share:.0%} of the training clips' classes apart: bring both classes through the "
        "same conversion"
        for column in names
        if (share := _told_by(training, training[column].astype(str))) > 0.5 + TELLING
    ]


def _told_by(clips: pd.DataFrame, values: pd.Series) -> float:
    """Balanced accuracy of guessing the class from a categorical value, by its more frequent class."""
    counts = pd.crosstab(values, clips.label, normalize="columns")
    return float(counts.max(axis=1).sum() / 2)


def _name_verdicts(clips: pd.DataFrame) -> list[str]:
    stems = clips.path.map(lambda path: Path(path).stem)
    patterns = stems.map(lambda stem: re.sub(r"\d+", "#", stem))
    found = []
    training = clips.split == "training"
    share = _told_by(clips[training], patterns[training])
    if share > 0.5 + TELLING and patterns[training].nunique() <= training.sum() / 4:
        found.append(f"file names betray the class: their patterns tell {share:.0%} apart; rename the files")
    for split in SPLITS:
        part = clips.split == split
        runs, expected = _class_runs(stems[part], clips.label[part])
        if runs < expected / 3:
            found.append(
                f"numbered names of {split} hold the classes in {runs} blocks where chance makes about {expected:.0f}: "
                "recording sessions, one class each; a session's sound then is the class's"
            )
    return found


def _class_runs(stems: pd.Series, labels: pd.Series) -> tuple[int, float]:
    """Blocks of one class in the order of the numbers in the names, and how many chance would make.

    Of several numbers in a name the one counts that varies most. Names without one, and numbers that occur in both
    classes, say nothing: infinitely many.
    """
    found = [dict(enumerate(re.findall(r"\d+", stem))) for stem in stems]
    fields = pd.DataFrame(found, stems.index).apply(pd.to_numeric)
    if fields.empty:
        return len(labels), 0.0
    table = pd.DataFrame({"number": fields[fields.nunique().idxmax()], "label": labels}).dropna().drop_duplicates()
    if len(table) < 0.9 * len(labels) or table.number.duplicated().any() or table.label.nunique() < 2:
        return len(labels), 0.0
    ordered = table.sort_values("number").label.to_numpy()
    real, fake = np.sum(ordered == 0), np.sum(ordered == 1)
    return 1 + int(np.sum(ordered[1:] != ordered[:-1])), 1 + 2 * real * fake / len(ordered)


def _twin_verdicts(twins: pd.DataFrame) -> list[str]:
    cross = twins.split_a != twins.split_b
    found = []
    for kind, name in (("exact", "exact duplicates"), ("near", "near-duplicates")):
        for across, where in ((True, "across splits"), (False, "within a split")):
            part = twins[(twins.kind == kind) & (cross == across)]
            if len(part):
                found.append(
                    f"{len(part)} pairs of {name} {where}, such as {part.a.iloc[0]} and {part.b.iloc[0]}: "
                    "keep one of each"
                )
    return found


def _probe_verdicts(probes: pd.DataFrame) -> list[str]:
    telling = probes[(probes.low > 0.5) & (probes.training > 0.5 + TELLING) & ~(probes.validation <= 0.5)]
    nuisance = [row for row in telling.itertuples() if row.Index in NUISANCE]
    found = [
        f"{NUISANCE[row.Index].split(' (')[0]} alone separates the classes: AUC {row.training:.2f} [{row.low:.2f}, "
        f"{row.high:.2f}] in training, {row.validation:.2f} in validation, {row.testing:.2f} in testing; "
        f"{CURES[row.Index]}"
        for row in sorted(nuisance, key=lambda row: -row.training)
    ]
    together = probes.loc["all nuisance cues"]
    if not found and together.low > 0.5 and together.validation > 0.5 + TELLING:
        found.append(
            f"the nuisance cues together separate the classes: AUC {together.validation:.2f} [{together.low:.2f}, "
            f"{together.high:.2f}] in validation, though none does alone"
        )
    return found
