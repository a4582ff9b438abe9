"""Finding audio files, and the layouts of published data sets: one reader each, which gives one row per clip.

Labels: 1 = fake. `system` and `speaker` are empty where the source does not tell; real clips have no system.
"""

import csv
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from io import StringIO
from pathlib import Path
from typing import NamedTuple

import pandas as pd

ENDINGS = """wav wave w64 rf64 bwf flac oga ogg opus spx mp3 mp2 mp1 mpga mpa aif aiff aifc au snd caf voc iff 8svx svx
sf ircam nist sph paf pvf avr amr awb aac adts ac3 eac3 ec3 dts ape tta mpc wv wma tak shn gsm dss qcp dsf dff m4a m4b
m4r mp4 m4v mov qt 3ga 3gp 3gpp 3g2 webm weba mkv mka ogv ogx avi asf wmv flv f4v ts mts m2ts mpg mpeg mpe vob nut mxf
ra rm rmvb swf oma dv"""
SUFFIXES = {f".{ending}" for ending in ENDINGS.split()}  # of audio and video that libsndfile or FFmpeg reads
SPLITS = ("training", "validation", "testing")
CLASSES = ("real", "fake")  # the index is the label
SPLIT_NAMES = dict.fromkeys(("training", "train"), "training")
SPLIT_NAMES |= dict.fromkeys(("validation", "valid", "val", "dev", "devel", "development"), "validation")
SPLIT_NAMES |= dict.fromkeys(("testing", "test", "eval", "evaluation"), "testing")
SPLIT_LIKE = {"set", "subset", "partition", "part", "fold", "phase", "usage"}  # columns that may mean the split
LABEL_NAMES = dict.fromkeys(("real", "bonafide", "bona-fide", "bona_fide", "bona fide", "genuine", "0", "0.0"), 0)
LABEL_NAMES |= dict.fromkeys(("fake", "spoof", "spoofed", "deepfake", "1", "1.0"), 1)
SHOWN = 8  # values or folders that a message names at most
LAYOUT = "ROOT/{training,validation,testing}/{real,fake}/*.wav, a manifest.csv, or a layout that data/README.md lists"
DEPTH = 3  # folders below the given one in which a data set is looked for

