"""How far cues tell the classes apart: the AUC of each alone, and of all of them together.

MERGED: What a clip gives away before anyone listens to the voice: one number a cue.

*Nuisance* cues come from the recording and the file, so a difference between the classes is a fault of the data set.
*Spectral* cues may also be the trace that a vocoder leaves, which is what a detector is meant to hear. None of these
moves with the level, which is a nuisance cue of its own.
"""

import hashlib
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile

from dfa_utils.audio import AudioError, libsndfile_name
from dfa_utils.cache import open_clip
from dfa_utils.config import Config
from dfa_utils.layouts import SPLITS
from dfa_utils.windows import is_silent

RATE = Config().sample_rate  # Hz
NUISANCE = {
    "rms_db": "RMS level (dBFS)",
    "peak_db": "peak level (dBFS)",
    "dc": "DC offset (full scale = 1)",
    "seconds": "duration (s)",
    "lead": "leading silence (s)",
    "trail": "trailing silence (s)",
    "edge": "band edge (Hz)",
    "floor_db": "noise floor (dB below RMS)",
}  # column: name with unit
SPECTRAL = {
    "tilt": "spectral tilt (dB an octave)",
    **{f"contrast{band}": f"spectral contrast, band {band} (dB)" for band in range(7)},
}
TOO_SHORT = 0.5  # s
CLIPPED = 1e-3  # share of samples at full scale
MEL_BANDS, TIMES = 16, 16  # of a clip's sketch
LONGEST = 30.0  # s; of a longer clip the level and the spectrum of its first part that is not silent are measured


def measure_clip(path) -> dict:
    """File facts (sample_rate, channels, codec, hash), cues and sketch of one clip, judged at 16 kHz.

    `problem` says why a clip cannot be used, or is ""; `kind` says it in a word (that of AudioError), or else "short"
    or "clipped" for a clip that can be used but should not be, or is "". `clipped` is the share of samples at full
    scale, `sketch` [MEL_BANDS * TIMES] a coarse spectrogram of length 1, alike for clips that sound alike.
    """
    try:
        clip = open_clip(path, RATE)
        parts = clip.split(int(LONGEST * RATE))
        samples = next((part for part in parts if not is_silent(part)), None)
        if samples is None:
            raise AudioError(f"{path}: silent for {len(clip) / RATE:.3g} s; leave it out", "silent")
    except AudioError as error:
        codec = Path(path).suffix[1:].lower()
        return {"codec": codec, "hash": "", "kind": error.kind, "problem": str(error)}
    cues = {"seconds": len(clip) / RATE, **_ends(clip.numpy())}
    cues |= {**_levels(samples.numpy()), **_spectral(samples.numpy())}
    kind = "short" if cues["seconds"] < TOO_SHORT else "clipped" if cues["clipped"] > CLIPPED else ""
    content = hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]
    return {**_header(path), **cues, "hash": content, "kind": kind, "problem": ""}


def _header(path) -> dict:
    try:
        info = soundfile.info(libsndfile_name(path))
    except soundfile.LibsndfileError:  # what FFmpeg alone reads
        from torchcodec.decoders import AudioDecoder

        info = AudioDecoder(path).metadata
        return {"sample_rate": info.sample_rate, "channels": info.num_channels, "codec": info.codec}
    return {"sample_rate": info.samplerate, "channels": info.channels, "codec": f"{info.format} {info.subtype}"}


def _levels(samples: np.ndarray) -> dict:
    peak = float(np.abs(samples).max())
    return {
        "rms_db": _decibels(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))),
        "peak_db": _decibels(peak),
        "dc": float(samples.mean(dtype=np.float64)),
        "clipped": float(np.mean(np.abs(samples) >= 0.999)),
    }


def _ends(samples: np.ndarray) -> dict:
    """Seconds before the first and after the last 10 ms that lie less than 40 dB below the loudest."""
    step = RATE // 100
    whole = np.pad(samples, (0, -len(samples) % step), mode="edge")
    level = np.ptp(whole.reshape(-1, step), axis=1)  # [10 ms blocks]
    loud = np.flatnonzero(level > 0.01 * level.max())
    return {"lead": loud[0] / 100, "trail": (len(level) - 1 - loud[-1]) / 100}


def _spectral(samples: np.ndarray) -> dict:
    """What is read off the spectrum of [T], with its mean at 0 and its RMS at 1 so that the level does not count."""
    import librosa

    samples = samples - samples.mean()
    samples = np.resize(samples / samples.std(), max(len(samples), 1024))
    magnitude = np.abs(librosa.stft(samples, n_fft=512, hop_length=256))  # [257, frames]
    power = np.square(magnitude)
    contrast = librosa.feature.spectral_contrast(S=magnitude, sr=RATE, fmin=100.0).mean(axis=1)  # [7]
    frames = power.mean(axis=0)
    spectrum = 10 * np.log10(power.mean(axis=1) + 1e-12)  # [257] dB
    mel = librosa.feature.melspectrogram(S=power, sr=RATE, n_mels=40)
    return {
        "edge": _band_edge(spectrum),
        "floor_db": _decibels(np.sqrt(np.quantile(frames, 0.05) / frames.mean())),
        "tilt": _tilt(spectrum),
        **{f"contrast{band}": float(value) for band, value in enumerate(contrast)},
        "sketch": _sketch(librosa.power_to_db(mel, top_db=60)),
    }


