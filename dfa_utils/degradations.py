"""How far a detector's judgement moves when the sound is damaged: noise, MP3, narrow bands, rooms, level.

MERGED: What happens to speech on its way to a detector, on one waveform at a time: noise, codecs, bands, rooms, level.

Each takes a waveform [T] float32 at `sample_rate` Hz, full scale = 1, and returns [T], sample by sample in step with
it; only `prepend_silence` lengthens. What is random is drawn from the generator that is passed in. CORRUPTIONS lists
them with the levels at which a detector's robustness is measured.
"""

import math
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import product

import numpy as np
import pandas as pd
import torch
from scipy.signal import firwin, kaiserord
from torch.nn.functional import pad
from torchaudio.functional import (
    equalizer_biquad,
    highpass_biquad,
    lowpass_biquad,
    mu_law_decoding,
    mu_law_encoding,
)

from dfa_utils import metrics
from dfa_utils.audio import AudioError
from dfa_utils.augment import change_rate, convolve, fit_end, through_codec
from dfa_utils.cache import open_clip
from dfa_utils.evaluation import eer_interval
from dfa_utils.inference import Detector, Prediction
from dfa_utils.support import find_entry, map_in_threads

TRANSITION = 200.0  # Hz; from the end of the pass band to the beginning of the stop band
ATTENUATION = 80.0  # dB; in the stop band
TELEPHONE_RATE = 8_000  # Hz; sample rate of a telephone line (ITU-T G.711)
TELEPHONE_BAND = (300.0, 3_400.0)  # Hz; what passes a telephone line unchanged (ITU-T G.712)
SPEAKER_BAND = (150.0, 7_000.0)  # Hz; what a small loudspeaker gives back
ROOMS = 4  # that a re-recording can take place in, for each RT60
ROOM_REACH = 0.7  # of the RT60; what comes later lies 42 dB down, below the microphone's noise
RERECORDING_SNR = 25.0  # dB; of the microphone's noise
MP3_RATES = {
    32_000: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),  # MPEG-1
    16_000: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),  # MPEG-2
    8_000: (8, 16, 24, 32, 40, 48, 56, 64),  # MPEG-2.5
}  # from this sample rate (Hz) on: bit rates (kbit/s) of Layer III


def add_white_noise(waveform: torch.Tensor, snr_db: float, generator: np.random.Generator) -> torch.Tensor:
    """[T] plus white Gaussian noise, `snr_db` dB below the waveform's power over the whole clip; DC does not count."""
    noise = torch.from_numpy(generator.standard_normal(len(waveform), dtype=np.float32))
    return waveform + noise * waveform.std(correction=0) * 10 ** (-snr_db / 20)


def mp3(waveform: torch.Tensor, kbps: int, sample_rate: int) -> torch.Tensor:
    """[T] after MP3 at `kbps` kbit/s and back, without the codec's delay; LAME takes 0.4 dB off the level.

    Raises ValueError as `mp3_style` does.
    """
    return through_codec(waveform, sample_rate, **mp3_style(kbps, sample_rate))


def mp3_style(kbps: int, sample_rate: int) -> dict:
    """What `soundfile.write` takes for MP3 at a constant bit rate, by the LAME in libsndfile.

    Raises ValueError, listing what there is, for a bit rate that MP3 does not have at `sample_rate`.
    """
    rates = next((rates for lowest, rates in MP3_RATES.items() if sample_rate >= lowest), ())
    if kbps not in rates:
        raise ValueError(f"MP3 at {sample_rate} Hz has the bit rates {rates} kbit/s, not {kbps}")
    level = min((rates[-1] - kbps) / (rates[-1] - rates[0]), 0.999)  # libsndfile: 0 = highest rate, below 1 = lowest
    return {"format": "MP3", "bitrate_mode": "CONSTANT", "compression_level": level}


def limit_band(waveform: torch.Tensor, edge: float, sample_rate: int) -> torch.Tensor:
    """[T] without what lies above `edge` Hz (-80 dB), unchanged up to 200 Hz below it; linear phase, delay removed.

    Raises ValueError for an edge outside 200 Hz to half the sample rate.
    """
    if not TRANSITION < edge <= sample_rate / 2:
        raise ValueError(f"the band's edge must lie above {TRANSITION:g} and up to {sample_rate / 2:g} Hz, got {edge}")
    return _through_fir(waveform, edge - TRANSITION / 2, "lowpass", sample_rate)


def telephone(waveform: torch.Tensor, bits: float, sample_rate: int) -> torch.Tensor:
    """[T] after a telephone line: 300 to 3,400 Hz, 8 kHz sampling, `bits` of mu-law (8: ITU-T G.711), and back.

    The band is cut before sampling and after it, to -80 dB from 200 Hz beyond its edges; linear phase, delay removed.
    What passes full scale is clipped. Raises ValueError for less than 2 bits or part of one, and a sample rate below
    8 kHz.
    """
    if bits < 2 or bits != int(bits):
        raise ValueError(f"mu-law takes 2 bits or more, in whole numbers, got {bits}")
    if sample_rate < TELEPHONE_RATE:
        raise ValueError(f"a telephone line takes sample rates from {TELEPHONE_RATE} Hz, got {sample_rate}")
    line = change_rate(_telephone_band(waveform, sample_rate), sample_rate, TELEPHONE_RATE).clamp(-1, 1)
    line = mu_law_decoding(mu_law_encoding(line, 2 ** int(bits)), 2 ** int(bits))
    return _telephone_band(fit_end(change_rate(line, TELEPHONE_RATE, sample_rate), len(waveform)), sample_rate)


