"""What of a recording is judged and trained on: windows of one length, cut from what is no digital silence.

Digital silence is what a converter or an editor writes where there is no sound: samples that stay constant, to one step
of 16 bits, for at least 8 ms (at 16 kHz). The constant need not be 0, so an offset moves no pause. Outside a recording
all samples count as 0, so at its two ends zeros are silence however few they are.
"""

from collections.abc import Iterable, Iterator
from itertools import chain

import numpy as np

from dfa_utils.audio import fit_length

CONSTANT = 3 / 32768  # peak to peak, below which samples count as constant: a value and one step to either side
DOUBLINGS = (1, 2, 4, 8, 16, 32, 64)
RUN = 2 * DOUBLINGS[-1]  # samples that must stay constant: 128


def is_silent(waveform) -> bool:
    """Whether an array or tensor [T] is digital silence throughout, so that there is nothing to judge."""
    return not any(audible.any() for _, audible in _with_audible(_parts([waveform], 100 * RUN)))


def find_sounds(waveform, pause: int) -> list[tuple[int, int]]:
    """(First sample, sample after the last) of each sound in an array or tensor [T]; `pause` samples part two."""
    audible = np.concatenate([heard for _, heard in _with_audible([waveform])] or [np.empty(0, bool)])
    places = np.flatnonzero(audible)
    parts = np.split(places, np.flatnonzero(np.diff(places) > pause) + 1)
    return [(int(part[0]), int(part[-1]) + 1) for part in parts if len(part)]


class Windows:
    """The windows of consecutive blocks [T], arrays or tensors, `hop` samples apart.

    Iterate over (start in samples, window [size]). Only what sounds is cut: the first window begins with the first
    sample that is no digital silence, the last one ends with the last, and a silent pause as long as a window parts two
    sounds (`find_sounds`). A sound shorter than `size` is repeated to fill one window. `samples` counts all that came
    by, `sounding` those from the first to the last of each sound that has ended. Memory does not grow with the
    recording.
    """

    def __init__(self, blocks: Iterable, size: int, hop: int):
        self.blocks, self.size, self.hop = blocks, size, hop
        self.samples = self.sounding = 0

    def __iter__(self) -> Iterator[tuple[int, np.ndarray]]:
        sound = None
        for block, audible in _with_audible(_parts(self.blocks, self.size)):
            heard = np.flatnonzero(audible)
            if sound and self.samples + (int(heard[0]) if len(heard) else len(block)) - sound.end >= self.size:
                yield from self._end(sound)
                sound = None
            if len(heard):
                skipped = 0 if sound else int(heard[0])
                sound = sound or _Sound(self.size, self.hop, self.samples + skipped)
                sound.add(block[skipped:], end=self.samples + int(heard[-1]) + 1)
                yield from sound.windows()
            elif sound:
                sound.add(block, sound.end)
            self.samples += len(block)
        if sound:
            yield from self._end(sound)

    def _end(self, sound: "_Sound") -> Iterator[tuple[int, np.ndarray]]:
        self.sounding += sound.end - sound.first
        return sound.rest()


class _Sound:
    """What is between two pauses: held [T] from sample `begin` on, in which the last sound ends at sample `end`."""

    def __init__(self, size: int, hop: int, first: int):
        self.size, self.hop, self.first = size, hop, first
        self.held, self.begin, self.next, self.end = np.empty(0, np.float32), first, first, first

    def add(self, block: np.ndarray, end: int) -> None:
        """Hold a further block [T]; the last sound up to its end ends at sample `end`."""
        self.held, self.end = np.concatenate([self.held, block]), end

    def windows(self) -> Iterator[tuple[int, np.ndarray]]:
        """The windows that end before `end` and were not cut yet; the samples before the last one are let go."""
        while self.next + self.size <= self.end:
            self.held, self.begin = self.held[self.next - self.begin :], self.next
            yield self.begin, self.held[: self.size]
            self.next += self.hop

    def rest(self) -> Iterator[tuple[int, np.ndarray]]:
        """The last window, unless there is one that ends there; or the whole, repeated, if it is shorter."""
        held = self.held[: self.end - self.begin]
        if self.end - self.first < self.size:
            yield self.first, fit_length(held, self.size)
        elif self.begin + self.size < self.end:
            yield self.end - self.size, held[-self.size :]


def _parts(blocks: Iterable, size: int) -> Iterator[np.ndarray]:
    """The blocks [T], cut into parts of at most `size` samples."""
    for block in map(np.asarray, blocks):
        yield from (block[start : start + size] for start in range(0, len(block), size))


def _with_audible(blocks: Iterable) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (block [T], audible: bool [T]); blocks are cut anew, since each sample needs RUN - 1 others around it."""
    around = np.zeros(RUN - 1, np.float32)
    held = around  # RUN - 1 samples of context, then those that were not passed on yet
    for block in chain(blocks, [around]):
        held = np.concatenate([held, block])
        ready = len(held) - 2 * (RUN - 1)
        if ready > 0:
            yield held[RUN - 1 : RUN - 1 + ready], ~_in_constant_run(held)
            held = held[ready:]


def _in_constant_run(samples: np.ndarray) -> np.ndarray:
    """Whether each of [T], but the outer RUN - 1, lies in some run of RUN samples that is constant: bool.

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
