"""The conditions under which a release is scored: the package's degradations, and those that only research needs.

`rerecording` plays a clip in a simulated room and records it again. Training with `augment` meets none of it: rooms
there are noise tails and devices smooth curves without phase; here they are image sources and minimum-phase resonances.
"""

import math
from functools import lru_cache

import numpy as np
import torch
from torch.nn.functional import pad
from torchaudio.functional import equalizer_biquad, highpass_biquad, lowpass_biquad

from dfa_utils import degradations
from dfa_utils.augment import convolve
from dfa_utils.degradations import add_white_noise, score_degraded
from dfa_utils.inference import Detector
from research.received import encode

CLEAN = "clean", np.nan
UNDECIDED = 0.5  # the score of a clip that is silent after its degradation
SPEAKER_BAND = (150.0, 7_000.0)  # Hz; of a small loudspeaker
ROOMS = 4  # for each RT60
ROOM_REACH = 0.7  # of the RT60; what comes later is 42 dB down, below the microphone's noise
RERECORDING_SNR = 25.0  # dB; of the microphone's noise


def score_conditions(detector: Detector, paths, conditions: list[tuple[str, float]], seed: int = 0) -> np.ndarray:
    """P(fake) of each clip under each (name, level), [conditions, N]; 0.5 for a clip that is silent then.

    Random numbers follow from (seed, name, level, the clip's place in `paths`) alone.
    """
    return np.nan_to_num(score_degraded(detector, paths, conditions, seed, apply=degrade), nan=UNDECIDED)


def degrade(
    waveform: torch.Tensor, name: str, level: float, sample_rate: int, generator: np.random.Generator
) -> torch.Tensor:
    """[T] at `sample_rate` Hz under a condition: a degradation of the package, or one of OTHERS."""
    function = OTHERS.get(name)
    if function is None:
        return degradations.degrade(waveform, name, level, sample_rate, generator)
    return function(waveform, level, sample_rate, generator)


def play_and_record(
    waveform: torch.Tensor, rt60: float, sample_rate: int, generator: np.random.Generator
) -> torch.Tensor:
    """[T] played in a room of about `rt60` s and recorded again 0.4 to 0.8 m away, at the level (RMS) it had.

    One of four rooms and the resonances of loudspeaker and microphone are drawn; white noise is 25 dB below. The direct
    sound keeps its place, its phases change as in any loudspeaker. Raises ValueError for an RT60 that such rooms cannot
    have (0.15 s is the least).
    """
    response, delay = shoebox_response(rt60, sample_rate, int(generator.integers(ROOMS)))
    played = _through_loudspeaker(waveform, sample_rate, generator)
    heard = convolve(played, response)[delay : delay + len(waveform)]
    heard = equalizer_biquad(heard, sample_rate, generator.uniform(1_000, 3_000), generator.uniform(-3, 3), 1.0)
    level = waveform.square().mean().sqrt() / heard.square().mean().sqrt().clamp_min(1e-30)
    return add_white_noise(heard * level, RERECORDING_SNR, generator)


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
    """A band-pass of second order and three resonances of up to 4 dB."""
    low, high = SPEAKER_BAND
    wave = lowpass_biquad(highpass_biquad(waveform, sample_rate, low), sample_rate, min(high, 0.45 * sample_rate))
    for centre in generator.uniform((300, 800, 2_000), (800, 2_000, 3_500)):
        wave = equalizer_biquad(wave, sample_rate, centre, generator.uniform(-4, 4), generator.uniform(1, 3))
    return wave


OTHERS = {
    "clean": lambda wave, level, rate, rng: wave,
    "rerecording": play_and_record,  # s of RT60
    "opus": lambda wave, kbit, rate, rng: torch.from_numpy(encode(wave.numpy(), rng, "opus", kbit)),  # kbit/s; 16 kHz
    "offset": lambda wave, offset, rate, rng: wave + offset,  # FS
    "silence": lambda wave, seconds, rate, rng: pad(wave, (math.ceil(seconds * rate), 0)),  # s in front
}
