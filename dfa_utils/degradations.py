"""What happens to speech on its way to a detector, and how much a detector's scores change under it.

Each degradation takes one waveform [T] float32 at `sample_rate` Hz, full scale = 1, and returns [T], every sample at
its place. Random numbers come from the generator that is passed in. DEGRADATIONS lists them with the levels at which
`robustness` measures a detector.
"""

import zlib
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.signal import firwin, kaiserord
from torch import Tensor, from_numpy
from torchaudio.functional import mu_law_decoding, mu_law_encoding

from dfa_utils import metrics
from dfa_utils.audio import AudioError
from dfa_utils.augment import change_rate, convolve, fit_end, through_codec
from dfa_utils.cache import open_clip
from dfa_utils.evaluation import eer_interval, score_clips
from dfa_utils.inference import Detector
from dfa_utils.support import look_up, map_in_threads

TRANSITION = 200.0  # Hz; from the end of the pass band to the beginning of the stop band
TELEPHONE_RATE = 8_000  # Hz; sample rate of a telephone line (ITU-T G.711)
TELEPHONE_EDGES = (200.0, 3_500.0)  # Hz, at -6 dB; 300 to 3,400 Hz pass unchanged (ITU-T G.712)
MP3_BIT_RATES = {
    32_000: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),  # MPEG-1
    16_000: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),  # MPEG-2
    8_000: (8, 16, 24, 32, 40, 48, 56, 64),  # MPEG-2.5
}  # kbit/s of Layer III, from each sample rate (Hz) on
COLUMNS = ("eer", "eer_low", "eer_high", "hter", "shift", "shift_95", "clips", "silent")


def robustness(detector: Detector, manifest: pd.DataFrame, names=None, seed: int = 0) -> pd.DataFrame:
    """How well a detector does on clean clips, and under degradations (None: all) at each level; one row each.

    Columns: degradation, level, unit; eer, eer_low, eer_high (`evaluation.eer_interval`); hter at the detector's own
    threshold; shift and shift_95, the mean and 95th percentile of |score - clean score|; clips, and how many of them
    were left silent: those score 0.5. Error rates and shifts are in [0, 1]. Raises ValueError for an unknown name, and
    AudioError for a clip that is silent or cannot be read.
    """
    chosen = DEGRADATIONS if names is None else names
    conditions = [(name, level) for name in chosen for level in look_up(DEGRADATIONS, name, "degradation").levels]
    clean = score_clips(detector, manifest).score.to_numpy()
    scores = score_degraded(detector, manifest.path, conditions, seed)
    rows = [_summary(manifest, clean, row, detector.threshold) for row in [clean, *scores]]
    table = pd.DataFrame([("clean", np.nan), *conditions], columns=["degradation", "level"])
    units = table.degradation.map({name: each.unit for name, each in DEGRADATIONS.items()}).fillna("")
    return table.assign(unit=units).join(pd.DataFrame(rows, columns=COLUMNS))


def degrade(waveform: Tensor, name: str, level: float, sample_rate: int, generator: np.random.Generator) -> Tensor:
    """Apply the degradation called `name`, at `level` in its own unit, to [T] at `sample_rate` Hz.

    Raises ValueError for an unknown name, a level that is not possible, and anything but a waveform [T].
    """
    if waveform.ndim != 1 or not len(waveform):
        raise ValueError(f"expected one waveform [T], got {tuple(waveform.shape)}")
    return look_up(DEGRADATIONS, name, "degradation").function(waveform, level, sample_rate, generator)


def score_degraded(detector: Detector, paths: Iterable, conditions: list, seed: int = 0, apply=degrade) -> np.ndarray:
    """P(fake) of each clip under each condition (name, level): [conditions, N]; NaN for a clip that is silent then.

    `apply` has the arguments of `degrade`. Random numbers follow from (seed, name, level, the clip's place in `paths`)
    alone. Raises AudioError for a clip that cannot be read. Holds up to 1,024 clips in memory.
    """
    paths, rate = list(paths), detector.model.config.sample_rate

    def _degraded(task: tuple[tuple[str, float], int]) -> Tensor:
        (name, level), place = task
        generator = np.random.default_rng((seed, zlib.crc32(f"{name} {float(level)}".encode()), place))
        return apply(open_clip(paths[place], rate), name, level, rate, generator)

    work = [(condition, place) for condition in conditions for place in range(len(paths))]
    clips = (("clip", [clip]) for clip in map_in_threads(_degraded, work, "degrading and scoring"))
    results = [result for _, result in detector.predict_recordings(clips)]
    if errors := [each for each in results if isinstance(each, AudioError) and each.kind != "silent"]:
        raise errors[0]
    return np.array([getattr(each, "score", np.nan) for each in results]).reshape(len(conditions), len(paths))


def add_white_noise(waveform: Tensor, snr_db: float, generator: np.random.Generator) -> Tensor:
    """[T] plus white Gaussian noise, `snr_db` dB below the waveform's power over the whole clip, without its DC."""
    noise = from_numpy(generator.standard_normal(len(waveform), dtype=np.float32))
    return waveform + noise * waveform.std(correction=0) * 10 ** (-snr_db / 20)