def _telephone_band(waveform: torch.Tensor, sample_rate: int) -> torch.Tensor:
    low, high = TELEPHONE_BAND
    return _through_fir(waveform, (low - TRANSITION / 2, high + TRANSITION / 2), "bandpass", sample_rate)


def _through_fir(
    waveform: torch.Tensor, edges: float | tuple[float, float], kind: str, sample_rate: int
) -> torch.Tensor:
    """[T] through a `kind` ("lowpass", "bandpass") of linear phase, delay removed; -6 dB at its edges in Hz."""
    taps, beta = kaiserord(ATTENUATION, TRANSITION / (sample_rate / 2))
    half = taps // 2
    kernel = firwin(2 * half + 1, edges, window=("kaiser", beta), pass_zero=kind, fs=sample_rate)
    return convolve(waveform, torch.from_numpy(kernel).float())[half : half + len(waveform)]


def play_and_record(
    waveform: torch.Tensor, rt60: float, sample_rate: int, generator: np.random.Generator
) -> torch.Tensor:
    """[T] played in a room of about `rt60` s and recorded again 0.4 to 0.8 m away, at the level (RMS) it had.

    The loudspeaker's and the microphone's resonances are drawn, so is one of 4 rooms; white noise lies 25 dB below.
    Training with `augment` meets none of it: rooms there are noise tails and devices smooth curves without phase, here
    they are image sources and minimum-phase resonances. The direct sound stays in step; phases turn as in any
    loudspeaker. Raises ValueError for an RT60 that such rooms cannot have (0.15 s is the least), and where
    pyroomacoustics is not installed.
    """
    _refuse_unless_positive("RT60", rt60)
    response, delay = shoebox_response(rt60, sample_rate, int(generator.integers(ROOMS)))
    played = _through_loudspeaker(waveform, sample_rate, generator)
    heard = convolve(played, response)[delay : delay + len(waveform)]
    heard = equalizer_biquad(heard, sample_rate, generator.uniform(1_000, 3_000), generator.uniform(-3, 3), 1.0)
    return add_white_noise(_at_level_of(waveform, heard), RERECORDING_SNR, generator)


@lru_cache(maxsize=4 * ROOMS)
def shoebox_response(rt60: float, sample_rate: int, room: int) -> tuple[torch.Tensor, int]:
    """Impulse response [T] of box-shaped room number `room`, and the sample at which the direct sound arrives in it.

    By image sources (Allen & Berkley, "Image method for efficiently simulating small-room acoustics", 1979); the rooms
    are 3.5 to 5 m by 4 to 6 m by 2.5 to 3.2 m. Sabine's formula gives the walls' absorption; the RT60 is met to 30 %,
    and the response ends where it has fallen by 42 dB.
    """
    try:
        from pyroomacoustics import Material, ShoeBox, inverse_sabine
    except ImportError as error:
        cure = 'pip install "dfa-utils[release]", or pip install pyroomacoustics; or leave rerecording out'
        raise ValueError(f"rerecording needs pyroomacoustics: {cure}") from error
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


def prepend_silence(waveform: torch.Tensor, seconds: float, sample_rate: int) -> torch.Tensor:
    """[T] after `seconds` s of digital silence. Raises ValueError unless seconds > 0.

    `dfa_utils.windows` passes it over; a detector that cuts recordings in another way would see it.
    """
    _refuse_unless_positive("length", seconds)
    return pad(waveform, (math.ceil(seconds * sample_rate), 0))


@dataclass(frozen=True)
class Corruption:
    """One kind of damage: function(waveform, level, sample_rate, generator), its levels from mild to severe, a unit."""

    function: Callable[[torch.Tensor, float, int, np.random.Generator], torch.Tensor]
    levels: tuple[float, ...]
    unit: str


CORRUPTIONS = {
    "noise": Corruption(lambda wave, snr, rate, rng: add_white_noise(wave, snr, rng), (30, 20, 10, 0), "dB SNR"),
    "mp3": Corruption(lambda wave, kbps, rate, rng: mp3(wave, kbps, rate), (128, 64, 32), "kbit/s"),
    "band": Corruption(lambda wave, edge, rate, rng: limit_band(wave, edge, rate), (6000, 4000, 2000), "Hz"),
    "gain": Corruption(lambda wave, gain, rate, rng: wave * 10 ** (gain / 20), (-40, -20, 20), "dB"),
    "telephone": Corruption(lambda wave, bits, rate, rng: telephone(wave, bits, rate), (8,), "bit mu-law at 8 kHz"),
    "rerecording": Corruption(play_and_record, (0.3, 0.6), "s RT60"),
    "offset": Corruption(lambda wave, offset, rate, rng: wave + offset, (0.01, 0.1), "FS"),
    "silence": Corruption(lambda wave, seconds, rate, rng: prepend_silence(wave, seconds, rate), (1.0,), "s in front"),
}


