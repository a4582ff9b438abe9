"""The parts of a recording that are judged and trained on: windows of one length, without digital silence.

Digital silence is what a converter or an editor writes where there is no sound: samples that stay constant, to one step
of 16 bits, for at least 8 ms (at 16 kHz). The constant need not be 0, so an offset does not move a pause. Samples
outside the recording count as 0, so zeros at its two ends are silence, however few they are.
"""

from collections.abc import Iterable, Iterator

import numpy as np

from dfa_utils.audio import fit_length

CONSTANT = 3 / 32768  # peak to peak; samples that vary less count as constant: a value and one step to either side
DOUBLINGS = (1, 2, 4, 8, 16, 32, 64)
RUN = 2 * DOUBLINGS[-1]  # samples that must stay constant: 128


def is_silent(waveform) -> bool:
    """Whether an array or tensor [T] is digital silence throughout, so that there is nothing to judge."""
    return not _is_audible(np.asarray(waveform)).any()


def find_sounds(waveform, pause: int) -> list[tuple[int, int]]:
    """(First sample, sample after the last) of each sound in an array or tensor [T]; `pause` samples separate two."""
    places = np.flatnonzero(_is_audible(np.asarray(waveform)))
    parts = np.split(places, np.flatnonzero(np.diff(places) > pause) + 1)
    return [(int(part[0]), int(part[-1]) + 1) for part in parts if len(part)]


def cut_windows(
    samples: np.ndarray, sounds: Iterable[tuple[int, int]], size: int, hop: int
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (start in samples, window [size]) of the sounds in [T], as `find_sounds` gives them, `hop` samples apart.

    The first window of a sound begins with it, the last one ends with it; a sound shorter than `size` is repeated to
    fill one window.
    """
    for start, end in sounds:
        if end - start < size:
            yield start, fit_length(samples[start:end], size)
            continue
        starts = [*range(start, end - size + 1, hop), end - size]
        for first in dict.fromkeys(starts):  # each place once
            yield first, samples[first : first + size]


def in_pieces(blocks: Iterable, size: int) -> Iterator[np.ndarray]:
    """Join blocks [T], arrays or tensors, and cut them into pieces of `size` samples; the last has up to twice as many.

    So no piece is short, unless the recording is: a moment of sound at its end would fill windows of its own.
    """
    held, count = [], 0
    for block in map(np.asarray, blocks):
        held.append(block)
        count += len(block)
        if count >= 2 * size:
            joined = np.concatenate(held)
            ready = count // size - 1  # pieces
            yield from np.split(joined[: ready * size], ready)
            held, count = [joined[ready * size :]], count - ready * size
    if count:
        yield np.concatenate(held)


def _is_audible(samples: np.ndarray) -> np.ndarray:
    """For each of [T]: is it outside all constant runs of RUN samples? bool."""
    return ~_in_constant_run(np.pad(samples, RUN - 1)) if len(samples) else np.empty(0, bool)


def _in_constant_run(samples: np.ndarray) -> np.ndarray:
    """For each of [T], without the first and last RUN - 1: is it in a constant run of RUN samples? bool.

    By doubling: the extremes over 2, 4, 8 ... RUN samples follow from those over half as many.
    """
    highest = lowest = samples
    for step in DOUBLINGS:
        highest = np.maximum(highest[:-step], highest[step:])
        lowest = np.minimum(lowest[:-step], lowest[step:])
    constant = highest - lowest < CONSTANT  # of the RUN samples from each on
    for step in DOUBLINGS:
        constant = constant[:-step] | constant[step:]
    return constant
