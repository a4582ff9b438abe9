"""What augmentations draw for each clip of a batch by itself: numbers, noise and smooth curves.

`waveforms` [n, T] say for how many clips; the `generator`, on the same device, is where all randomness comes from.
"""

import math

import torch

from dfa_utils.effects.filters import apply_response, frequencies

QUIET = 1e-6  # RMS or peak below which a clip counts as silent


def source_of(generator: torch.Generator) -> dict:
    """Where and from what random numbers are drawn: keyword arguments of torch's functions."""
    return {"generator": generator, "device": generator.device}


def uniform(low: float, high: float, waveforms: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """One number a clip [n, 1]."""
    return low + (high - low) * torch.rand(len(waveforms), 1, **source_of(generator))


def log_uniform(low: float, high: float, waveforms: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """One number a clip [n, 1], uniform in its logarithm."""
    return uniform(math.log(low), math.log(high), waveforms, generator).exp()


def gaussian(waveforms: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """White noise [n, T] of RMS 1."""
    return torch.randn(waveforms.shape, **source_of(generator))


def amplitude(db: torch.Tensor) -> torch.Tensor:
    """The factor that a level in dB stands for."""
    return torch.exp(db * (math.log(10) / 20))


def rms_of(waveforms: torch.Tensor) -> torch.Tensor:
    """RMS of each clip [n, 1], not below QUIET."""
    return waveforms.square().mean(dim=1, keepdim=True).sqrt().clamp_min(QUIET)


def peak_of(waveforms: torch.Tensor) -> torch.Tensor:
    """Highest magnitude of each clip [n, 1], not below QUIET."""
    return waveforms.abs().amax(dim=1, keepdim=True).clamp_min(QUIET)


def coloured_noise(
    waveforms: torch.Tensor, colour: torch.Tensor, sample_rate: int, generator: torch.Generator
) -> torch.Tensor:
    """Noise [n, T] whose amplitude goes with f^colour [n, 1] above 20 Hz."""
    octaves = torch.log(frequencies(waveforms, sample_rate).clamp_min(20) / 1_000)
    return apply_response(gaussian(waveforms, generator), torch.exp(colour * octaves))


def smooth_curve(
    waveforms: torch.Tensor, depth: float, knots: int, sample_rate: int, generator: torch.Generator
) -> torch.Tensor:
    """Gains [n, F] in dB that run smoothly through `knots` random ones, of standard deviation `depth` dB."""
    hz = frequencies(waveforms, sample_rate)
    place = torch.log1p(hz / 300) / math.log1p(sample_rate / 600) * (knots - 1)
    gains = depth * torch.randn(len(waveforms), knots, **source_of(generator))
    before = place.long().clamp(max=knots - 2)
    share = place - before
    share = share * share * (3 - 2 * share)
    return torch.lerp(gains[:, before], gains[:, before + 1], share)
