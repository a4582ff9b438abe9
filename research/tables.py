"""The tables of `research/results`: where they are, and how they are read and written."""

import gzip
import os
from pathlib import Path

import pandas as pd

from dfa_utils.support import write_atomically

RESULTS = Path(__file__).parent / "results"
NAMES = dict.fromkeys(("system", "speaker"), str)  # columns that may be empty, or look like numbers


def read_table(path: Path) -> pd.DataFrame:
    """A table *.csv or *.csv.gz; systems and speakers that are not named are ""."""
    table = pd.read_csv(path, keep_default_na=False, na_values=[""], dtype=NAMES)
    return table.fillna(dict.fromkeys(NAMES, ""))


def write_table(path: Path, table: pd.DataFrame, digits: str = "%.4f", index: bool = False) -> None:
    """Write a table *.csv or *.csv.gz in one step; the same table gives the same bytes."""
    content = table.to_csv(index=index, float_format=digits).encode(errors="backslashreplace")
    write_atomically(path, gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)


def names_of(manifest: pd.DataFrame, root: Path) -> list[str]:
    """The clips' paths below `root`, with forward slashes, as UTF-8 can hold them."""
    names = [Path(os.path.relpath(path, root)).as_posix() for path in manifest.path]
    return [name.encode(errors="backslashreplace").decode() for name in names]
