"""Work that is shared: by the processes that a launcher started, and by threads under one progress bar."""

import os
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from accelerate import PartialState
from accelerate.utils import parse_flag_from_env
from joblib import Parallel, delayed
from tqdm.auto import tqdm

UNDER_WAY = 1024  # items that are computed ahead at most, so that memory does not grow with their number


def this_process() -> PartialState:
    """This process as accelerate sees it: device, process_index, num_processes, is_main_process.

    It is alone unless a launcher such as `torchrun` started more; ACCELERATE_USE_CPU=1 keeps all of them off the GPU.
    """
    return PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"))


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
    total, rest = len(items) if hasattr(items, "__len__") else None, iter(items)
    with progress_bar(total=total, desc=description) as bar:
        while chunk := list(islice(rest, UNDER_WAY)):
            work = Parallel(n_jobs=-1, prefer="threads", return_as="generator")
            for result in work(delayed(function)(item) for item in chunk):
                yield result
                bar.update()
