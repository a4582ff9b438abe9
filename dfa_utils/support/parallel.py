"""Work that is shared: by the processes that a launcher started, and by threads under one progress bar."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from itertools import islice
from operator import itemgetter
from typing import TYPE_CHECKING

from tqdm.auto import tqdm

if TYPE_CHECKING:
    from accelerate import PartialState

SHARE = 64  # items that each of several processes takes before their results are put together
UNDER_WAY = 1024  # items that are computed ahead at most, so that memory does not grow with their number


class Alone:
    """The only process there is, where torch is not installed; the names are those of accelerate's `PartialState`."""

    device, process_index, num_processes, is_main_process = "cpu", 0, 1, True

    def local_main_process_first(self) -> AbstractContextManager:
        """Nobody waits."""
        return nullcontext()

    def destroy_process_group(self) -> None:
        """There is no group."""


def this_process() -> "PartialState | Alone":
    """This process as accelerate sees it: device, process_index, num_processes, is_main_process.

    It is alone unless a launcher such as `torchrun` started more; ACCELERATE_USE_CPU=1 keeps all of them off the GPU.
    """
    if find_spec("torch") is None:
        return Alone()
    import torch.distributed.nn  # noqa: F401 -- before a group exists, which default arguments in it would keep alive
    from accelerate import PartialState
    from accelerate.utils import parse_flag_from_env

    return PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"))


def usable_device(name: str | None = None):
    """The device of that name; None: this process's own, a GPU if there is one.

    Raises ValueError, with the cure, where it cannot be used.
    """
    import torch

    device = name or this_process().device
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"--device {device} cannot be used here ({reason}); --device cpu always can") from error
    return device


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
    from accelerate.utils import gather_object

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
    from joblib import cpu_count

    total, rest = len(items) if hasattr(items, "__len__") else None, iter(items)
    with progress_bar(total=total, desc=description) as bar:
        while chunk := list(islice(rest, UNDER_WAY)):
            with ThreadPoolExecutor(cpu_count()) as pool:  # after an error it waits for what the others have begun
                for result in pool.map(function, chunk):
                    yield result
                    bar.update()


def _from_main(thing):
    """What the main process has, in every process."""
    from accelerate.utils import broadcast_object_list

    return broadcast_object_list([thing])[0]
