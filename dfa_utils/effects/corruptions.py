"""What happens to speech on its way to a detector, on one waveform at a time: noise, codecs, bands, rooms, level.

Each takes a waveform [T] float32 at `sample_rate` Hz, full scale = 1, and returns [T], sample by sample in step with
it; only `crop` shortens, and only `prepend_silence` lengthens. What is random is drawn from the generator that is
passed in. CORRUPTIONS lists them with the levels at which a detector's robustness is measured.
"""

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import soundfile
import torch
from torch.nn.functional import pad
from torchaudio.functional import (
    equalizer_biquad,
    highpass_biquad,
    lowpass_biquad,
    mu_law_decoding,
    mu_law_encoding,
)

from dfa_utils.audio import fit_length, resample_blocks

TRANSITION = 200.0  # Hz; from the end of the pass band to the edge, where the stop band begins
KAISER_BETA = 7.86  # of the window: 80 dB of attenuation in the stop band
TAPS_PER_CYCLE = 5.1  # of the transition's width, which such a filter needs (Kaiser's formula)
DECAY = math.log(1000)  # over the RT60 the amplitude falls by 60 dB
EQUAL_RT60 = 0.5  # s; RT60 of the room in which reverberation carries as much energy as the direct sound
TELEPHONE_RATE = 8_000  # Hz; sample rate of a telephone line (ITU-T G.711)
SPEAKER_BAND = (150.0, 7_000.0)  # Hz; what a small loudspeaker gives back
ROOMS = 4  # that a re-recording can take place in, for each RT60
ROOM_REACH = 0.7  # of the RT60; what comes later lies 42 dB down, below the microphone's noise
RERECORDING_SNR = 25.0  # dB; of the microphone's noise
MP3_DELAY = 576 + 529  # samples; of LAME's encoder and of any decoder
MP3_RATES = {
    32_000: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),  # MPEG-1
    16_000: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),  # MPEG-2
    8_000: (8, 16, 24, 32, 40, 48, 56, 64),  # MPEG-2.5
}  # from this sample rate (Hz) on: bit rates (kbit/s) of Layer III


def add_noise(waveform: torch.Tensor, snr_db: float, generator: np.random.Generator) -> torch.Tensor:
    """[T] plus white Gaussian noise, `snr_db` dB below the waveform's power over the whole clip; DC does not count."""
    noise = torch.from_numpy(generator.standard_normal(len(waveform), dtype=np.float32))
    return waveform + noise * waveform.std(correction=0) * 10 ** (-snr_db / 20)


def mp3(waveform: torch.Tensor, kbps: int, sample_rate: int) -> torch.Tensor:
    """[T] after MP3 at `kbps` kbit/s and back, without the codec's delay; LAME takes 0.4 dB off the level.

    Raises ValueError as `encode_mp3` does.
    """
    decoded, _ = soundfile.read(io.BytesIO(encode_mp3(waveform, kbps, sample_rate)), dtype="float32")
    start = MP3_DELAY if len(decoded) > len(waveform) else 0  # frames at low rates cannot hold the tag that tells it
    return torch.from_numpy(decoded[start : start + len(waveform)].copy())


def encode_mp3(waveform: torch.Tensor, kbps: int, sample_rate: int) -> bytes:
    """[T] as an MP3 file of constant bit rate, by the LAME in libsndfile.

    Raises ValueError, listing what there is, for a bit rate that MP3 does not have at `sample_rate`.
    """
    rates = next((rates for lowest, rates in MP3_RATES.items() if sample_rate >= lowest), ())
    if kbps not in rates:
        raise ValueError(f"MP3 at {sample_rate} Hz has the bit rates {rates} kbit/s, not {kbps}")
    level = min((rates[-1] - kbps) / (rates[-1] - rates[0]), 0.999)  # libsndfile: 0 = highest rate, below 1 = lowest
    style = {"format": "MP3", "bitrate_mode": "CONSTANT", "compression_level": level}
    file = io.BytesIO()
    soundfile.write(file, waveform.numpy(), sample_rate, **style)
    return file.getvalue()


