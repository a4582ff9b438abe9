"""Finding audio files, and the layouts of published data sets: one reader each, which gives one row per clip.

Labels: 1 = fake. `system` and `speaker` are empty where the source does not tell; real clips have no system.
"""

import csv
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pandas as pd

SUFFIXES = {".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a", ".aac", ".webm", ".mp4", ".aif", ".aiff", ".au", ".wma"}
SUFFIXES |= {".caf", ".amr", ".3gp", ".mov"}
SPLITS = ("training", "validation", "testing")
CLASSES = ("real", "fake")  # the index is the label
SPLIT_NAMES = dict.fromkeys(("training", "train"), "training")
SPLIT_NAMES |= dict.fromkeys(("validation", "valid", "val", "dev"), "validation")
SPLIT_NAMES |= dict.fromkeys(("testing", "test", "eval"), "testing")
LABEL_NAMES = {"real": 0, "bonafide": 0, "bona-fide": 0, "genuine": 0, "0": 0, "fake": 1, "spoof": 1, "1": 1}
LAYOUT = "ROOT/{training,validation,testing}/{real,fake}/*.wav, a manifest.csv, or a layout that data/README.md lists"
DEPTH = 3  # folders below the given one in which a data set is looked for

# The columns of the protocols, in the published order; "-" is a column that is not used here.
ASVSPOOF2019 = {"LA": "speaker file - system label", "PA": "speaker file environment system label"}
ASVSPOOF2021 = {"LA": "speaker file codec transmission system label - subset"}
ASVSPOOF2021 |= {"DF": "speaker file codec source system label - subset vocoder"}
ASVSPOOF5 = "speaker file gender codec codec_q - - system label -"
NOTHING = {"-": "", "bonafide": ""}  # in the protocols: no attack, codec or vocoder


class DataError(ValueError):
    """A data set that cannot be used; the message names the folder or file and the cure."""


class Reader(NamedTuple):
    """One layout: `knows(path)` tells whether a folder (or a CSV file) has it, `read(path)` gives the manifest."""

    name: str
    knows: Callable[[Path], bool]
    read: Callable[[Path], pd.DataFrame]


def read(root) -> pd.DataFrame:
    """The manifest of the one data set at `root` or up to three folders below it, in a layout of `READERS`.

    Columns path, split (one of SPLITS), label (1 = fake), system, speaker, and then what else the source tells about a
    clip (codec, environment, ...). Rows whose file is missing are left out with one warning. Raises DataError if `root`
    does not exist, holds no known layout or several data sets, or if a protocol or all audio is missing.
    """
    root = Path(root).expanduser()
    if not root.exists():
        raise DataError(f"{root}: no such folder; expected {LAYOUT}")
    found = find_sets(root)
    if not found:
        raise DataError(f"{root}: no folder called training, validation or testing in it; expected {LAYOUT}")
    if {home.name.lower() for _, home in found} & {*CLASSES}:
        raise DataError(f"{root}: put real and fake into each split, not around the splits; expected {LAYOUT}")
    if len(found) > 1:
        named = "; ".join(f"{home} ({reader.name})" for reader, home in found)
        raise DataError(f"{root}: {len(found)} data sets side by side; name one of them: {named}")
    reader, home = found[0]
    return _drop_missing(reader.read(home), home)


def find_sets(path: Path, depth: int = DEPTH) -> list[tuple[Reader, Path]]:
    """The data sets at `path` or, if there is none, in the folders below it, each with its reader."""
    here = [(reader, path) for reader in READERS if reader.knows(path)]
    return here[:1] or [found for folder in folders_in(path) if depth for found in find_sets(folder, depth - 1)]


def find_audio(folder) -> list[Path]:
    """All audio files below a folder, by their suffix, in the order of their names.

    Hidden files and folders are skipped, and links to folders are not followed. A folder that cannot be read is in the
    list itself, so that the caller reports it.
    """
    found, errors = [], []
    for home, folders, files in os.walk(folder, onerror=errors.append):
        folders[:] = [name for name in folders if name[0] != "."]
        found += [Path(home, name) for name in files if name[0] != "." and Path(name).suffix.lower() in SUFFIXES]
    return sorted([*found, *(Path(error.filename) for error in errors)])


def expand(paths: Iterable) -> Iterator[Path]:
    """The given files, and all audio files below the given folders; a folder without audio is yielded itself."""
    for path in map(Path, paths):
        yield from (find_audio(path) if os.path.isdir(path) else []) or [path]


def folders_in(folder: Path) -> list[Path]:
    """The visible folders in a folder, by name; none in one that cannot be read."""
    _, names, _ = next(os.walk(folder), ("", [], []))
    return [folder / name for name in sorted(names) if name[0] != "." and name != "__MACOSX"]