# The columns of the protocols, in the published order; "-" is a column that is not used here.
ASVSPOOF2019 = {"LA": "speaker file - system label", "PA": "speaker file environment system label"}
ASVSPOOF2021 = {"LA": "speaker file codec transmission system label - subset"}
ASVSPOOF2021 |= {"DF": "speaker file codec source system label - subset vocoder"}
ASVSPOOF5 = "speaker file gender codec codec_q - - system label -"


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
    clip (codec, environment, ...). Rows whose file is missing are left out with one warning; a file may have another
    audio ending than its row says. Raises DataError if `root` does not exist, holds no known layout or several data
    sets, if a protocol or all audio is missing, or if a file is labelled both real and fake.
    """
    root = Path(root).expanduser()
    if not root.exists():
        raise DataError(f"{root}: no such folder; expected {LAYOUT}")
    found = find_sets(root)
    if not found:
        where = f"in it or up to {DEPTH} folders below (found {_name_folders(root)})"
        raise DataError(f"{root}: no folder called training, validation or testing {where}; expected {LAYOUT}")
    if {home.name.lower() for _, home in found} & {*CLASSES}:
        raise DataError(f"{root}: put real and fake into each split, not around the splits; expected {LAYOUT}")
    if len(found) > 1:
        named = "; ".join(f"{home} ({reader.name})" for reader, home in found)
        raise DataError(f"{root}: {len(found)} data sets side by side; name one of them: {named}")
    reader, home = found[0]
    manifest = _locate(reader.read(home), home)
    labels = manifest.label.groupby(manifest.path.map(os.path.realpath)).nunique()
    if len(both := labels.index[labels > 1]):
        files = f"{counted(len(both), 'file')} labelled both real and fake, such as {both[0]}"
        raise DataError(f"{home}: {files}; keep one label for each file")
    return manifest


def find_sets(path: Path, depth: int = DEPTH) -> list[tuple[Reader, Path]]:
    """The data sets at `path` or, if there is none, in the folders below it, each with its reader."""
    here = [(reader, path) for reader in READERS if reader.knows(path)]
    return here[:1] or [found for folder in folders_in(path) if depth for found in find_sets(folder, depth - 1)]


def find_audio(folder) -> list[Path]:
    """All audio and video files below a folder, by their ending, in the order of their names.

    Hidden files and folders are skipped; one warning counts the files with other endings. Links are followed, unless
    they lead back to a folder around them. A folder that cannot be read is in the list itself, so that the caller
    reports it.
    """
    paths, unread = [], []
    for home, folders, files in os.walk(folder, followlinks=True, onerror=lambda error: unread.append(error.filename)):
        folders[:] = [name for name in folders if name[0] != "." and not _leads_back(Path(home, name))]
        paths += [Path(home, name) for name in files if name[0] != "."]
    if others := [ending for ending in (path.suffix.lower() for path in paths) if ending not in SUFFIXES]:
        passed = f"passed over {counted(len(others), 'file')} without an audio ending: {tally(others)}"
        warnings.warn(f"{folder}: {passed}", stacklevel=2)
    return sorted([*(path for path in paths if path.suffix.lower() in SUFFIXES), *map(Path, unread)])


def expand(paths: Iterable) -> Iterator[Path]:
    """The given files, and all audio files below the given folders; a folder without audio is yielded itself."""
    for path in map(Path, paths):
        yield from (find_audio(path) if os.path.isdir(path) else []) or [path]


def folders_in(folder: Path) -> list[Path]:
    """The visible folders in a folder, by name; none in one that cannot be read."""
    _, names, _ = next(os.walk(folder), ("", [], []))
    visible = [folder / name for name in sorted(names) if name[0] != "." and name != "__MACOSX"]
    return [inner for inner in visible if not _leads_back(inner)]


def describe(manifest: pd.DataFrame, root: Path) -> str:
    """The clips of each split and class, and the first folders below `root`, for an error."""
    clips = tally(f"{split}/{CLASSES[label]}" for split, label in zip(manifest.split, manifest.label, strict=True))
    return f"found clips: {clips or 'none'}; found {_name_folders(root)}"


def tally(values: Iterable[str]) -> str:
    """How often each value occurs, the most frequent first: .txt (12), .pdf (3)."""
    counts = pd.Series([*values], dtype=object).value_counts()
    named = [f"{value or 'none'} ({count})" for value, count in counts.head(SHOWN).items()]
    return ", ".join([*named, "..."][: len(counts)])


def counted(count: int, noun: str) -> str:
    """A number with its noun: 1 file, 2 files."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def read_folders(home: Path) -> pd.DataFrame:
    """Fake-or-Real in any of its four variants (Reimao and Tzerpos, SpeD 2019): HOME/SPLIT/{real,fake}/**/*.wav.

    Audio files elsewhere below HOME are left out with one warning that counts them.
    """
    paths = find_audio(home)
    places = [(*path.relative_to(home).parts, "")[:2] for path in paths]
    split = [SPLIT_NAMES.get(outer.strip().lower()) for outer, _ in places]
    label = [LABEL_NAMES.get(inner.strip().lower()) for _, inner in places]
    table = pd.DataFrame({"path": [*map(str, paths)], "split": split, "label": label, "system": "", "speaker": ""})
    known = table.split.notna() & table.label.notna()
    if not known.all():
        folders = tally("/".join(place) for place, inside in zip(places, known, strict=True) if not inside)
        left_out = f"left out {counted((~known).sum(), 'audio file')} outside the folders SPLIT/{{real,fake}}"
        warnings.warn(f"{home}: {left_out}: {folders}", stacklevel=4)
    return table[known].astype({"label": int}).reset_index(drop=True)


