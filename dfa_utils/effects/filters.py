"""What augmentation and corruptions share: convolution, filters without phase, sample rates, codecs.

Waveforms [..., T] are float32; whatever goes through stays in step, sample by sample.
"""

import io
import math

import numpy as np
import soundfile
import torch
from torch.nn.functional import pad, softplus

from dfa_utils.support.resample import resample_blocks

MP3_DELAY = 576 + 529  # samples; of LAME's encoder and of any decoder


def convolve(waveforms: torch.Tensor, kernels: torch.Tensor) -> torch.Tensor:
    """[..., T] with [..., K] -> [..., T + K - 1], at a size that is fast for the FFT; others take ten times it."""
    samples = waveforms.shape[-1] + kernels.shape[-1] - 1
    size = fft_size(samples)
    return torch.fft.irfft(torch.fft.rfft(waveforms, size) * torch.fft.rfft(kernels, size), size)[..., :samples]


def fft_size(samples: int) -> int:
    """The next size of FFT that is fast: a power of two times 1, 3, 5 or 9."""
    return min(factor * 2 ** max(0, math.ceil(math.log2(samples / factor))) for factor in (1, 3, 5, 9))


def frequencies(waveforms: torch.Tensor, sample_rate: int) -> torch.Tensor:
    """Hz [F] of the bins of the responses that `apply_response` takes for [n, T]."""
    return torch.fft.rfftfreq(fft_size(waveforms.shape[1]), 1 / sample_rate, device=waveforms.device)


def apply_response(waveforms: torch.Tensor, response: torch.Tensor) -> torch.Tensor:
    """[n, T] through a response [n, F] without phase; the end runs into the start."""
    size = fft_size(waveforms.shape[1])
    return torch.fft.irfft(torch.fft.rfft(waveforms, size) * response, size)[:, : waveforms.shape[1]]


def high_pass(hz: torch.Tensor, edge: torch.Tensor, order: float) -> torch.Tensor:
    """Butterworth's amplitude [n, F] at `hz` [F] for edges [n, 1] in Hz; no DC passes."""
    return (1 + (edge / hz.clamp_min(1e-3)) ** (2 * order)).rsqrt()


def low_pass(hz: torch.Tensor, edge: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    """Butterworth's amplitude [n, F] at `hz` [F] for edges [n, 1] in Hz and orders [n, 1]."""
    return torch.exp(-0.5 * softplus(2 * order * torch.log(hz.clamp_min(1e-3) / edge)))


def change_rate(waveform: torch.Tensor, old: int, new: int) -> torch.Tensor:
    """[T] at `old` Hz resampled to `new` Hz, [about T * new / old], as `support.resample.resample_blocks` does."""
    return torch.from_numpy(np.concatenate(list(resample_blocks([(waveform.numpy(), old)], new))))


def fit_end(waveform: torch.Tensor, size: int) -> torch.Tensor:
    """[size]: [T] cut at its end or followed by zeros."""
    return pad(waveform, (0, max(0, size - len(waveform))))[:size]


def through_codec(waveform: torch.Tensor, sample_rate: int, **style) -> torch.Tensor:
    """[T] on the CPU through one of libsndfile's codecs and back; `style` is what `soundfile.write` takes."""
    file = io.BytesIO()
    soundfile.write(file, waveform.numpy(), sample_rate, **style)
    file.seek(0)
    decoded = torch.from_numpy(soundfile.read(file, dtype="float32")[0])
    delayed = style["format"] == "MP3" and len(decoded) > len(waveform)  # frames at low rates cannot hold its tag
    return fit_end(decoded[MP3_DELAY if delayed else 0 :], len(waveform))
