"""Training augmentation: a batch of waveforms at a time, on their own device, each clip with settings of its own.

Each operation takes waveforms [n, T] float32 at `sample_rate` Hz, full scale = 1, and returns [n, T]; all but
`change_speed` keep every sample at its place. Settings are drawn uniformly from the ranges that each operation names,
again for each clip, from the generator passed in, which must be on the waveforms' device. Nothing is limited to full
scale, and silence stays silent. At the end are the filters and codecs that `degradations` also uses.
"""

import io
import math
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import soundfile
import torch
from torch import Generator, Tensor
from torch.nn.functional import interpolate, pad, softplus
from torchaudio.functional import add_noise, mu_law_decoding, mu_law_encoding, resample

from dfa_utils.audio import resample_blocks
from dfa_utils.support import look_up

# The released detector's policy: what happens to a recording on its way. About a third of the clips stay as they are.
CHANNELS = (("speed", 0.1), ("equalise", 0.2), ("rerecord", 0.1), ("room", 0.1), ("rawboost", 0.05))
CHANNELS += (("band", 0.15), ("clip", 0.05), ("mu_law", 0.05), ("noise", 0.25), ("codec", 0.05))
QUIET = 1e-6  # RMS or peak below which a clip counts as silent
SPEEDS = ((9, 10), (19, 20), (21, 20), (11, 10))  # 0.9, 0.95, 1.05 and 1.1, as fractions
MP3_DELAY = 576 + 529  # samples; of LAME's encoder and of any decoder
MP3_SAMPLE_RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)  # Hz
CODECS = {  # keyword arguments of `soundfile.write`, compression levels of best and worst quality, known rates in Hz
    "MP3": ({"format": "MP3", "bitrate_mode": "CONSTANT"}, (0.0, 0.93), MP3_SAMPLE_RATES),
    "Vorbis": ({"format": "OGG", "subtype": "VORBIS"}, (0.0, 1.0), ()),
    "Opus": ({"format": "OGG", "subtype": "OPUS"}, (0.6, 1.0), (8_000, 12_000, 16_000, 24_000, 48_000)),
    "GSM 06.10": ({"format": "WAV", "subtype": "GSM610"}, (), (8_000,)),
    "IMA ADPCM": ({"format": "WAV", "subtype": "IMA_ADPCM"}, (), ()),
}


class Augmentation:
    """A policy for training: (name, probability) pairs, applied in order, to each clip with that probability.

    Called with waveforms [B, T] at `sample_rate` Hz and a generator on their device, it returns new ones [B, T]. Clips
    that were not drawn stay bit for bit, and only the others are computed. Raises ValueError for an unknown name,
    listing the known ones, for a probability outside [0, 1], for a sample rate below 8 kHz, and for other shapes.
    """

    def __init__(self, policy: Iterable[tuple[str, float]], sample_rate: int):
        self.policy, self.sample_rate = tuple(policy), sample_rate
        if self.policy and sample_rate < 8_000:
            raise ValueError(f"augmentation needs a sample rate of at least 8000 Hz, got {sample_rate}")
        for name, probability in self.policy:
            look_up(AUGMENTATIONS, name, "augmentation")
            if not 0 <= probability <= 1:
                raise ValueError(f"the probability of {name} must be in [0, 1], got {probability}")

    def __call__(self, waveforms: Tensor, generator: Generator) -> Tensor:
        if waveforms.ndim != 2 or not waveforms.shape[1]:
            raise ValueError(f"expected waveforms [B, T], got {tuple(waveforms.shape)}")
        waveforms = waveforms.clone()
        for name, probability in self.policy:
            drawn = uniform(0, 1, waveforms, generator)[:, 0] < probability
            if drawn.any():
                waveforms[drawn] = AUGMENTATIONS[name](waveforms[drawn], self.sample_rate, generator)
        return waveforms