def limit_band(waveform: torch.Tensor, edge: float, sample_rate: int) -> torch.Tensor:
    """[T] without what lies above `edge` Hz (-80 dB), unchanged up to 200 Hz below it; linear phase, delay removed.

    The filter is a sinc under a Kaiser window. Raises ValueError for an edge outside 200 Hz to half the sample rate.
    """
    if not TRANSITION < edge <= sample_rate / 2:
        raise ValueError(f"the band's edge must lie above {TRANSITION:g} and up to {sample_rate / 2:g} Hz, got {edge}")
    half = math.ceil(TAPS_PER_CYCLE * sample_rate / TRANSITION / 2)
    cycles = 2 * (edge - TRANSITION / 2) / sample_rate
    window = torch.kaiser_window(2 * half + 1, periodic=False, beta=KAISER_BETA, dtype=torch.float64)
    kernel = cycles * torch.sinc(cycles * torch.arange(-half, half + 1, dtype=torch.float64)) * window
    return convolve(waveform, kernel.float())[half : half + len(waveform)]


def reverberate(waveform: torch.Tensor, rt60: float, sample_rate: int, generator: np.random.Generator) -> torch.Tensor:
    """[T] in a room of reverberation time `rt60` s, at the level (RMS) it had; what rings on after its end is cut."""
    wet = convolve(waveform, room_response(rt60, sample_rate, generator))[: len(waveform)]
    return _at_level_of(waveform, wet)


def room_response(rt60: float, sample_rate: int, generator: np.random.Generator) -> torch.Tensor:
    """A diffuse room's impulse response [rt60 * sample_rate], direct sound 1 at sample 0, -60 dB after `rt60` s.

    Gaussian noise under an exponential (Moorer, "About this reverberation business", 1979), with energy in proportion
    to the RT60: as much as the direct sound's at 0.5 s. Raises ValueError unless rt60 > 0.
    """
    _refuse_unless_positive("RT60", rt60)
    size = math.ceil(rt60 * sample_rate) + 1
    tail = generator.standard_normal(size) * np.exp(-DECAY * np.arange(size) / (rt60 * sample_rate))
    tail[0] = 0
    response = tail * np.sqrt(rt60 / EQUAL_RT60) / np.linalg.norm(tail)
    response[0] = 1
    return torch.from_numpy(response.astype(np.float32))


def telephone(waveform: torch.Tensor, bits: float, sample_rate: int) -> torch.Tensor:
    """[T] after a telephone line: 8 kHz sampling, `bits` of mu-law (8: ITU-T G.711), and back to `sample_rate`.

    What passes full scale is clipped. Raises ValueError for less than 2 bits or part of one.
    """
    if bits < 2 or bits != int(bits):
        raise ValueError(f"mu-law takes 2 bits or more, in whole numbers, got {bits}")
    line = change_rate(waveform, sample_rate, TELEPHONE_RATE).clamp(-1, 1)
    line = mu_law_decoding(mu_law_encoding(line, 2 ** int(bits)), 2 ** int(bits))
    return fit_end(change_rate(line, TELEPHONE_RATE, sample_rate), len(waveform))


def change_rate(waveform: torch.Tensor, old: int, new: int) -> torch.Tensor:
    """[T] at `old` Hz resampled to `new` Hz, [about T * new / old], as `audio.resample_blocks` does."""
    return torch.cat(list(resample_blocks([(waveform, old)], new)))


def convolve(waveforms: torch.Tensor, kernels: torch.Tensor) -> torch.Tensor:
    """[..., T] with [..., K] -> [..., T + K - 1], at a size that is fast for the FFT; others take ten times it."""
    samples = waveforms.shape[-1] + kernels.shape[-1] - 1
    size = fft_size(samples)
    return torch.fft.irfft(torch.fft.rfft(waveforms, size) * torch.fft.rfft(kernels, size), size)[..., :samples]


