"""Progress bars, in a terminal or a notebook, that the environment can turn off; and work in threads under one."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

from tqdm.auto import tqdm

CHUNK = 1024  # items that are under way at once, however many there are


def progress_bar(*args, **kwargs) -> tqdm:
    """`tqdm.auto.tqdm`, without a bar where TQDM_DISABLE is set (tqdm's own bar for notebooks ignores that).

    Of several processes only the first shows one.
    """
    hidden = bool(os.environ.get("TQDM_DISABLE")) or os.environ.get("RANK", "0") != "0"
    return tqdm(*args, disable=kwargs.pop("disable", False) or hidden, **kwargs)


def map_in_threads(function: Callable, items: Iterable, description: str) -> Iterator:
    """Yield function(item) for each item, in order, computed in one thread a core, under a progress bar.

    For work that releases the interpreter's lock: decoding, reading, hashing. Memory does not grow with the items.
    """
    total = len(items) if hasattr(items, "__len__") else None
    with ThreadPoolExecutor(os.cpu_count()) as pool, progress_bar(total=total, desc=description) as bar:
        rest = iter(items)
        while chunk := list(islice(rest, CHUNK)):
            for result in pool.map(function, chunk):
                yield result
                bar.update()
