"""Training augmentation: a batch of waveforms at a time, on their own device, each clip drawn by itself.

Each operation takes waveforms [n, T] float32 at `sample_rate` Hz, full scale = 1, and returns [n, T]; all but
`change_speed` and `shift_pitch` stay in step sample by sample. Settings are drawn uniformly from the ranges that each
names, anew for each clip, from the generator passed in, which must be on the waveforms' device. Nothing is limited to
full scale, and silence stays silent. What robustness is measured with, `corruptions`, uses other devices and rooms.


MERGED: What augmentation and corruptions share: convolution, filters without phase, sample rates, codecs.

Waveforms [..., T] are float32; whatever goes through stays in step, sample by sample.


MERGED: What augmentations draw for each clip of a batch by itself: numbers, noise and smooth curves.

`waveforms` [n, T] say for how many clips; the `generator`, on the same device, is where all randomness comes from.


MERGED: RawBoost, an augmentation of raw waveforms for anti-spoofing."""

import io
import math
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from functools import partial

import numpy as np
import soundfile
import torch
from torch.nn.functional import interpolate, pad, softplus
from torchaudio.functional import add_noise, mu_law_decoding, mu_law_encoding, phase_vocoder, resample

from dfa_utils.audio import resample_blocks
from dfa_utils.support import find_entry

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
    """[T] at `old` Hz resampled to `new` Hz, [about T * new / old], as `audio.resample_blocks` does."""
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


SPEEDS = (0.9, 0.95, 1.05, 1.1)
PITCHES = (8 / 9, 17 / 18, 18 / 17, 9 / 8)  # two semitones and one, down and up; short fractions resample fast
CODEC_LEVEL = 0.7  # FS; peak at which a clip is coded
CODECS = {
    "MP3": {"format": "MP3", "bitrate_mode": "CONSTANT"},
    "Vorbis": {"format": "OGG", "subtype": "VORBIS"},
    "Opus": {"format": "OGG", "subtype": "OPUS"},
    "GSM 06.10": {"format": "WAV", "subtype": "GSM610"},
    "IMA ADPCM": {"format": "WAV", "subtype": "IMA_ADPCM"},
}  # as soundfile writes them
QUALITIES = {"MP3": (0.0, 0.93), "Vorbis": (0.0, 1.0), "Opus": (0.6, 1.0)}  # libsndfile's compression level: 0 = best
CODEC_RATES = {
    "MP3": (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000),
    "Opus": (8_000, 12_000, 16_000, 24_000, 48_000),
    "GSM 06.10": (8_000,),
}  # Hz; the other codecs take any
Operation = Callable[[torch.Tensor, int, torch.Generator], torch.Tensor]