def fft_size(samples: int) -> int:
    """The next size of FFT that is fast: a power of two times 1, 3, 5 or 9."""
    return min(factor * 2 ** max(0, math.ceil(math.log2(samples / factor))) for factor in (1, 3, 5, 9))


def fit_end(waveform: torch.Tensor, size: int) -> torch.Tensor:
    """[size]: [T] cut at its end or followed by zeros, so that what is left stays in step."""
    return pad(waveform, (0, max(0, size - len(waveform))))[:size]


def rerecord(waveform: torch.Tensor, rt60: float, sample_rate: int, generator: np.random.Generator) -> torch.Tensor:
    """[T] played in a room of about `rt60` s and recorded again 0.4 to 0.8 m away, at the level (RMS) it had.

    The loudspeaker's and the microphone's resonances are drawn, so is one of 4 rooms; white noise lies 25 dB below.
    Training with `augment` meets none of it: rooms there are noise tails and devices smooth curves without phase, here
    they are image sources and minimum-phase resonances. The direct sound stays in step; phases turn as in any
    loudspeaker. Raises ValueError for an RT60 that such rooms cannot have (0.15 s is the least).
    """
    _refuse_unless_positive("RT60", rt60)
    response, delay = shoebox_response(rt60, sample_rate, int(generator.integers(ROOMS)))
    played = _through_loudspeaker(waveform, sample_rate, generator)
    heard = convolve(played, response)[delay : delay + len(waveform)]
    heard = equalizer_biquad(heard, sample_rate, generator.uniform(1_000, 3_000), generator.uniform(-3, 3), 1.0)
    return add_noise(_at_level_of(waveform, heard), RERECORDING_SNR, generator)


@lru_cache(maxsize=4 * ROOMS)
def shoebox_response(rt60: float, sample_rate: int, room: int) -> tuple[torch.Tensor, int]:
    """Impulse response [T] of box-shaped room number `room`, and the sample at which the direct sound arrives in it.

    By image sources (Allen & Berkley, "Image method for efficiently simulating small-room acoustics", 1979); the rooms
    are 3.5 to 5 m by 4 to 6 m by 2.5 to 3.2 m. Sabine's formula gives the walls' absorption; the RT60 is met to 30 %,
    and the response ends where it has fallen by 42 dB.
    """
    from pyroomacoustics import Material, ShoeBox, inverse_sabine

    draw = np.random.default_rng(room)
    size = draw.uniform((3.5, 4.0, 2.5), (5.0, 6.0, 3.2))
    absorption, order = inverse_sabine(rt60, size)
    box = ShoeBox(size, fs=sample_rate, materials=Material(absorption), max_order=math.ceil(ROOM_REACH * order))
    source, angle = size * draw.uniform(0.35, 0.65, 3), draw.uniform(0, 2 * np.pi)
    box.add_source(source)
    box.add_microphone(source + draw.uniform(0.4, 0.8) * np.array([np.cos(angle), np.sin(angle), 0]))
    box.compute_rir()
    response = torch.from_numpy(box.rir[0][0][: math.ceil(ROOM_REACH * rt60 * sample_rate)]).float()
    return response, int(response.abs().argmax())


def _through_loudspeaker(waveform: torch.Tensor, sample_rate: int, generator: np.random.Generator) -> torch.Tensor:
    """Its band-pass of second order and three resonances of up to 4 dB."""
    low, high = SPEAKER_BAND
    wave = lowpass_biquad(highpass_biquad(waveform, sample_rate, low), sample_rate, min(high, 0.45 * sample_rate))
    for centre in generator.uniform((300, 800, 2_000), (800, 2_000, 3_500)):
        wave = equalizer_biquad(wave, sample_rate, centre, generator.uniform(-4, 4), generator.uniform(1, 3))
    return wave


def _at_level_of(waveform: torch.Tensor, changed: torch.Tensor) -> torch.Tensor:
    """`changed` [T] at the RMS of `waveform` [T]."""
    return changed * (waveform.square().mean().sqrt() / changed.square().mean().sqrt().clamp_min(1e-30))