def read_folders(home: Path) -> pd.DataFrame:
    """Fake-or-Real in any of its four variants (Reimao and Tzerpos, SpeD 2019): HOME/SPLIT/{real,fake}/**/*.wav."""
    rows = []
    for folder in (inner for outer in folders_in(home) for inner in folders_in(outer)):
        split, label = SPLIT_NAMES.get(folder.parent.name.lower()), LABEL_NAMES.get(folder.name.lower())
        if split is not None and label is not None:
            rows += [(str(path), split, label, "", "") for path in find_audio(folder)]
    return pd.DataFrame(rows, columns=["path", "split", "label", "system", "speaker"])


def read_table(path: Path) -> pd.DataFrame:
    """A CSV file, or a folder's manifest.csv, with columns path (relative to the file), label, often split and others.

    Without a column split, all clips are testing; rows with a split of another name are left out. Raises DataError for
    a missing column, an unknown label, or a file that is not a CSV.
    """
    path = path if path.is_file() else path / "manifest.csv"
    table = _csv(path, encoding="utf-8")
    if missing := {"path", "label"} - set(table.columns):
        raise DataError(f"{path}: no column {', '.join(sorted(missing))}; expected path, label (real or fake), split")
    split = table.get("split", pd.Series("testing", table.index)).str.lower().map(SPLIT_NAMES)
    manifest = _manifest(path, table, [str(path.parent / name) for name in table.path], split)
    return manifest[split.notna()].reset_index(drop=True)


def read_in_the_wild(home: Path) -> pd.DataFrame:
    """In-the-Wild (Müller et al., Interspeech 2022): HOME/meta.csv (file, speaker, label) and the clips beside it.

    All clips are testing. The speaker of a fake is the person whom it imitates; systems are unknown.
    """
    table = _csv(home / "meta.csv")
    paths = [os.path.join(home, name) for name in table.file]
    return _manifest(home / "meta.csv", table.drop(columns="file"), paths, "testing")


def read_asvspoof2019(home: Path) -> pd.DataFrame:
    """ASVspoof 2019 LA or PA (Wang et al., Computer Speech and Language 2020) by its folder of protocols.

    HOME is ASVspoof2019_{LA,PA}_cm_protocols; the clips are in ../ASVspoof2019_{LA,PA}_{train,dev,eval}/flac. In PA the
    fakes are replayed recordings, not synthesis; its column environment names the simulated room.
    """
    home = home.absolute()
    track = home.name.split("_")[1]
    protocols = [home / f"ASVspoof2019.{track}.cm.{part}.txt" for part in ("train.trn", "dev.trl", "eval.trl")]
    clips = [home.parent / f"ASVspoof2019_{track}_{part}" / "flac" for part in ("train", "dev", "eval")]
    return _read_protocols(home, ASVSPOOF2019[track], SPLITS, protocols, clips)


def read_asvspoof2021(home: Path) -> pd.DataFrame:
    """ASVspoof 2021 LA or DF (Liu et al., IEEE/ACM TASLP 2023): HOME is ASVspoof2021_{LA,DF}_eval with flac/ in it.

    The keys, {LA,DF}-keys-full, are in HOME or beside it: keys/{LA,DF}/CM/trial_metadata.txt. Only the subset eval is
    taken, for which results are published, and it is testing. Left out are progress (the challenge's leaderboard) and
    hidden (without silence). Further columns: codec, transmission (LA), source and vocoder (DF).
    """
    home = home.absolute()
    track = home.name.split("_")[1]
    places = [home.parent, *folders_in(home.parent)]  # HOME is one of them
    keys = _first([place / "keys" / track / "CM" / "trial_metadata.txt" for place in places])
    return _read_protocols(home, ASVSPOOF2021[track], ("testing",), [keys], [home / "flac"])


def read_asvspoof5(home: Path) -> pd.DataFrame:
    """ASVspoof 5, track 1 (Wang et al., ASVspoof Workshop 2024), by the folder of its protocols.

    HOME holds ASVspoof5.{train,dev.track_1,eval.track_1}.tsv; the clips are in flac_T, flac_D and flac_E_eval, in HOME
    or beside it. Further columns: gender, codec and codec_q; an empty codec means uncoded.
    """
    home = home.absolute()
    protocols = [home / f"ASVspoof5.{part}.tsv" for part in ("train", "dev.track_1", "eval.track_1")]
    clips = [_first([home / name, home.parent / name]) for name in ("flac_T", "flac_D", "flac_E_eval")]
    return _read_protocols(home, ASVSPOOF5, SPLITS, protocols, clips)