class Augmentation:
    """A policy for training: (name, probability) pairs, applied in order; each clip is drawn for each by itself.

    Called with waveforms [B, T] at `sample_rate` Hz and a generator on their device, it gives new ones [B, T]. Clips
    that were not drawn come back bit for bit, and only the others are computed. Raises ValueError, listing the known
    ones, for an unknown name, for a probability outside [0, 1], a sample rate below 8 kHz, and other shapes.
    """

    def __init__(self, policy: Iterable[tuple[str, float]], sample_rate: int):
        self.policy, self.sample_rate = tuple(policy), sample_rate
        if self.policy and sample_rate < 8_000:
            raise ValueError(f"augmentation takes sample rates from 8000 Hz, got {sample_rate}")
        for name, probability in self.policy:
            find_entry(AUGMENTATIONS, name, "augmentation")
            if not 0 <= probability <= 1:
                raise ValueError(f"the probability of {name} must lie in [0, 1], got {probability}")

    def __call__(self, waveforms: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        if waveforms.ndim != 2 or not waveforms.shape[1]:
            raise ValueError(f"expected waveforms [B, T], got {tuple(waveforms.shape)}")
        waveforms = waveforms.clone()
        for name, probability in self.policy:
            drawn = uniform(0, 1, waveforms, generator)[:, 0] < probability
            if drawn.any():
                waveforms[drawn] = AUGMENTATIONS[name](waveforms[drawn], self.sample_rate, generator)
        return waveforms


def add_coloured_noise(waveforms: torch.Tensor, sample_rate: int, generator: torch.Generator) -> torch.Tensor:
    """Add coloured noise, 8 to 40 dB below the clip's power without its DC.

    Its amplitude goes with f^-1.5 (darker than brown) to f^0.5 (blue) above 20 Hz.
    """
    colour = uniform(-1.5, 0.5, waveforms, generator)
    mean = waveforms.mean(dim=1, keepdim=True)
    added = coloured_noise(waveforms, colour, sample_rate, generator)
    return add_noise(waveforms - mean, added, uniform(8, 40, waveforms, generator)[:, 0]) + mean


def equalise(waveforms: torch.Tensor, sample_rate: int, generator: torch.Generator) -> torch.Tensor:
    """Filter with a smooth random response (no phase): nine gains along a mel-like axis, of standard deviation 5 dB."""
    return apply_response(waveforms, amplitude(smooth_curve(waveforms, 5.0, 9, sample_rate, generator)))


def narrow_band(waveforms: torch.Tensor, sample_rate: int, generator: torch.Generator) -> torch.Tensor:
    """Cut off what lies below 20 to 350 Hz and above 3 to 8 kHz (-3 dB, drawn on a log scale), without phase.

    18 dB an octave below; above, Butterworth's response of order 4 to 40 (240 dB an octave): from a gentle roll-off to
    the wall that resampling leaves.
    """
    low, high = uniform(20, 350, waveforms, generator), log_uniform(3_000, 8_000, waveforms, generator)
    order = uniform(4, 40, waveforms, generator)
    hz = frequencies(waveforms, sample_rate)
    return apply_response(waveforms, high_pass(hz, low, 3) * low_pass(hz, high, order))


def add_room(
    waveforms: torch.Tensor, sample_rate: int, generator: torch.Generator, wet: tuple[float, float] = (-12, 3)
) -> torch.Tensor:
    """Add a diffuse tail, 12 dB below to 3 dB above the direct sound (`wet`), which stays as it is.

    Gaussian noise under an exponential (Moorer, "About this reverberation business", 1979) of RT60 0.08 to 0.6 s, from
    2 ms on, cut at 0.5 s; its spectrum falls off above 5 kHz and is uneven by 2 dB.
    """
    tail = _tail(waveforms, sample_rate, generator)
    tail = tail * (amplitude(uniform(*wet, waveforms, generator)) / tail.norm(dim=1, keepdim=True))
    return waveforms + convolve(waveforms, tail)[:, : waveforms.shape[1]]


def rerecord(waveforms: torch.Tensor, sample_rate: int, generator: torch.Generator) -> torch.Tensor:
    """Play the clips and record them again: loudspeaker, its distortion, a room, a microphone, and noise.

    The loudspeaker's band begins at 80 to 400 Hz and ends at 4.5 to 8 kHz, is uneven by 4 dB, and saturates as
    tanh(drive * x / (4 * RMS)), drive 0.2 to 2. The room's tail lies 8 dB below to 6 dB above the direct sound.
    The microphone is uneven by 2 dB, and pinkish noise (f^-0.7) lies 15 to 40 dB below.
    """
    played = apply_response(waveforms, _loudspeaker(waveforms, sample_rate, generator))
    drive = uniform(0.2, 2, waveforms, generator) / (4 * rms_of(played))
    heard = add_room(torch.tanh(played * drive) / drive, sample_rate, generator, wet=(-8, 6))
    heard = apply_response(heard, amplitude(smooth_curve(heard, 2.0, 14, sample_rate, generator)))
    added = coloured_noise(heard, heard.new_full((len(heard), 1), -0.7), sample_rate, generator)
    return add_noise(heard, added, uniform(15, 40, heard, generator)[:, 0])


def cut_peaks(waveforms: torch.Tensor, sample_rate: int, generator: torch.Generator) -> torch.Tensor:
    """Cut off the peaks 1 to 14 dB below the clip's highest, as an overloaded input does."""
    level = peak_of(waveforms) * amplitude(uniform(-14, -1, waveforms, generator))
    return waveforms.clamp(-level, level)


def quantise(waveforms: torch.Tensor, sample_rate: int, generator: torch.Generator) -> torch.Tensor:
    """Round to the 256 steps of 8-bit mu-law (ITU-T G.711), the clip's peak 0 to 15 dB below their full scale."""
    scale = peak_of(waveforms) * amplitude(uniform(0, 15, waveforms, generator))
    return mu_law_decoding(mu_law_encoding(waveforms / scale, 256), 256) * scale


def change_speed(waveforms: torch.Tensor, sample_rate: int, generator: torch.Generator) -> torch.Tensor:
    """Play at 0.9, 0.95, 1.05 or 1.1 times the speed, pitch and tempo alike; the clip's start fills what lacks."""
    play = partial(_play_at, samples=waveforms.shape[1])
    return _with_choice(SPEEDS, play, waveforms, generator)


def shift_pitch(waveforms: torch.Tensor, sample_rate: int, generator: torch.Generator) -> torch.Tensor:
    """Move the pitch by one or two semitones, up or down, at the same tempo.

    A phase vocoder (Flanagan & Golden, "Phase vocoder", 1966) and resampling. It makes new phases, as vocoders of fakes
    do, and so leaves their trace on real speech: a policy that shall teach such traces does well to leave it out.
    """
    return _with_choice(PITCHES, partial(_shift, sample_rate=sample_rate), waveforms, generator)


def recode(waveforms: torch.Tensor, sample_rate: int, generator: torch.Generator) -> torch.Tensor:
    """Code and decode by MP3, Ogg Vorbis, Opus, GSM 06.10 or IMA ADPCM, as likely, at a random quality.

    By libsndfile on the CPU, one thread a core; a codec that does not know the sample rate works at the next lower one
    it knows. The codec's delay is taken away and the level kept.
    """
    names = [list(CODECS)[i] for i in torch.randint(len(CODECS), (len(waveforms),), **source_of(generator)).tolist()]
    qualities = uniform(0, 1, waveforms, generator)[:, 0].tolist()
    scale = peak_of(waveforms) / CODEC_LEVEL
    with ThreadPoolExecutor() as pool:
        coded = pool.map(partial(_through, sample_rate=sample_rate), (waveforms / scale).cpu(), names, qualities)
        return torch.stack(list(coded)).to(waveforms.device) * scale


AUGMENTATIONS: dict[str, Operation] = {
    "noise": add_coloured_noise,
    "equalise": equalise,
    "band": narrow_band,
    "room": add_room,
    "rerecord": rerecord,
    "clip": cut_peaks,
    "mu_law": quantise,
    "speed": change_speed,
    "pitch_shift": shift_pitch,
    "rawboost": rawboost,
    "codec": recode,
}


def _with_choice(
    choices: Sequence[float], function: Callable, waveforms: torch.Tensor, generator: torch.Generator
) -> torch.Tensor:
    """function(rows [k, T], choice) -> [k, T] for the clips that drew each choice."""
    drawn = torch.randint(len(choices), (len(waveforms),), **source_of(generator))
    changed = torch.empty_like(waveforms)
    for i in drawn.unique().tolist():
        changed[drawn == i] = function(waveforms[drawn == i], choices[i])
    return changed


def _tail(waveforms: torch.Tensor, sample_rate: int, generator: torch.Generator) -> torch.Tensor:
    """A diffuse room's tail [n, 0.5 s], nothing in its first 2 ms."""
    times = torch.arange(sample_rate // 2, device=waveforms.device) / sample_rate
    rt60 = uniform(0.08, 0.6, waveforms, generator)
    tail = gaussian(waveforms.new_empty(len(waveforms), len(times)), generator)
    tail = tail * torch.exp(-math.log(1_000) * times / rt60)
    colour = (1 + (frequencies(tail, sample_rate) / 5_000) ** 2).rsqrt()
    tail = apply_response(tail, colour * amplitude(smooth_curve(tail, 2.0, 9, sample_rate, generator)))
    return tail * (times >= 0.002)


def _loudspeaker(waveforms: torch.Tensor, sample_rate: int, generator: torch.Generator) -> torch.Tensor:
    """Its response [n, F]; slopes of 12 dB an octave below and 24 above."""
    hz = frequencies(waveforms, sample_rate)
    low, high = uniform(80, 400, waveforms, generator), uniform(4_500, 8_000, waveforms, generator)
    uneven = amplitude(smooth_curve(waveforms, 4.0, 14, sample_rate, generator))
    return uneven * high_pass(hz, low, 2) * low_pass(hz, high, torch.full_like(high, 4))


def _play_at(waveforms: torch.Tensor, factor: float, samples: int) -> torch.Tensor:
    """[n, samples]: [n, T] at `factor` times the speed."""
    ratio = Fraction(factor).limit_denominator(100)
    return _fill(resample(waveforms, ratio.numerator, ratio.denominator), samples)


def _fill(waveforms: torch.Tensor, samples: int) -> torch.Tensor:
    """[n, samples]: [n, T] cut at its end, or followed by itself, as `audio.fit_length` does."""
    return waveforms.repeat(1, math.ceil(samples / waveforms.shape[1]))[:, :samples]


def _shift(waveforms: torch.Tensor, factor: float, sample_rate: int) -> torch.Tensor:
    """[n, T] with `factor` times the pitch: stretched, then played so much faster that the tempo is back."""
    return _play_at(_stretch(waveforms, 1 / factor, sample_rate), factor, waveforms.shape[1])


def _stretch(waveforms: torch.Tensor, factor: float, sample_rate: int) -> torch.Tensor:
    """[n, T / factor]: `factor` times the tempo by a phase vocoder, windows of about 32 ms."""
    n_fft = 2 ** round(math.log2(0.032 * sample_rate))
    hop, window = n_fft // 4, torch.hann_window(n_fft, device=waveforms.device)
    spectrum = torch.stft(waveforms, n_fft, hop, window=window, pad_mode="constant", return_complex=True)
    advance = torch.linspace(0, math.pi * hop, n_fft // 2 + 1, device=waveforms.device)[:, None]
    spectrum = phase_vocoder(spectrum, factor, advance)
    return torch.istft(spectrum, n_fft, hop, window=window, length=round(waveforms.shape[1] / factor))


def _through(waveform: torch.Tensor, name: str, quality: float, sample_rate: int) -> torch.Tensor:
    """[T] on the CPU through one codec and back, in step; `quality` from 0, the best, to 1."""
    rate = max((rate for rate in CODEC_RATES.get(name, ()) if rate <= sample_rate), default=sample_rate)
    best, worst = QUALITIES.get(name, (None, None))
    level = {} if best is None else {"compression_level": best + (worst - best) * quality}
    coded = through_codec(change_rate(waveform, sample_rate, rate), rate, **CODECS[name], **level)
    return fit_end(change_rate(coded, rate, sample_rate), len(waveform))