def corrupt(
    waveform: torch.Tensor, name: str, level: float, sample_rate: int, generator: np.random.Generator
) -> torch.Tensor:
    """Apply the corruption called `name`, at `level` in its own unit, to [T] at `sample_rate` Hz.

    Raises ValueError for an unknown name, a level that cannot be had, and anything but a waveform [T].
    """
    if waveform.ndim != 1 or not len(waveform):
        raise ValueError(f"expected one waveform [T], got {tuple(waveform.shape)}")
    return find_entry(CORRUPTIONS, name, "corruption").function(waveform, level, sample_rate, generator)


def _refuse_unless_positive(name: str, seconds: float) -> None:
    if not seconds > 0:
        raise ValueError(f"{name} must be above 0 s, got {seconds}")


CLEAN = ("clean", np.nan)  # the condition that changes nothing
UNDECIDED = 0.5  # what a clip counts as when its corruption leaves silence, in which there is nothing to judge


def robustness(
    detector: Detector, manifest: pd.DataFrame, names: Iterable[str] | None = None, seed: int = 0
) -> pd.DataFrame:
    """One row for the clean clips and one a corruption (None: all of CORRUPTIONS) and level.

    Columns: corruption, level, unit; eer, eer_low, eer_high (`evaluation.eer_interval`); hter at the detector's own
    threshold; shift and shift_95, the mean and 95th percentile of |score - clean score|; clips, and how many of them
    were left silent: those score 0.5. Error rates and shifts lie in [0, 1]. Raises ValueError for an unknown name,
    AudioError for a clip that cannot be used; holds up to 1,024 clips in memory.
    """
    conditions = conditions_of(names)
    scores = score_conditions(detector, manifest.path, conditions, seed)  # [conditions, N]
    if np.isnan(scores[0]).any():
        raise AudioError(f"{manifest.path.iloc[int(np.isnan(scores[0]).argmax())]}: silent; leave it out", "silent")
    rows = [
        {"corruption": name, "level": level, "unit": CORRUPTIONS[name].unit if name in CORRUPTIONS else ""}
        | _figures(manifest, scores[0], row, detector.threshold)
        for (name, level), row in zip(conditions, scores, strict=True)
    ]
    return pd.DataFrame(rows)


def conditions_of(names: Iterable[str] | None = None) -> list[tuple[str, float]]:
    """(name, level) of the clean condition and of each corruption's levels, from mild to severe."""
    chosen = CORRUPTIONS if names is None else names
    return [CLEAN, *((name, level) for name in chosen for level in find_entry(CORRUPTIONS, name, "corruption").levels)]


def score_conditions(
    detector: Detector, paths: pd.Series, conditions: list[tuple[str, float]], seed: int = 0
) -> np.ndarray:
    """P(fake) of each clip under each condition, [conditions, N]; NaN for one that is silent then.

    What is random follows from (seed, name, level, the clip's place in `paths`). Raises AudioError, naming it, for a
    clip that cannot be read.
    """
    work = list(product(conditions, range(len(paths))))
    version = partial(_version, paths=paths.tolist(), sample_rate=detector.model.config.sample_rate, seed=seed)
    clips = (("clip", [clip]) for clip in map_in_threads(version, work, "corrupting and scoring"))
    scores = [score_of(result) for _, result in detector.predict_recordings(clips)]
    return np.array(scores).reshape(len(conditions), -1)


def score_of(result: Prediction | AudioError) -> float:
    """P(fake); NaN for a clip that is silent, and any other error is raised."""
    if not isinstance(result, AudioError):
        return result.score
    if result.kind != "silent":
        raise result
    return np.nan


def _version(task: tuple[tuple[str, float], int], paths: list[str], sample_rate: int, seed: int) -> torch.Tensor:
    """The clip [T] at one place, under one condition."""
    (name, level), place = task
    clip = open_clip(paths[place], sample_rate)
    if name == CLEAN[0]:
        return clip
    generator = np.random.default_rng((seed, zlib.crc32(f"{name} {float(level)}".encode()), place))
    return corrupt(clip, name, level, sample_rate, generator)


def _figures(manifest: pd.DataFrame, clean: np.ndarray, scores: np.ndarray, threshold: float) -> dict[str, float]:
    silent, labels = np.isnan(scores), manifest.label.to_numpy()
    scores = np.where(silent, UNDECIDED, scores)
    shift = np.abs(scores - clean)
    low, high = eer_interval(manifest.assign(score=scores))
    return {
        "eer": metrics.eer_rate(labels, scores),
        "eer_low": low,
        "eer_high": high,
        "hter": metrics.hter(labels, scores, threshold),
        "shift": shift.mean(),
        "shift_95": np.quantile(shift, 0.95),
        "clips": len(scores),
        "silent": silent.sum(),
    }