def _first(paths: list[Path]) -> Path:
    """The first path that exists, else the first."""
    return next((path for path in paths if path.exists()), paths[0])


def _csv(path: Path, **options) -> pd.DataFrame:
    try:
        return pd.read_csv(path, dtype=str, keep_default_na=False, **options)
    except ValueError as error:  # pandas' own errors and wrong encodings
        raise DataError(f"{path}: cannot be read as a table ({error}); fetch or write it again") from error


def _read_protocols(home: Path, columns: str, splits, protocols: list[Path], clips: list[Path]) -> pd.DataFrame:
    """The rows of all protocols that are there; each split has a protocol and a folder of clips."""
    parts = zip(protocols, splits, clips, strict=True)
    tables = [_read_protocol(file, columns, split, folder) for file, split, folder in parts if file.is_file()]
    if not tables:
        names = ", ".join(map(str, protocols))
        raise DataError(f"{home}: no protocol for it; unpack the data set's protocols or keys to {names}")
    return pd.concat(tables, ignore_index=True)


def _read_protocol(file: Path, columns: str, split: str, clips: Path) -> pd.DataFrame:
    names = columns.split()
    table = _csv(file, sep=r"\s+", header=None, quoting=csv.QUOTE_NONE).fillna("")
    if table.shape[1] < len(names):
        raise DataError(f"{file}: {table.shape[1]} columns, not {len(names)} ({columns}); fetch it again")
    table = table.iloc[:, : len(names)].set_axis(names, axis=1)
    if "subset" in table:
        table = table[table.subset == "eval"].drop(columns="subset").reset_index(drop=True)
    paths = [os.path.join(clips, f"{clip}.flac") for clip in table.file]
    known = table.drop(columns=["label", "file", "-"], errors="ignore").replace(NOTHING)
    return _manifest(file, known.assign(label=table.label), paths, split)


def _manifest(file: Path, table: pd.DataFrame, paths: list[str], split) -> pd.DataFrame:
    """The five columns of every manifest, then the others of `table`; DataError for an unknown label."""
    labels = table.label.str.lower()
    if unknown := sorted(set(labels) - set(LABEL_NAMES)):
        raise DataError(f"{file}: labels {unknown[:5]} are unknown; use real and fake")
    columns = {"path": paths, "split": split, "label": labels.map(LABEL_NAMES)}
    columns |= {name: table.get(name, "") for name in ("system", "speaker")}
    return pd.DataFrame(columns).join(table.drop(columns=list(columns), errors="ignore"))


def _drop_missing(manifest: pd.DataFrame, home: Path) -> pd.DataFrame:
    """The rows whose file exists; each folder is listed once, which is faster than to look for each file."""
    places = [os.path.split(path) for path in manifest.path]
    folders = {folder for folder, _ in places}
    listed = {folder: set(os.listdir(folder or ".")) for folder in folders if os.path.isdir(folder or ".")}
    there = pd.Series([name in listed.get(folder, ()) for folder, name in places], manifest.index, dtype=bool)
    gone = manifest.path[~there]
    if gone.empty:
        return manifest
    if not there.any():
        raise DataError(f"{home}: none of its {len(gone)} audio files is there, e.g. {gone.iloc[0]}; unpack them there")
    named = ", ".join(gone[:5]) + (", ..." if len(gone) > 5 else "")
    warnings.warn(f"{home}: {len(gone)} of {len(manifest)} audio files are missing: {named}", stacklevel=4)
    return manifest[there].reset_index(drop=True)


def _is_in_the_wild(path: Path) -> bool:
    table = path / "meta.csv"
    head = table.read_text(encoding="utf-8-sig", errors="replace").partition("\n")[0] if table.is_file() else ""
    return {"file", "speaker", "label"} <= set(head.strip().split(","))


READERS = (  # the first that knows a folder reads it
    Reader("table", lambda path: path.is_file() or (path / "manifest.csv").is_file(), read_table),
    Reader("ASVspoof 2019", lambda path: path.absolute().match("ASVspoof2019_[LP]A_cm_protocols"), read_asvspoof2019),
    Reader("ASVspoof 2021", lambda path: path.absolute().match("ASVspoof2021_[LD][AF]_eval"), read_asvspoof2021),
    Reader("ASVspoof 5", lambda path: any(path.glob("ASVspoof5.*.tsv")), read_asvspoof5),
    Reader("In-the-Wild", _is_in_the_wild, read_in_the_wild),
    Reader("Fake-or-Real", lambda path: any(one.name.lower() in SPLIT_NAMES for one in folders_in(path)), read_folders),
)