def read_table(path: Path) -> pd.DataFrame:
    """A CSV file, or a folder's manifest.csv, with columns path (relative to the file), label, often split and others.

    Columns may be separated by commas, semicolons, tabs or |. Without a column split, all clips are testing; rows with
    a split of another name are left out with one warning that counts them. Raises DataError for a missing column, an
    unknown label, splits that are all unknown or in a column of another name, or a file that is not a CSV.
    """
    path = path if path.is_file() else path / "manifest.csv"
    table = _read_table(path, ("path", "label"))
    named = _splits(path, table)
    known = named.str.lower().isin(SPLIT_NAMES)
    if not known.all():
        rows = f"{counted((~known).sum(), 'row')} with a split other than {', '.join(SPLITS)}: {tally(named[~known])}"
        if not known.any():
            raise DataError(f"{path}: nothing but {rows}; use these names")
        warnings.warn(f"{path}: left out {rows}", stacklevel=4)
    table, split = table[known].reset_index(drop=True), named[known].str.lower().map(SPLIT_NAMES)
    return _manifest(path, table, [os.path.join(path.parent, name) for name in table.path], [*split])


def read_in_the_wild(home: Path) -> pd.DataFrame:
    """In-the-Wild (Müller et al., Interspeech 2022): HOME/meta.csv (file, speaker, label) and the clips beside it.

    All clips are testing. The speaker of a fake is the person whom it imitates; systems are unknown.
    """
    table = _read_table(home / "meta.csv", ("file", "speaker", "label"))
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


def _name_folders(root: Path) -> str:
    """The first folders one or two levels below `root`."""
    folders = [folder for outer in folders_in(root) for folder in (folders_in(outer) or [outer])]
    names = [folder.relative_to(root).as_posix() for folder in folders]
    return f"folders {', '.join([*names[:SHOWN], '...'][: len(names)])}" if names else "no folders"


def _leads_back(folder: Path) -> bool:
    """Whether a folder is a link to one that holds it: following such links would never end."""
    target = os.path.realpath(folder)
    return folder.is_symlink() and any(Path(os.path.realpath(place)).is_relative_to(target) for place in folder.parents)


def _read_text(path: Path) -> str:
    """The text of a table in UTF-8, UTF-16, or else in cp1252, as Excel saves it; without Excel's first line sep=;."""
    content = path.read_bytes()
    for encoding in ["utf-16"] if b"\0" in content else ["utf-8-sig", "cp1252"]:
        with suppress(UnicodeDecodeError):
            text = content.decode(encoding)
            return text.partition("\n")[2] if "sep=" in text[:5].lower() else text
    raise DataError(f"{path}: not a table in UTF-8, UTF-16 or cp1252; fetch it again, or save it as CSV in UTF-8")


def _head(text: str) -> tuple[str, list[str]]:
    """What separates the columns of a table, and the names in its first line, in lower case."""
    head = text.strip().partition("\n")[0]
    separator = max(",;\t|", key=head.count)
    return separator, [name.strip('" \r').lower() for name in head.split(separator)]


def _read_table(path: Path, needed: tuple[str, ...]) -> pd.DataFrame:
    """A table with a header line; names of columns in lower case, no blanks around names and values."""
    separator, names = _head(_read_text(path))
    table = _csv(path, sep=separator, skipinitialspace=True, index_col=False).fillna("")
    table.columns = table.columns.str.strip().str.lower()
    missing, twice = {*needed} - {*table}, {name for name in needed if names.count(name) > 1}
    if missing or twice:
        wrong = f"{'no' if missing else 'more than one'} column {', '.join(sorted(missing or twice))}"
        found = f"found {', '.join(names)}, separated by {separator!r}; expected {', '.join(needed)}, each once"
        raise DataError(f"{path}: {wrong}; {found}")
    return table.apply(lambda column: column.str.strip())


def _splits(path: Path, table: pd.DataFrame) -> pd.Series:
    """The column split, or testing for every row; DataError if a column of another name holds the splits."""
    if "split" in table:
        return table.split
    for name, values in table.items():
        if values.str.lower().isin(SPLIT_NAMES).mean() > 0.5:
            raise DataError(f"{path}: no column split, but {name} looks like it: {tally(values)}; call it split")
    if alike := sorted(SPLIT_LIKE & {*table}):
        warnings.warn(f"{path}: no column split, so all rows are testing; {', '.join(alike)} is not used", stacklevel=5)
    return pd.Series("testing", table.index)


def _csv(path: Path, **options) -> pd.DataFrame:
    try:
        return pd.read_csv(StringIO(_read_text(path)), dtype=str, keep_default_na=False, **options)
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise DataError(f"{path}: cannot be read as a table ({str(error).strip()}); fetch or save it again") from error