def mp3(waveform: Tensor, kbps: int, sample_rate: int) -> Tensor:
    """[T] through MP3 at a constant bit rate, by the LAME in libsndfile, delay removed; the level falls by 0.4 dB.

    Raises ValueError for a bit rate that MP3 does not have at `sample_rate`, listing those it has.
    """
    rates = next((rates for lowest, rates in MP3_BIT_RATES.items() if sample_rate >= lowest), ())
    if kbps not in rates:
        raise ValueError(f"MP3 at {sample_rate} Hz has the bit rates {rates} kbit/s, not {kbps}")
    level = min((rates[-1] - kbps) / (rates[-1] - rates[0]), 0.999)  # libsndfile: 0 = highest rate, below 1 = lowest
    return through_codec(waveform, sample_rate, format="MP3", bitrate_mode="CONSTANT", compression_level=level)


def limit_band(waveform: Tensor, edge: float, sample_rate: int) -> Tensor:
    """[T] without everything above `edge` Hz (-80 dB), unchanged up to 200 Hz below it; linear phase, delay removed.

    Raises ValueError for an edge outside 200 Hz to half the sample rate.
    """
    if not TRANSITION < edge <= sample_rate / 2:
        raise ValueError(f"the band must end above {TRANSITION:g} Hz and at most at {sample_rate / 2:g} Hz, got {edge}")
    return _through_fir(waveform, edge - TRANSITION / 2, sample_rate)


def telephone(waveform: Tensor, bits: float, sample_rate: int) -> Tensor:
    """[T] after a telephone line: 300 to 3,400 Hz, 8 kHz sampling, `bits` of mu-law (8: ITU-T G.711), and back.

    The band is limited before sampling and after it, to -80 dB from 200 Hz beyond its edges; linear phase, delay
    removed. Samples beyond full scale are clipped. Raises ValueError unless `bits` is a whole number from 2 on and the
    sample rate at least 8 kHz.
    """
    if bits < 2 or bits != int(bits) or sample_rate < TELEPHONE_RATE:
        raise ValueError(f"a telephone line needs whole bits from 2 on and 8 kHz, got {bits} bits and {sample_rate} Hz")
    line = change_rate(_through_fir(waveform, TELEPHONE_EDGES, sample_rate), sample_rate, TELEPHONE_RATE).clamp(-1, 1)
    line = mu_law_decoding(mu_law_encoding(line, 2 ** int(bits)), 2 ** int(bits))
    line = fit_end(change_rate(line, TELEPHONE_RATE, sample_rate), len(waveform))
    return _through_fir(line, TELEPHONE_EDGES, sample_rate)


class Degradation(NamedTuple):
    """One kind of degradation: function(waveform, level, sample_rate, generator); levels from mild to severe."""

    function: Callable[[Tensor, float, int, np.random.Generator], Tensor]
    levels: tuple[float, ...]
    unit: str


DEGRADATIONS = {
    "noise": Degradation(lambda wave, snr, rate, rng: add_white_noise(wave, snr, rng), (30, 20, 10, 0), "dB SNR"),
    "mp3": Degradation(lambda wave, kbps, rate, rng: mp3(wave, kbps, rate), (128, 64, 32), "kbit/s"),
    "band": Degradation(lambda wave, edge, rate, rng: limit_band(wave, edge, rate), (6000, 4000, 2000), "Hz"),
    "gain": Degradation(lambda wave, gain, rate, rng: wave * 10 ** (gain / 20), (-40, -20, 20), "dB"),
    "telephone": Degradation(lambda wave, bits, rate, rng: telephone(wave, bits, rate), (8,), "bit mu-law at 8 kHz"),
}


def _through_fir(waveform: Tensor, edges: float | tuple[float, float], rate: int) -> Tensor:
    """[T] through a linear-phase low-pass or band-pass, delay removed; -6 dB at its one or two edges in Hz."""
    taps, beta = kaiserord(80.0, TRANSITION / (rate / 2))
    kernel = firwin(taps | 1, edges, window=("kaiser", beta), pass_zero=isinstance(edges, float), fs=rate)
    return convolve(waveform, from_numpy(kernel).float())[taps // 2 :][: len(waveform)]


def _summary(manifest: pd.DataFrame, clean: np.ndarray, scores: np.ndarray, threshold: float) -> tuple[float, ...]:
    """The values of COLUMNS for scores [N] under one condition."""
    silent, labels = np.isnan(scores), manifest.label.to_numpy()
    scores = np.where(silent, 0.5, scores)
    shift, hter = np.abs(scores - clean), metrics.hter(labels, scores, threshold)
    rates = metrics.eer_rate(labels, scores), *eer_interval(manifest.assign(score=scores)), hter
    return *rates, shift.mean(), np.quantile(shift, 0.95), len(scores), silent.sum()