def add_coloured_noise(waveforms: Tensor, sample_rate: int, generator: Generator) -> Tensor:
    """Add coloured noise, 8 to 40 dB below the power of the clip without its DC.

    Its amplitude is proportional to f^-1.5 (darker than brown) to f^0.5 (blue) above 20 Hz.
    """
    mean = waveforms.mean(dim=1, keepdim=True)
    added = coloured_noise(waveforms, uniform(-1.5, 0.5, waveforms, generator), sample_rate, generator)
    return add_noise(waveforms - mean, added, uniform(8, 40, waveforms, generator)[:, 0]) + mean


def equalise(waveforms: Tensor, sample_rate: int, generator: Generator) -> Tensor:
    """Filter with a smooth random response (no phase): nine gains along a mel-like axis, of standard deviation 5 dB."""
    return apply_response(waveforms, amplitude(smooth_curve(waveforms, 5.0, 9, sample_rate, generator)))


def narrow_band(waveforms: Tensor, sample_rate: int, generator: Generator) -> Tensor:
    """Remove everything below 20 to 350 Hz and above 3 to 8 kHz (-3 dB, drawn on a log scale), without phase.

    The slope is 18 dB an octave below. Above it is Butterworth's of order 4 to 40 (240 dB an octave): from a gentle
    roll-off to the steep edge that resampling leaves.
    """
    low = uniform(20, 350, waveforms, generator)
    high = uniform(math.log(3_000), math.log(8_000), waveforms, generator).exp()
    order = uniform(4, 40, waveforms, generator)
    hz = frequencies(waveforms, sample_rate)
    return apply_response(waveforms, high_pass(hz, low, 3) * low_pass(hz, high, order))


