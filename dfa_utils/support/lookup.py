"""Tables of named things: the models, augmentations, corruptions and vocoders that there are."""

from collections.abc import Mapping
from typing import TypeVar

Entry = TypeVar("Entry")


def find_entry(table: Mapping[str, Entry], name: str, what: str) -> Entry:
    """What `table` holds under `name`; `what` says in the error what its entries are.

    Raises ValueError, which lists the known names.
    """
    if name not in table:
        raise ValueError(f"no {what} called {name!r}; known: {', '.join(table)}")
    return table[name]
