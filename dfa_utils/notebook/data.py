"""The data set that a notebook works on: the toy data, for-rerecorded from Google Drive, or another folder."""

import os
import shutil
import sys
import zipfile
from pathlib import Path

import pandas as pd
from IPython.display import Markdown

from dfa_utils.datasets import toy
from dfa_utils.datasets.layouts import DataError
from dfa_utils.plots import NAMES
from dfa_utils.support.parallel import progress_bar

DRIVE = Path("/content/drive")
LOCAL = Path("/content/data")


def data_root(data: str | Path = "toy") -> Path:
    """The folder of the data set that `data` means; $DFA_DATA, where it is set, wins.

    "toy": 600 clips of simulated voices, made at the first call and kept in the cache folder. "drive", in Colab:
    for-rerecorded from Google Drive; trained detectors then go to the Drive too, unless $DFA_RUNS says where. Anything
    else is a path. Raises DataError for a path that does not exist, a Drive without the data set, and "drive" outside
    Colab.
    """
    if named := os.environ.get("DFA_DATA"):
        return _existing(named, "DFA_DATA")
    if data == "toy":
        return toy.kept()
    return _from_drive() if data == "drive" else _existing(data, "DATA")


def is_toy(manifest: pd.DataFrame) -> bool:
    """Whether these clips are the simulated voices of the package."""
    return bool((manifest.system == toy.REAL_SYSTEM).any())


def class_names(manifest: pd.DataFrame) -> tuple[str, str]:
    """The words for the two classes: on the toy data they say that no human speaks."""
    return ("real (simulated voice)", "fake (vocoded)") if is_toy(manifest) else NAMES


def banner(manifest: pd.DataFrame) -> Markdown:
    """What the reader must know about these data before the first number."""
    if is_toy(manifest):
        return Markdown(
            f"> **Toy data.** {len(manifest)} two-second clips of *simulated* voices, made by a program. They are good "
            "for learning how everything works. Their numbers say nothing about real deepfakes. To work on real "
            "speech, set `DATA` in the first cell."
        )
    return Markdown(
        f"> **{len(manifest):,} clips** from your data set. Sentences with numbers are made from *these* clips; the "
        "other text was written with the toy data and Fake-or-Real in mind."
    )


def _existing(named: str | Path, setting: str) -> Path:
    root = Path(named).expanduser()
    if not root.exists():
        raise DataError(f"{setting} means {root.resolve()}, which does not exist; set it to an absolute path")
    return root


def _from_drive() -> Path:
    """Mount Google Drive and copy for-rerecorded, a folder or a zip, to the local disk, which is far faster to read."""
    if "google.colab" not in sys.modules:
        raise DataError('DATA = "drive" works in Colab only; here, give the path of the data set')
    from google.colab import drive

    drive.mount(str(DRIVE))
    os.environ.setdefault("DFA_RUNS", str(DRIVE / "MyDrive" / "deepfake-audio" / "runs"))
    target = LOCAL / "for-rerecorded"
    if target.exists():
        return target
    drives = DRIVE / "MyDrive"
    found = sorted(p for depth in ("*", "*/*") for p in drives.glob(depth) if _is_data_set(p))
    if not found:
        raise DataError(
            f"no folder or zip whose name begins with for-rerec in {drives}, nor one level below; put it there"
        )
    partial = target.with_name("partial")
    shutil.rmtree(partial, ignore_errors=True)
    _copy(found[0], partial)
    return partial.rename(target)


def _is_data_set(path: Path) -> bool:
    return path.name.lower().startswith("for-rerec") and (path.is_dir() or path.suffix.lower() == ".zip")


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        for file in progress_bar([p for p in source.rglob("*") if p.is_file()], f"copying {source.name}"):
            (target / file.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target / file.relative_to(source))
    else:
        with zipfile.ZipFile(source) as archive:
            _refuse_too_large(archive, source, target)
            for member in progress_bar(archive.infolist(), f"unpacking {source.name}"):
                archive.extract(member, target)


def _refuse_too_large(archive: zipfile.ZipFile, source: Path, target: Path) -> None:
    """DataError where the files would fill the disk, as those of a hostile or damaged archive."""
    size, free = sum(member.file_size for member in archive.infolist()), shutil.disk_usage(target.parents[1]).free
    if size > 0.9 * free:
        raise DataError(f"{source}: would unpack to {size / 1e9:,.1f} GB, and the disk has {free / 1e9:,.1f} GB left")
