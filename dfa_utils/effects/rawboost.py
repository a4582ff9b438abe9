"""RawBoost, an augmentation of raw waveforms for anti-spoofing."""

import torch
from torch.nn.functional import interpolate
from torchaudio.functional import add_noise

from dfa_utils.effects.draws import amplitude, gaussian, peak_of, source_of, uniform
from dfa_utils.effects.filters import apply_response, fft_size

GRID = 257  # frequencies from 0 to half the sample rate at which RawBoost's notches are drawn


def rawboost(waveforms: torch.Tensor, sample_rate: int, generator: torch.Generator) -> torch.Tensor:
    """RawBoost: convolutive noise always, impulsive and stationary noise each for half the clips.

    Tak et al., "RawBoost: A raw data boosting and augmentation method applied to automatic speaker verification
    anti-spoofing", ICASSP 2022, with its ranges. Convolutive: the powers 1 to 5 of the clip, its peak taken as 1, each
    through five notches of its own (centre 20 Hz to 8 kHz, width 100 Hz to 1 kHz), the powers from 2 on weakened by 5
    to 20 dB. Impulsive: up to 10 % of the samples change by up to twice their value. Stationary: notched noise 10 to 40
    dB below.
    """
    boosted = _convolutive(waveforms, sample_rate, generator)
    impulsive = boosted + _impulses(boosted, generator)
    boosted = torch.where(uniform(0, 1, boosted, generator) < 0.5, impulsive, boosted)
    added = apply_response(gaussian(boosted, generator), _notches(boosted, 1, sample_rate, generator)[:, 0])
    stationary = add_noise(boosted, added, uniform(10, 40, boosted, generator)[:, 0])
    return torch.where(uniform(0, 1, boosted, generator) < 0.5, stationary, boosted)


def _notches(waveforms: torch.Tensor, count: int, sample_rate: int, generator: torch.Generator) -> torch.Tensor:
    """Responses [n, count, F], each with five notches 30 dB deep; drawn on a coarse grid, which is much faster."""
    shape = (len(waveforms), count, 5, 1)
    centre = 20 + 7_980 * torch.rand(shape, **source_of(generator))
    width = 100 + 900 * torch.rand(shape, **source_of(generator))
    hz = torch.linspace(0, sample_rate / 2, GRID, device=waveforms.device)
    response = (1 - 0.97 * torch.exp(-0.5 * (2 * (hz - centre) / width) ** 2)).prod(dim=2)  # [n, count, GRID]
    bins = fft_size(waveforms.shape[1]) // 2 + 1
    return interpolate(response, bins, mode="linear", align_corners=True)


def _convolutive(waveforms: torch.Tensor, sample_rate: int, generator: torch.Generator) -> torch.Tensor:
    """RawBoost's sum of the clip's powers 1 to 5 through notches of their own, without DC."""
    peak, size = peak_of(waveforms), fft_size(waveforms.shape[1])
    weaker = [torch.ones_like(peak), *(amplitude(uniform(-20, -5, waveforms, generator)) for _ in range(4))]
    notches = _notches(waveforms, 5, sample_rate, generator) * torch.stack(weaker, dim=1)
    powers = (waveforms / peak)[:, None].repeat(1, 5, 1).cumprod(dim=1)
    boosted = torch.fft.irfft((torch.fft.rfft(powers, size) * notches).sum(dim=1), size)[:, : waveforms.shape[1]]
    return (boosted - boosted.mean(dim=1, keepdim=True)) * peak


def _impulses(waveforms: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """RawBoost's impulses, in proportion to the samples they hit."""
    hit = torch.rand(waveforms.shape, **source_of(generator)) < uniform(0, 0.1, waveforms, generator)
    first, second = (2 * torch.rand(waveforms.shape, **source_of(generator)) - 1 for _ in range(2))
    return 2 * hit * first * second * waveforms