def _read_protocols(home: Path, columns: str, splits, protocols: list[Path], clips: list[Path]) -> pd.DataFrame:
    """The rows of all protocols that are there; each split has a protocol and a folder of clips."""
    parts = zip(protocols, splits, clips, strict=True)
    tables = [_read_protocol(file, columns, split, folder) for file, split, folder in parts if file.is_file()]
    if not tables:
        raise DataError(f"{home}: no protocol for it; unpack its protocols or keys to {', '.join(map(str, protocols))}")
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
    # a dash, and in 2021 the word bonafide: no attack, codec or vocoder
    known = table.drop(columns=["label", "file", "-"], errors="ignore").replace(["-", "bonafide"], "")
    return _manifest(file, known.assign(label=table.label), paths, split)


def _manifest(file: Path, table: pd.DataFrame, paths: list[str], split) -> pd.DataFrame:
    """The five columns of every manifest, then the others of `table`; DataError for an unknown label."""
    labels = table.label.str.lower()
    if not (known := labels.isin(LABEL_NAMES)).all():
        raise DataError(f"{file}: labels {tally(labels[~known])} are unknown; use real and fake, or 0 = real, 1 = fake")
    columns = {"path": paths, "split": split, "label": labels.map(LABEL_NAMES)}
    columns |= {name: table.get(name, "") for name in ("system", "speaker")}
    return pd.DataFrame(columns).join(table.drop(columns=list(columns), errors="ignore"))


def _locate(manifest: pd.DataFrame, home: Path) -> pd.DataFrame:
    """The rows whose file exists, each with the path of that file."""
    listings = {}
    paths = pd.Series([_find_file(path, listings) for path in manifest.path], manifest.index, dtype=object)
    gone = manifest.path[paths == ""]
    if len(gone) and len(gone) == len(manifest):
        cure = "unpack them there; paths in a table are relative to its folder"
        raise DataError(f"{home}: none of its {len(gone)} audio files is there, e.g. {gone.iloc[0]}; {cure}")
    if len(gone):
        named = ", ".join(gone[:5]) + (", ..." if len(gone) > 5 else "")
        warnings.warn(f"{home}: {len(gone)} of {len(manifest)} audio files are missing: {named}", stacklevel=4)
    return manifest.assign(path=paths)[paths != ""].reset_index(drop=True)


def _find_file(path: str, listings: dict[str, dict[str, str]]) -> str:
    """A path as its file is called here: with / for a backslash, or with another audio ending; "" if there is none.

    Each folder is listed once, into `listings`, which is faster than to look for each file.
    """
    for place in dict.fromkeys((path, path.replace("\\", "/"))):
        folder, name = os.path.split(place)
        if folder not in listings:
            listings[folder] = _names_in(folder or ".")
        stem, ending = os.path.splitext(name)
        others = f"{stem if ending.lower() in SUFFIXES else name}."
        if found := listings[folder].get(name) or listings[folder].get(others):
            return place[: len(place) - len(name)] + found
    return ""


def _names_in(folder: str) -> dict[str, str]:
    """The files of a folder by their names, and audio files also by their names up to the dot."""
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    audio = {f"{stem}.": stem + end for stem, end in map(os.path.splitext, names) if end.lower() in SUFFIXES}
    return audio | {name: name for name in names}


def _is_in_the_wild(path: Path) -> bool:
    table = path / "meta.csv"
    return table.is_file() and {"file", "speaker", "label"} <= {*_head(_read_text(table))[1]}


READERS = (  # the first that knows a folder reads it
    Reader("table", lambda path: path.is_file() or (path / "manifest.csv").is_file(), read_table),
    Reader("ASVspoof 2019", lambda path: path.absolute().match("ASVspoof2019_[LP]A_cm_protocols"), read_asvspoof2019),
    Reader("ASVspoof 2021", lambda path: path.absolute().match("ASVspoof2021_[LD][AF]_eval"), read_asvspoof2021),
    Reader("ASVspoof 5", lambda path: any(path.glob("ASVspoof5.*.tsv")), read_asvspoof5),
    Reader("In-the-Wild", _is_in_the_wild, read_in_the_wild),
    Reader("Fake-or-Real", lambda path: any(one.name.lower() in SPLIT_NAMES for one in folders_in(path)), read_folders),
)
