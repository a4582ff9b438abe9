"""The processes that share one piece of work, as accelerate sees them."""

from accelerate import PartialState
from accelerate.utils import parse_flag_from_env


def this_process() -> PartialState:
    """This process: its device, process_index, num_processes, is_main_process; alone, unless a launcher made more.

    `torchrun` starts several; ACCELERATE_USE_CPU=1 keeps them off the GPU.
    """
    return PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"))
