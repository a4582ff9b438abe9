"""Classical vocoders: they analyse speech and synthesise it again, so that the copy differs by their trace alone.

None has trained weights. Each takes a waveform [T] (NumPy float32) of 0.1 s or more with a peak of 1, its `sample_rate`
in Hz, and a generator, from which it draws its settings; it returns [T], every sample at its place. Sizes in samples
are those at 16 kHz; at other rates they last as long.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from scipy.signal import decimate
from scipy.special import diric
from torch.nn.functional import pad

from dfa_utils.support import look_up

FLOOR = 1e-5  # magnitude below which a spectrogram counts as empty
PITCH_RANGE = (60, 500)  # Hz
Vocoder = Callable[[np.ndarray, int, np.random.Generator], np.ndarray]


def griffin_lim(waveform: np.ndarray, sample_rate: int, generator: np.random.Generator) -> np.ndarray:
    """[T] from its magnitude spectrogram, by 8 to 40 rounds of fast Griffin-Lim from random phase.

    FFT size 512, 800 or 1,024, hop a quarter or a fifth of it. Griffin and Lim, IEEE TASSP 1984; Perraudin et al.,
    "A fast Griffin-Lim algorithm", WASPAA 2013.
    """
    import librosa

    size = _scaled(int(generator.choice((512, 800, 1024))), sample_rate)
    grid = {"n_fft": size, "hop_length": size // int(generator.choice((4, 5)))}
    magnitude, rounds = np.abs(librosa.stft(waveform, **grid)), int(generator.choice((8, 20, 40)))
    return librosa.griffinlim(magnitude, n_iter=rounds, length=len(waveform), random_state=generator, **grid)


def source_filter(waveform: np.ndarray, sample_rate: int, generator: np.random.Generator) -> np.ndarray:
    """[T] as an excitation of harmonics and noise under the envelope of 40, 64 or 80 mel bands of the speech.

    The excitation has 8, 30 or all harmonics. After the neural source-filter model (Wang et al., "Neural
    source-filter-based waveform model", ICASSP 2019), with a filter that is not trained.
    """
    import librosa

    grid = {"n_fft": _scaled(512, sample_rate), "hop_length": _scaled(128, sample_rate)}
    speech = librosa.stft(waveform, **grid)
    source = librosa.stft(_excitation(waveform, sample_rate, generator), **grid)
    made = _with_envelope(source, speech, int(generator.choice((40, 64, 80))), sample_rate)
    return librosa.istft(made, length=len(waveform), **grid)


def image(waveform: np.ndarray, sample_rate: int, generator: np.random.Generator) -> np.ndarray:
    """[T] whose upper band is made of spectral images of the lower half or quarter, under the true envelope.

    Zeros are inserted between samples and filtered, as a transposed convolution does, which leaves images; up to 60 %
    of the band is kept (30 % of it over the quarter). Pons et al., "Upsampling artifacts in neural audio synthesis",
    ICASSP 2021.
    """
    import librosa

    factor = int(generator.choice((2, 2, 4)))
    raised = np.zeros_like(waveform)
    raised[::factor] = decimate(waveform, factor, ftype="fir")
    raised = np.convolve(raised, _upsampling_taps(factor, generator), "same")
    grid = {"n_fft": _scaled(512, sample_rate), "hop_length": _scaled(128, sample_rate)}
    speech, images = librosa.stft(waveform, **grid), librosa.stft(raised, **grid)
    made = _with_envelope(images, speech, 48, sample_rate)
    kept = int(generator.uniform(0, 0.3 if factor == 4 else 0.6) * len(speech))
    made[:kept] = speech[:kept]
    return librosa.istft(made, length=len(waveform), **grid)


VOCODERS: dict[str, Vocoder] = {"griffin_lim": griffin_lim, "source_filter": source_filter, "image": image}


def vocode(waveform: torch.Tensor, name: str, sample_rate: int, generator: np.random.Generator) -> torch.Tensor:
    """The copy [T] of [T] at `sample_rate` Hz by the vocoder called `name`; its level scales with the waveform's.

    Raises ValueError for an unknown name and for anything but a waveform [T].
    """
    if waveform.ndim != 1 or not len(waveform):
        raise ValueError(f"expected one waveform [T], got {tuple(waveform.shape)}")
    vocoder, peak = look_up(VOCODERS, name, "vocoder"), waveform.abs().max().clamp_min(1e-12)
    shortest = math.ceil(0.1 * sample_rate)
    padded = pad(waveform / peak, (0, max(shortest - len(waveform), 0)))
    made = vocoder(padded.numpy(), sample_rate, generator)
    return torch.from_numpy(made[: len(waveform)]).float() * peak


def _scaled(samples: int, sample_rate: int) -> int:
    """How many samples last as long as `samples` at 16 kHz; even."""
    return 2 * round(samples * sample_rate / 32_000)


def _with_envelope(given: np.ndarray, wanted: np.ndarray, bands: int, sample_rate: int) -> np.ndarray:
    """The spectrum `given` with the mel envelope of `wanted`, lifted up to 60 dB: all [bins, frames]."""
    import librosa

    bank = librosa.filters.mel(sr=sample_rate, n_fft=2 * (len(given) - 1), n_mels=bands)  # [bands, bins]
    ratio = (bank @ np.abs(wanted)) / np.maximum(bank @ np.abs(given), FLOOR)  # [bands, frames]
    return given * ((bank / np.maximum(bank.sum(axis=0), 1e-9)).T @ np.minimum(ratio, 1e3))


def _upsampling_taps(factor: int, generator: np.random.Generator) -> np.ndarray:
    """A filter [K] over inserted zeros that repeats each sample, draws straight lines, or is random (5 to 17 taps)."""
    size = int(generator.choice((5, 9, 17)))
    noise = generator.standard_normal(size) * np.hanning(size + 2)[1:-1]
    return (np.ones(factor), np.bartlett(2 * factor + 1), noise)[generator.integers(3)]


def _excitation(waveform: np.ndarray, sample_rate: int, generator: np.random.Generator) -> np.ndarray:
    """Harmonics of unit power with noise 14 to 34 dB below them where [T] is voiced, else noise of unit power: [T].

    8, 30 or all harmonics up to 97.5 % of the band, in phase.
    """
    hertz, voiced = _pitch(waveform, sample_rate)
    count = np.minimum(int(generator.choice((8, 30, 10_000))), 0.4875 * sample_rate // hertz)
    lines = 2 * count + 1  # those of Dirichlet's kernel: the harmonics, their mirrors, and one at 0 Hz
    pulses = (lines * diric(2 * np.pi * np.cumsum(hertz) / sample_rate, lines) - 1) / np.sqrt(2 * count)
    noise = generator.standard_normal(len(hertz)) * np.where(voiced, generator.uniform(0.02, 0.2), 1)
    return (pulses * voiced + noise).astype(np.float32)


def _pitch(waveform: np.ndarray, sample_rate: int) -> tuple[np.ndarray, np.ndarray]:
    """f0 in Hz, interpolated where unvoiced, and whether it is voiced, [T] each: pYIN in steps of a quarter semitone.

    Finer steps take many times as long. Mauch and Dixon, "pYIN", ICASSP 2014.
    """
    import librosa

    grid = {"frame_length": _scaled(1024, sample_rate), "hop_length": _scaled(160, sample_rate), "resolution": 0.25}
    low, high = PITCH_RANGE
    pitch, voiced, _ = librosa.pyin(waveform, fmin=low, fmax=high, sr=sample_rate, **grid)
    time, times = np.arange(len(waveform)), grid["hop_length"] * np.arange(len(pitch))
    if not voiced.any():
        return np.full(len(time), 100.0), np.zeros(len(time), dtype=bool)
    return np.interp(time, times[voiced], pitch[voiced]), np.interp(time, times, voiced) > 0.5