def _band_edge(spectrum: np.ndarray, drop: float = 15.0) -> float:
    """The frequency (Hz) at which the level falls most within 600 Hz, if by over `drop` dB; else the highest one."""
    width = round(300 / (RATE / 512))  # bins
    means = np.convolve(spectrum, np.ones(2 * width) / (2 * width), mode="valid")  # means[i]: bins i to i + 2 width
    falls = means[: -2 * width] - means[2 * width :]
    falls[: round(1500 / (RATE / 512))] = 0  # what voices do themselves
    steepest = int(np.argmax(falls))
    return (steepest + 2 * width) * RATE / 512 if falls[steepest] > drop else RATE / 2


def _tilt(spectrum: np.ndarray) -> float:
    octaves = np.log2(np.arange(4, 225))  # 125 Hz to 7 kHz
    return float(np.polyfit(octaves, spectrum[4:225], 1)[0])


def _sketch(mel: np.ndarray) -> np.ndarray:
    """[bands, frames] in dB -> [MEL_BANDS * TIMES]: cells of the picture without their mean, scaled to length 1."""
    rows = np.array_split(np.arange(mel.shape[0]), MEL_BANDS)
    bands = np.array([mel[part].mean(axis=0) for part in rows])  # [MEL_BANDS, frames]
    at = np.linspace(0, bands.shape[1] - 1, TIMES + 1).round().astype(int)
    cells = np.array([bands[:, a : max(b, a + 1)].mean(axis=1) for a, b in pairwise(at)]).T
    cells = cells - cells.mean(axis=1, keepdims=True)  # what a band has all the time says who speaks, not what
    return (cells / max(np.linalg.norm(cells), 1e-9)).ravel().astype(np.float32)


def _decibels(amplitude: float) -> float:
    return float(20 * np.log10(max(amplitude, 1e-6)))


def probe(clips: pd.DataFrame) -> pd.DataFrame:
    """How well each cue alone, and each group of cues by logistic regression, separates the classes: AUC by split.

    `clips` are rows of `cues.measure_clip` with split and label. Direction and regression are fitted on training, where
    the AUC of one cue is thus at least 0.5, and read on validation and testing; `low` and `high` bound the interval on
    training, which holds for all nuisance cues at once in 95 % of cases (regression: the 95 % interval on validation,
    since on training it knows the answers). NaN where a split lacks a class.
    """
    rows = {name: _one_cue(clips, name) for name in [*NUISANCE, *SPECTRAL]}
    rows |= {"all nuisance cues": _together(clips, [*NUISANCE]), "all spectral cues": _together(clips, [*SPECTRAL])}
    return pd.DataFrame(rows, index=[*SPLITS, "low", "high"]).T


def cue_table(clips: pd.DataFrame) -> pd.DataFrame:
    """One row a nuisance cue, over all clips: AUC of fake against real; 0.5 = says nothing.

    `low` and `high` bound intervals that hold for all cues at once in 95 % of cases.
    """
    rows = {name: auc_interval(clips.label, clips[cue], len(NUISANCE)) for cue, name in NUISANCE.items()}
    return pd.DataFrame(rows, index=["auc", "low", "high"]).T


def auc_interval(labels, values, at_once: int = 1) -> tuple[float, float, float]:
    """AUC of fake against real and its interval, clips taken as independent (DeLong et al. 1988, by ranks).

    So wide that `at_once` such intervals hold the truth all at once in 95 % of cases (Bonferroni). NaN where a class
    has fewer than two clips.
    """
    from scipy.stats import norm, rankdata

    labels, values = np.asarray(labels), np.asarray(values, dtype=float)
    fake, real, ranks = values[labels == 1], values[labels == 0], rankdata(values)
    if min(len(fake), len(real)) < 2:
        return np.nan, np.nan, np.nan
    above = (ranks[labels == 1] - rankdata(fake)) / len(real)  # share of reals below each fake
    below = 1 - (ranks[labels == 0] - rankdata(real)) / len(fake)  # share of fakes above each real
    auc = float(above.mean())
    error = float(np.sqrt(above.var(ddof=1) / len(fake) + below.var(ddof=1) / len(real)))
    width = float(norm.isf(0.025 / at_once)) * error
    return auc, max(auc - width, 0.0), min(auc + width, 1.0)


def _one_cue(clips: pd.DataFrame, cue: str) -> dict:
    part = clips[clips.split == "training"]
    sign = -1 if auc_interval(part.label, part[cue])[0] < 0.5 else 1
    return _by_split(clips, sign * clips[cue], "training", len(NUISANCE))


def _together(clips: pd.DataFrame, cues: list[str]) -> dict:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    training = clips[clips.split == "training"]
    if training.label.nunique() < 2:
        return {}
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    model.fit(training[cues], training.label)
    return _by_split(clips, pd.Series(model.decision_function(clips[cues]), clips.index), "validation", 1)


def _by_split(clips: pd.DataFrame, values: pd.Series, of: str, at_once: int) -> dict:
    """AUC of `values` in each split, and the interval in the split `of`; NaN where a class is missing."""
    rows = {split: auc_interval(part.label, values[part.index], at_once) for split, part in clips.groupby("split")}
    _, low, high = rows.get(of, (np.nan,) * 3)
    return {split: row[0] for split, row in rows.items()} | {"low": low, "high": high}
