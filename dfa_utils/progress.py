"""Progress bars, in a terminal or a notebook, that the environment can turn off."""

import os

from tqdm.auto import tqdm


def progress_bar(*args, **kwargs) -> tqdm:
    """`tqdm.auto.tqdm`, without a bar where TQDM_DISABLE is set: tqdm's own bar for notebooks ignores that."""
    return tqdm(*args, disable=bool(os.environ.get("TQDM_DISABLE")), **kwargs)