def change_gain(waveform: torch.Tensor, gain_db: float) -> torch.Tensor:
    """[T] louder by `gain_db` dB; nothing is clipped, so it may pass full scale."""
    return waveform * 10 ** (gain_db / 20)


def add_offset(waveform: torch.Tensor, offset: float) -> torch.Tensor:
    """[T] plus a constant, in parts of full scale, as a sound card's input adds; nothing is clipped."""
    return waveform + offset


def prepend_silence(waveform: torch.Tensor, seconds: float, sample_rate: int) -> torch.Tensor:
    """[T] after `seconds` s of digital silence. Raises ValueError unless seconds > 0.

    `dfa_utils.audio.windows` passes it over; a detector that cuts recordings in another way would see it.
    """
    _refuse_unless_positive("length", seconds)
    return pad(waveform, (math.ceil(seconds * sample_rate), 0))


def crop(waveform: torch.Tensor, seconds: float, sample_rate: int) -> torch.Tensor:
    """The middle `seconds` s of [T], or all of a shorter waveform. Raises ValueError unless seconds > 0."""
    _refuse_unless_positive("length", seconds)
    return fit_length(waveform, min(math.ceil(seconds * sample_rate), len(waveform)))


@dataclass(frozen=True)
class Corruption:
    """One kind of damage: function(waveform, level, sample_rate, generator), its levels from mild to severe, a unit."""

    function: Callable[[torch.Tensor, float, int, np.random.Generator], torch.Tensor]
    levels: tuple[float, ...]
    unit: str


CORRUPTIONS = {
    "noise": Corruption(lambda wave, snr, rate, rng: add_noise(wave, snr, rng), (30, 20, 10, 0), "dB SNR"),
    "mp3": Corruption(lambda wave, kbps, rate, rng: mp3(wave, kbps, rate), (128, 64, 32), "kbit/s"),
    "band": Corruption(lambda wave, edge, rate, rng: limit_band(wave, edge, rate), (6000, 4000, 2000), "Hz"),
    "reverberation": Corruption(reverberate, (0.2, 0.5, 1.0), "s RT60"),
    "gain": Corruption(lambda wave, gain, rate, rng: change_gain(wave, gain), (-40, -20, 20), "dB"),
    "telephone": Corruption(lambda wave, bits, rate, rng: telephone(wave, bits, rate), (8,), "bit mu-law at 8 kHz"),
    "rerecording": Corruption(rerecord, (0.3, 0.6), "s RT60"),
    "offset": Corruption(lambda wave, offset, rate, rng: add_offset(wave, offset), (0.01, 0.1), "FS"),
    "silence": Corruption(lambda wave, seconds, rate, rng: prepend_silence(wave, seconds, rate), (1.0,), "s in front"),
    "crop": Corruption(lambda wave, seconds, rate, rng: crop(wave, seconds, rate), (1.5, 1.0, 0.5), "s"),
}


def find_corruption(name: str) -> Corruption:
    """The entry of CORRUPTIONS; ValueError lists the known names."""
    if name not in CORRUPTIONS:
        raise ValueError(f"no corruption called {name!r}; known: {', '.join(CORRUPTIONS)}")
    return CORRUPTIONS[name]


def corrupt(
    waveform: torch.Tensor, name: str, level: float, sample_rate: int, generator: np.random.Generator
) -> torch.Tensor:
    """Apply the corruption called `name`, at `level` in its own unit, to [T] at `sample_rate` Hz.

    Raises ValueError for an unknown name, a level that cannot be had, and anything but a waveform [T].
    """
    if waveform.ndim != 1 or not len(waveform):
        raise ValueError(f"expected one waveform [T], got {tuple(waveform.shape)}")
    return find_corruption(name).function(waveform, level, sample_rate, generator)


def _refuse_unless_positive(name: str, seconds: float) -> None:
    if not seconds > 0:
        raise ValueError(f"{name} must be above 0 s, got {seconds}")
