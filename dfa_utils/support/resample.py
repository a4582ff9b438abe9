"""From one sample rate to another, block by block, in NumPy: what `torchaudio.transforms.Resample` computes.

Each output sample is a weighted sum of the input samples around it, by a sinc that a Hann window ends (torchaudio's
`sinc_interp_hann`, Smith, "Digital audio resampling", https://ccrma.stanford.edu/~jos/resample). torchaudio multiplies
with all its zeros too; here each output takes those weights alone that count. And an exported detector, which reads
files through this module, needs no torch.
"""

import math
from collections.abc import Iterable, Iterator
from fractions import Fraction
from functools import lru_cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

ZERO_CROSSINGS = 6  # of the sinc on each side
ROLL_OFF = 0.99  # of the lower Nyquist frequency: where the low-pass lies
LARGEST_RATIO = 2_000  # the weights of finer ratios would fill memory


def resample_blocks(blocks: Iterable[tuple[np.ndarray, int]], sample_rate: int) -> Iterator[np.ndarray]:
    """Resample consecutive blocks ([T] float32, Hz) to `sample_rate` Hz as if they were one waveform.

    Each block is resampled together with its neighbours' edges, as far as the weights reach. The rates' ratio is taken
    in numbers up to LARGEST_RATIO: exact for every usual rate, at most 3e-4 off for an odd one (44,101 Hz).
    """
    held, done, new, old = np.empty(0, np.float32), 0, 1, 1  # held[:done] was resampled before and is context now
    for block, rate in blocks:
        if rate == sample_rate:
            yield block
            continue
        new, old = Fraction(sample_rate, rate).limit_denominator(LARGEST_RATIO).as_integer_ratio()
        margin = old * math.ceil(16 * max(1, old / new) / old)  # samples of context, whole periods of the ratio
        held = np.concatenate([held, block])
        ready = (len(held) - margin) // old * old
        if ready >= margin and ready > done:
            yield resample(held, old, new)[done * new // old : ready * new // old]
            held, done = held[ready - margin :], margin
    if len(held) > done:
        yield resample(held, old, new)[done * new // old :]


def resample(samples: np.ndarray, old: int, new: int) -> np.ndarray:
    """[T] float32 at a rate of `old` as [ceil(T * new / old)] at a rate of `new`; the two have no common divisor."""
    weights, starts, reach = _weights(old, new)
    periods = -(-len(samples) // old)
    padded = np.pad(samples, (reach, reach + old + weights.shape[1]))
    spans = sliding_window_view(padded, weights.shape[1])  # [T', taps]
    out = np.empty((periods, new), np.float32)
    for phase, start in enumerate(starts):
        out[:, phase] = spans[start::old][:periods] @ weights[phase]
    return out.reshape(-1)[: -(-len(samples) * new // old)]


@lru_cache
def _weights(old: int, new: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Weights [new, taps] of a period's outputs, the first input sample of each [new], and how far back they reach."""
    cutoff = min(old, new) * ROLL_OFF
    reach = math.ceil(ZERO_CROSSINGS * old / cutoff)
    phases = np.arange(new)
    starts = phases * old // new
    inputs = starts[:, None] - reach + np.arange(2 * reach + 2)  # [new, taps], in input samples
    times = np.clip((inputs / old - phases[:, None] / new) * cutoff, -ZERO_CROSSINGS, ZERO_CROSSINGS)
    window = np.cos(times * np.pi / ZERO_CROSSINGS / 2) ** 2
    return (np.sinc(times) * window * cutoff / old).astype(np.float32), starts, reach