def add_room(waveforms: Tensor, sample_rate: int, generator: Generator, wet: tuple[float, float] = (-12, 3)) -> Tensor:
    """Add a diffuse tail, 12 dB below to 3 dB above the direct sound (`wet`), which stays as it is.

    Gaussian noise under an exponential (Moorer, "About this reverberation business", 1979) of RT60 0.08 to 0.6 s, from
    2 ms on, cut at 0.5 s; its spectrum falls off above 5 kHz and is uneven by 2 dB.
    """
    times = torch.arange(sample_rate // 2, device=waveforms.device) / sample_rate
    rt60 = uniform(0.08, 0.6, waveforms, generator)
    tail = gaussian(waveforms.new_empty(len(waveforms), len(times)), generator)
    tail = tail * torch.exp(-math.log(1_000) * times / rt60)
    dark = (1 + (frequencies(tail, sample_rate) / 5_000) ** 2).rsqrt()
    tail = apply_response(tail, dark * amplitude(smooth_curve(tail, 2.0, 9, sample_rate, generator)))  # [n, 0.5 s]
    tail = tail * (times >= 0.002)
    tail = tail * (amplitude(uniform(*wet, waveforms, generator)) / tail.norm(dim=1, keepdim=True))
    return waveforms + convolve(waveforms, tail)[:, : waveforms.shape[1]]


def rerecord(waveforms: Tensor, sample_rate: int, generator: Generator) -> Tensor:
    """Play the clips and record them again: loudspeaker, its distortion, a room, a microphone, and noise.

    The loudspeaker's band begins at 80 to 400 Hz and ends at 4.5 to 8 kHz, is uneven by 4 dB, and saturates as
    tanh(drive * x / (4 * RMS)), drive 0.2 to 2. The room's tail is 8 dB below to 6 dB above the direct sound. The
    microphone is uneven by 2 dB, and pinkish noise (f^-0.7) is 15 to 40 dB below.
    """
    hz = frequencies(waveforms, sample_rate)
    low, high = uniform(80, 400, waveforms, generator), uniform(4_500, 8_000, waveforms, generator)
    uneven = amplitude(smooth_curve(waveforms, 4.0, 14, sample_rate, generator))
    played = apply_response(waveforms, uneven * high_pass(hz, low, 2) * low_pass(hz, high, torch.full_like(high, 4)))
    rms = played.square().mean(dim=1, keepdim=True).sqrt().clamp_min(QUIET)
    drive = uniform(0.2, 2, waveforms, generator) / (4 * rms)
    heard = add_room(torch.tanh(played * drive) / drive, sample_rate, generator, wet=(-8, 6))
    heard = apply_response(heard, amplitude(smooth_curve(heard, 2.0, 14, sample_rate, generator)))
    added = coloured_noise(heard, heard.new_full((len(heard), 1), -0.7), sample_rate, generator)
    return add_noise(heard, added, uniform(15, 40, heard, generator)[:, 0])


def cut_peaks(waveforms: Tensor, sample_rate: int, generator: Generator) -> Tensor:
    """Cut off the peaks 1 to 14 dB below the clip's highest, as an overloaded input does."""
    level = peak_of(waveforms) * amplitude(uniform(-14, -1, waveforms, generator))
    return waveforms.clamp(-level, level)


def quantise(waveforms: Tensor, sample_rate: int, generator: Generator) -> Tensor:
    """Round to the 256 steps of 8-bit mu-law (ITU-T G.711), the clip's peak 0 to 15 dB below their full scale."""
    scale = peak_of(waveforms) * amplitude(uniform(0, 15, waveforms, generator))
    return mu_law_decoding(mu_law_encoding(waveforms / scale, 256), 256) * scale


def change_speed(waveforms: Tensor, sample_rate: int, generator: Generator) -> Tensor:
    """Play at 0.9, 0.95, 1.05 or 1.1 times the speed, which changes pitch and tempo; a shorter clip is repeated."""
    samples, changed = waveforms.shape[1], torch.empty_like(waveforms)
    drawn = torch.randint(len(SPEEDS), (len(waveforms),), **source_of(generator))
    for i in drawn.unique().tolist():
        played = resample(waveforms[drawn == i], *SPEEDS[i])  # [k, T / speed]
        changed[drawn == i] = played.repeat(1, math.ceil(samples / played.shape[1]))[:, :samples]
    return changed


def rawboost(waveforms: Tensor, sample_rate: int, generator: Generator) -> Tensor:
    """RawBoost: convolutive noise always, impulsive and stationary noise each for half the clips.

    Tak et al., "RawBoost: A raw data boosting and augmentation method applied to automatic speaker verification
    anti-spoofing", ICASSP 2022, with its ranges. Convolutive: the powers 1 to 5 of the clip, its peak taken as 1, each
    through five notches of its own (centre 20 Hz to 8 kHz, width 100 Hz to 1 kHz), the powers from 2 on weakened by 5
    to 20 dB. Impulsive: up to 10 % of the samples change by up to twice their value. Stationary: notched noise 10 to 40
    dB below.
    """
    boosted = _convolutive(waveforms, sample_rate, generator)
    hit = torch.rand(boosted.shape, **source_of(generator)) < uniform(0, 0.1, boosted, generator)
    first, second = (2 * torch.rand(boosted.shape, **source_of(generator)) - 1 for _ in range(2))
    boosted = boosted + 2 * (hit & (uniform(0, 1, boosted, generator) < 0.5)) * first * second * boosted
    added = apply_response(gaussian(boosted, generator), _notches(boosted, 1, sample_rate, generator)[:, 0])
    stationary = add_noise(boosted, added, uniform(10, 40, boosted, generator)[:, 0])
    return torch.where(uniform(0, 1, boosted, generator) < 0.5, stationary, boosted)


def recode(waveforms: Tensor, sample_rate: int, generator: Generator) -> Tensor:
    """Code and decode by MP3, Ogg Vorbis, Opus, GSM 06.10 or IMA ADPCM, with equal probability, at a random quality.

    By libsndfile on the CPU, one thread per core. A codec that does not know the sample rate works at the next lower
    one it knows. The codec's delay is removed and the level kept.
    """
    names = [list(CODECS)[i] for i in torch.randint(len(CODECS), (len(waveforms),), **source_of(generator)).tolist()]
    qualities = uniform(0, 1, waveforms, generator)[:, 0].tolist()
    scale = peak_of(waveforms) / 0.7  # clips are coded with a peak of 0.7
    with ThreadPoolExecutor() as pool:
        coded = pool.map(_through, (waveforms / scale).cpu(), names, qualities, [sample_rate] * len(names))
        return torch.stack(list(coded)).to(waveforms.device) * scale


AUGMENTATIONS = {"noise": add_coloured_noise, "equalise": equalise, "band": narrow_band, "room": add_room}
AUGMENTATIONS |= {"rerecord": rerecord, "clip": cut_peaks, "mu_law": quantise, "speed": change_speed}
AUGMENTATIONS |= {"rawboost": rawboost, "codec": recode}


def _convolutive(waveforms: Tensor, sample_rate: int, generator: Generator) -> Tensor:
    """RawBoost's sum of the clip's powers 1 to 5, each through its own notches, without DC."""
    peak, size = peak_of(waveforms), fft_size(waveforms.shape[1])
    weaker = [torch.ones_like(peak), *(amplitude(uniform(-20, -5, waveforms, generator)) for _ in range(4))]
    notches = _notches(waveforms, 5, sample_rate, generator) * torch.stack(weaker, dim=1)
    powers = (waveforms / peak)[:, None].repeat(1, 5, 1).cumprod(dim=1)
    boosted = torch.fft.irfft((torch.fft.rfft(powers, size) * notches).sum(dim=1), size)[:, : waveforms.shape[1]]
    return (boosted - boosted.mean(dim=1, keepdim=True)) * peak


def _notches(waveforms: Tensor, count: int, sample_rate: int, generator: Generator) -> Tensor:
    """Responses [n, count, F], each with five notches 30 dB deep; drawn on a coarse grid, which is much faster."""
    shape = (len(waveforms), count, 5, 1)
    centre = 20 + 7_980 * torch.rand(shape, **source_of(generator))
    width = 100 + 900 * torch.rand(shape, **source_of(generator))
    hz = torch.linspace(0, sample_rate / 2, 257, device=waveforms.device)
    response = (1 - 0.97 * torch.exp(-0.5 * (2 * (hz - centre) / width) ** 2)).prod(dim=2)  # [n, count, 257]
    return interpolate(response, fft_size(waveforms.shape[1]) // 2 + 1, mode="linear", align_corners=True)


def _through(waveform: Tensor, name: str, quality: float, sample_rate: int) -> Tensor:
    """[T] on the CPU through one codec and back, delay removed; `quality` goes from 0, the best, to 1."""
    style, levels, rates = CODECS[name]
    rate = max((rate for rate in rates if rate <= sample_rate), default=sample_rate)
    level = {"compression_level": levels[0] + (levels[1] - levels[0]) * quality} if levels else {}
    coded = through_codec(change_rate(waveform, sample_rate, rate), rate, **style, **level)
    return fit_end(change_rate(coded, rate, sample_rate), len(waveform))


def source_of(generator: Generator) -> dict:
    """Keyword arguments of torch's random functions that draw from this generator, on its device."""
    return {"generator": generator, "device": generator.device}


def uniform(low: float, high: float, waveforms: Tensor, generator: Generator) -> Tensor:
    """One number per clip [n, 1]."""
    return low + (high - low) * torch.rand(len(waveforms), 1, **source_of(generator))


def gaussian(waveforms: Tensor, generator: Generator) -> Tensor:
    """White noise [n, T] of RMS 1."""
    return torch.randn(waveforms.shape, **source_of(generator))


def coloured_noise(waveforms: Tensor, colour: Tensor, sample_rate: int, generator: Generator) -> Tensor:
    """Noise [n, T] whose amplitude is proportional to f^colour, colour [n, 1], above 20 Hz."""
    octaves = torch.log(frequencies(waveforms, sample_rate).clamp_min(20) / 1_000)
    return apply_response(gaussian(waveforms, generator), torch.exp(colour * octaves))


def smooth_curve(waveforms: Tensor, depth: float, knots: int, sample_rate: int, generator: Generator) -> Tensor:
    """Gains [n, F] in dB, a smooth curve through `knots` random gains of standard deviation `depth` dB."""
    place = torch.log1p(frequencies(waveforms, sample_rate) / 300) / math.log1p(sample_rate / 600) * (knots - 1)
    gains = depth * torch.randn(len(waveforms), knots, **source_of(generator))
    before = place.long().clamp(max=knots - 2)
    share = place - before
    share = share * share * (3 - 2 * share)
    return torch.lerp(gains[:, before], gains[:, before + 1], share)


def amplitude(db: Tensor) -> Tensor:
    """The factor that a level in dB stands for."""
    return torch.exp(db * (math.log(10) / 20))


def peak_of(waveforms: Tensor) -> Tensor:
    """Highest magnitude of each clip [n, 1], at least QUIET."""
    return waveforms.abs().amax(dim=1, keepdim=True).clamp_min(QUIET)


def high_pass(hz: Tensor, edge: Tensor, order: float) -> Tensor:
    """Butterworth's amplitude [n, F] at `hz` [F] for edges [n, 1] in Hz; it removes DC."""
    return (1 + (edge / hz.clamp_min(1e-3)) ** (2 * order)).rsqrt()


def low_pass(hz: Tensor, edge: Tensor, order: Tensor) -> Tensor:
    """Butterworth's amplitude [n, F] at `hz` [F] for edges [n, 1] in Hz and orders [n, 1]."""
    return torch.exp(-0.5 * softplus(2 * order * torch.log(hz.clamp_min(1e-3) / edge)))


def frequencies(waveforms: Tensor, sample_rate: int) -> Tensor:
    """Hz [F] of the bins of the responses that `apply_response` takes for [n, T]."""
    return torch.fft.rfftfreq(fft_size(waveforms.shape[1]), 1 / sample_rate, device=waveforms.device)


def apply_response(waveforms: Tensor, response: Tensor) -> Tensor:
    """[n, T] through a response [n, F] without phase; the convolution is circular, so the end wraps to the start."""
    size = fft_size(waveforms.shape[1])
    return torch.fft.irfft(torch.fft.rfft(waveforms, size) * response, size)[:, : waveforms.shape[1]]


def convolve(waveforms: Tensor, kernels: Tensor) -> Tensor:
    """[..., T] with [..., K] -> [..., T + K - 1], at a size that is fast for the FFT; others take ten times as long."""
    samples = waveforms.shape[-1] + kernels.shape[-1] - 1
    size = fft_size(samples)
    return torch.fft.irfft(torch.fft.rfft(waveforms, size) * torch.fft.rfft(kernels, size), size)[..., :samples]


def fft_size(samples: int) -> int:
    """The next fast size of FFT: a power of two times 1, 3, 5 or 9."""
    return min(factor * 2 ** max(0, math.ceil(math.log2(samples / factor))) for factor in (1, 3, 5, 9))


def change_rate(waveform: Tensor, old: int, new: int) -> Tensor:
    """[T] at `old` Hz resampled to `new` Hz, [about T * new / old], as `audio.resample_blocks` does."""
    return torch.cat([torch.from_numpy(block) for block in resample_blocks([(waveform.numpy(), old)], new)])


def through_codec(waveform: Tensor, sample_rate: int, **style) -> Tensor:
    """[T] on the CPU through one of libsndfile's codecs and back; `style` is what `soundfile.write` takes."""
    file = io.BytesIO()
    soundfile.write(file, waveform.numpy(), sample_rate, **style)
    decoded = torch.from_numpy(soundfile.read(io.BytesIO(file.getvalue()), dtype="float32")[0])
    delayed = style["format"] == "MP3" and len(decoded) > len(waveform)  # frames at low rates cannot hold its tag
    return fit_end(decoded[MP3_DELAY if delayed else 0 :], len(waveform))


def fit_end(waveform: Tensor, size: int) -> Tensor:
    """[size]: [T] cut at its end or followed by zeros."""
    return pad(waveform, (0, max(0, size - len(waveform))))[:size]
