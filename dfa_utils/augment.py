"""What happens to speech on its way to a detector, on one waveform at a time: noise, MP3, narrow bands, rooms, level.

Each takes a waveform [T] float32 at `sample_rate` Hz, full scale = 1, and returns [T], sample by sample in step with
it; only `crop` shortens. What is random is drawn from the generator that is passed in. CORRUPTIONS lists them with the
levels at which a detector's robustness is measured.
"""

import io
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import soundfile
import torch
from torchaudio.functional import fftconvolve

from dfa_utils.audio import fit_length

TRANSITION = 200.0  # Hz; from the end of the pass band to the edge, where the stop band begins
KAISER_BETA = 7.86  # of the window: 80 dB of attenuation in the stop band
TAPS_PER_CYCLE = 5.1  # of the transition's width, which such a filter needs (Kaiser's formula)
DECAY = math.log(1000)  # over the RT60 the amplitude falls by 60 dB
EQUAL_RT60 = 0.5  # s; RT60 of the room in which reverberation carries as much energy as the direct sound
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
    return fftconvolve(waveform, kernel.float())[half : half + len(waveform)]


def reverberate(waveform: torch.Tensor, rt60: float, sample_rate: int, generator: np.random.Generator) -> torch.Tensor:
    """[T] in a room of reverberation time `rt60` s, at the level (RMS) it had; what rings on after its end is cut."""
    wet = fftconvolve(waveform, room_response(rt60, sample_rate, generator))[: len(waveform)]
    return wet * (waveform.square().mean().sqrt() / wet.square().mean().sqrt().clamp_min(1e-30))


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


def change_gain(waveform: torch.Tensor, gain_db: float) -> torch.Tensor:
    """[T] louder by `gain_db` dB; nothing is clipped, so it may pass full scale."""
    return waveform * 10 ** (gain_db / 20)


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
