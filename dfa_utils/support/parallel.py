"""Work that is shared: by the processes that a launcher started, and by threads under one progress bar."""

import os
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from operator import itemgetter

import torch.distributed.nn  # noqa: F401 -- before a group exists, which default arguments in it would keep alive
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object, parse_flag_from_env
from joblib import Parallel, delayed
from tqdm.auto import tqdm

SHARE = 64  # items that each of several processes takes before their results are put together
UNDER_WAY = 1024  # items that are computed ahead at most, so that memory does not grow with their number


def this_process() -> PartialState:
    """This process as accelerate sees it: device, process_index, num_processes, is_main_process.

    It is alone unless a launcher such as `torchrun` started more; ACCELERATE_USE_CPU=1 keeps all of them off the GPU.
    """
    return PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"))


def share_between_processes(function: Callable[[Iterable], Iterable], items: Iterable) -> Iterator:
    """Yield what function(items) gives, one result an item, in order.

    Under several processes all must call this: the items of the main process count, of every SHARE * processes of them
    each process computes its share, and the main one yields all results, the others nothing.
    """
    state, rest = this_process(), iter(items)
    if state.num_processes == 1:
        yield from function(rest)
        return
    while chunk := _from_main(list(islice(rest, SHARE * state.num_processes)) if state.is_main_process else None):
        results = gather_in_order(list(function(my_share(chunk))))
        if state.is_main_process:
            yield from results


def my_share(items: list) -> list:
    """What this process has to do of the same `items` in all processes; of one process, all."""
    state = this_process()
    return items[state.process_index :: state.num_processes]


def gather_in_order(results: list) -> list:
    """The results of all items, in order and in every process, from those of each process's `my_share`."""
    state = this_process()
    places = range(state.process_index, state.process_index + len(results) * state.num_processes, state.num_processes)
    gathered = gather_object(list(zip(places, results, strict=True)))
    return [result for _, result in sorted(gathered, key=itemgetter(0))]


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


def _from_main(thing):
    """What the main process has, in every process."""
    return broadcast_object_list([thing])[0]
