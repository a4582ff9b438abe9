"""What of a recording is judged and trained on: windows of one length, cut from what is no digital silence.

Digital silence is what a converter or an editor writes where there is no sound: samples that stay constant, to one step
of 16 bits, for at least 8 ms (at 16 kHz). The constant need not be 0, so an offset moves no pause. Outside a recording
all samples count as 0, so at its two ends zeros are silence however few they are.
"""

from collections.abc import Iterable, Iterator
from itertools import chain

import numpy as np
import torch

from dfa_utils.audio import fit_length

CONSTANT = 3 / 32768  # peak to peak, below which samples count as constant: a value and one step to either side
DOUBLINGS = (1, 2, 4, 8, 16, 32, 64)
RUN = 2 * DOUBLINGS[-1]  # samples that must stay constant: 128


def is_silent(waveform: torch.Tensor) -> bool:
    """Whether [T] is digital silence throughout, so that there is nothing to judge."""
    return not any(audible.any() for _, audible in _with_audible(waveform.split(100 * RUN)))


def find_sounds(waveform: torch.Tensor, pause: int) -> list[tuple[int, int]]:
    """Where [T] sounds: (first sample, sample after the last) of each part; `pause` samples of silence lie between."""
    audible = np.concatenate([heard for _, heard in _with_audible([waveform])] or [np.empty(0, bool)])
    places = np.flatnonzero(audible)
    parts = np.split(places, np.flatnonzero(np.diff(places) > pause) + 1)
    return [(int(part[0]), int(part[-1]) + 1) for part in parts if len(part)]


class Windows:
    """The windows of consecutive blocks [T]: iterate over (start in samples, window [size]), `hop` samples apart.

    Only what sounds is cut: the first window begins with the first sample that is no digital silence, the last one ends
    with the last, and a silent pause as long as a window parts two sounds (`find_sounds`). A sound shorter than `size`
    is repeated to fill one window. `samples` counts all that came by. Memory does not grow with the recording.
    """

    def __init__(self, blocks: Iterable[torch.Tensor], size: int, hop: int):
        self.blocks, self.size, self.hop, self.samples = blocks, size, hop, 0

    def __iter__(self) -> Iterator[tuple[int, torch.Tensor]]:
        sound = None
        for block, audible in _with_audible(part for whole in self.blocks for part in whole.split(self.size)):
            heard = np.flatnonzero(audible)
            if sound and self.samples + (int(heard[0]) if len(heard) else len(block)) - sound.end >= self.size:
                yield from sound.rest()
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
            yield from sound.rest()


class _Sound:
    """What is between two pauses: held [T] from sample `begin` on, in which the last sound ends at sample `end`."""

    def __init__(self, size: int, hop: int, first: int):
        self.size, self.hop, self.first = size, hop, first
        self.held, self.begin, self.next, self.end = torch.empty(0), first, first, first

    def add(self, block: torch.Tensor, end: int) -> None:
        """Hold a further block [T]; the last sound up to its end ends at sample `end`."""
        self.held, self.end = torch.cat([self.held, block]), end

    def windows(self) -> Iterator[tuple[int, torch.Tensor]]:
        """The windows that end before `end` and were not cut yet; the samples before the last one are let go."""
        while self.next + self.size <= self.end:
            self.held, self.begin = self.held[self.next - self.begin :], self.next
            yield self.begin, self.held[: self.size]
            self.next += self.hop

    def rest(self) -> Iterator[tuple[int, torch.Tensor]]:
        """The last window, unless there is one that ends there; or the whole, repeated, if it is shorter."""
        held = self.held[: self.end - self.begin]
        if self.end - self.first < self.size:
            yield self.first, fit_length(held, self.size)
        elif self.begin + self.size < self.end:
            yield self.end - self.size, held[-self.size :]


def _with_audible(blocks: Iterable[torch.Tensor]) -> Iterator[tuple[torch.Tensor, np.ndarray]]:
    """Yield (block [T], audible: bool [T]); blocks are cut anew, since each sample needs RUN - 1 others around it."""
    around = torch.zeros(RUN - 1)
    held = around  # RUN - 1 samples of context, then those that were not passed on yet
    for block in chain(blocks, [around]):
        held = torch.cat([held, block])
        ready = len(held) - 2 * (RUN - 1)
        if ready > 0:
            yield held[RUN - 1 : RUN - 1 + ready], ~_in_constant_run(held.numpy())
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
