"""Cues of a clip, one number each, and how well they separate the classes.

*Nuisance* cues come from the recording and the file; a difference between the classes is a fault of the data set.
*Spectral* cues may also be the trace of a vocoder, which a detector should hear. They do not depend on the level, which
is a nuisance cue itself.
"""

import hashlib
from pathlib import Path

import av
import numpy as np
import pandas as pd
import soundfile
import torch
from torch.nn.functional import adaptive_avg_pool2d, normalize

from dfa_utils.audio import AudioError, libsndfile_name
from dfa_utils.cache import open_clip
from dfa_utils.config import Config
from dfa_utils.layouts import SPLITS
from dfa_utils.windows import is_silent

RATE = Config().sample_rate  # Hz
TRAPS = {  # column: name with unit, and what to do if it differs between the classes
    "rms_db": ("RMS level (dBFS)", "normalise it"),
    "peak_db": ("peak level (dBFS)", "normalise the level"),
    "dc": ("DC offset (full scale = 1)", "subtract the mean"),
    "seconds": ("duration (s)", "cut all clips to one length (ffmpeg -i IN -t 2 OUT)"),
    "lead": ("leading silence (s)", "trim it in both classes"),
    "trail": ("trailing silence (s)", "trim it in both classes"),
    "edge": ("band edge (Hz)", "give both classes the same band (resample, low-pass)"),
    "floor_db": ("noise floor (dB below RMS)", "record both classes in the same way, or add noise to both"),
}
NUISANCE = {cue: name for cue, (name, _) in TRAPS.items()}
CURES = {cue: cure for cue, (_, cure) in TRAPS.items()}
SPECTRAL = ("tilt", *(f"contrast{band}" for band in range(7)))  # spectral tilt in dB per octave, contrast in dB
SHORT_SECONDS = 0.5  # clips below this are reported as short
CLIPPED_SHARE = 1e-3  # of the samples at full scale; clips above this are reported as clipped
LONGEST_SECONDS = 30.0  # level and spectrum of longer clips are measured on their first part that is not silent
SKETCH = 16  # bands and time steps of a clip's sketch


def measure_clip(path) -> dict:
    """File facts (sample_rate in Hz, channels, codec, hash), cues and sketch of one clip, measured at 16 kHz.

    `problem` is the reason why a clip cannot be used, or "". `kind` is that reason in one word (that of AudioError);
    for usable clips it is "short", "clipped" or "". `clipped` is the share of samples at full scale. `sketch`
    [SKETCH * SKETCH] is a coarse spectrogram of norm 1; clips that sound alike have similar sketches.
    """
    try:
        clip = open_clip(path, RATE)
        samples = next((part for part in clip.split(int(LONGEST_SECONDS * RATE)) if not is_silent(part)), None)
        if samples is None:
            raise AudioError(f"{path}: silent for {len(clip) / RATE:.3g} s; leave it out", "silent")
    except AudioError as error:
        return {"codec": Path(path).suffix[1:].lower(), "hash": "", "kind": error.kind, "problem": str(error)}
    content = hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]
    samples, seconds = samples.numpy(), len(clip) / RATE
    cues = _ends(clip.numpy()) | _levels(samples) | _spectral(samples) | {"seconds": seconds}
    kind = "short" if seconds < SHORT_SECONDS else "clipped" if cues["clipped"] > CLIPPED_SHARE else ""
    return {**_header(path), **cues, "hash": content, "kind": kind, "problem": ""}


def _header(path) -> dict:
    try:
        info = soundfile.info(libsndfile_name(path))
    except (soundfile.LibsndfileError, TypeError):  # only FFmpeg reads it; TypeError: it is called *.raw
        with av.open(str(path), metadata_errors="ignore") as container:
            codec = container.streams.audio[0].codec_context
            return {"sample_rate": codec.sample_rate, "channels": codec.layout.nb_channels, "codec": codec.name}
    return {"sample_rate": info.samplerate, "channels": info.channels, "codec": f"{info.format} {info.subtype}"}


def _levels(samples: np.ndarray) -> dict:
    magnitude, mean = np.abs(samples), float(samples.mean(dtype=np.float64))
    rms = np.sqrt(np.mean(np.square(samples, dtype=np.float64)))
    clipped = float(np.mean(magnitude >= 0.999))
    return {"rms_db": _decibels(rms), "peak_db": _decibels(magnitude.max()), "dc": mean, "clipped": clipped}


def _ends(samples: np.ndarray) -> dict:
    """Seconds before the first and after the last 10 ms that are less than 40 dB below the loudest."""
    step = RATE // 100
    level = np.ptp(np.pad(samples, (0, -len(samples) % step), mode="edge").reshape(-1, step), axis=1)  # [10 ms blocks]
    loud = np.flatnonzero(level > 0.01 * level.max())
    return {"lead": loud[0] / 100, "trail": (len(level) - 1 - loud[-1]) / 100}


def _spectral(samples: np.ndarray) -> dict:
    """Cues of the spectrum of [T], after its mean is set to 0 and its RMS to 1, so that the level does not matter."""
    import librosa

    samples = samples - samples.mean()
    samples = np.resize(samples / samples.std(), max(len(samples), 1024))
    magnitude = np.abs(librosa.stft(samples, n_fft=512, hop_length=256))  # [257, frames]
    power = np.square(magnitude)
    frames, spectrum = power.mean(axis=0), 10 * np.log10(power.mean(axis=1) + 1e-12)  # [frames], [257] in dB
    octaves = np.log2(np.arange(4, 225))  # 125 Hz to 7 kHz
    tilt = float(np.polyfit(octaves, spectrum[4:225], 1)[0])
    floor = _decibels(np.sqrt(np.quantile(frames, 0.05) / frames.mean()))
    contrast = librosa.feature.spectral_contrast(S=magnitude, sr=RATE, fmin=100.0).mean(axis=1)  # [7]
    sketch = _sketch(librosa.power_to_db(librosa.feature.melspectrogram(S=power, sr=RATE, n_mels=40), top_db=60))
    cues = dict(zip(SPECTRAL, [tilt, *contrast.tolist()], strict=True))
    return cues | {"edge": _band_edge(spectrum), "floor_db": floor, "sketch": sketch}


def _band_edge(spectrum: np.ndarray, drop: float = 15.0) -> float:
    """Frequency (Hz) of the steepest fall within 600 Hz if it exceeds `drop` dB, else the highest frequency."""
    width = round(300 / (RATE / 512))  # bins
    falls = np.convolve(spectrum, np.repeat([-1, 1], 2 * width) / (2 * width), mode="valid")  # around bin i + 2 width
    falls[: round(1500 / (RATE / 512))] = 0  # voices fall here by themselves
    steepest = int(np.argmax(falls))
    return (steepest + 2 * width) * RATE / 512 if falls[steepest] > drop else RATE / 2


def _sketch(mel: np.ndarray) -> np.ndarray:
    """[bands, frames] in dB -> [SKETCH * SKETCH]: means of cells, without the mean of each band, scaled to norm 1."""
    cells = adaptive_avg_pool2d(torch.from_numpy(mel)[None], SKETCH)[0]  # [SKETCH, SKETCH]
    cells = cells - cells.mean(dim=1, keepdim=True)  # the mean of a band depends on the speaker, not on the words
    return normalize(cells.flatten(), dim=0).float().numpy()


def _decibels(amplitude: float) -> float:
    return float(20 * np.log10(max(amplitude, 1e-6)))


def probe(clips: pd.DataFrame) -> pd.DataFrame:
    """AUC by split of each cue alone, and of each group of cues together (logistic regression).

    `clips` are rows of `measure_clip` with split and label. The direction of a cue and the regressions are fitted on
    training, so one cue has an AUC of at least 0.5 there. `low` and `high` bound its AUC on training; the intervals
    are so wide that those of all nuisance cues hold at once in 95 % of cases. For the regressions, which know the
    answers on training, they are the 95 % interval on validation. NaN if a split lacks a class.
    """
    training, rows = clips[clips.split == "training"], {}
    for cue in (*NUISANCE, *SPECTRAL):
        sign = -1 if auc_interval(training.label, training[cue])[0] < 0.5 else 1
        rows[cue] = _by_split(clips, sign * clips[cue], "training", len(NUISANCE))
    for name, cues in (("all nuisance cues", NUISANCE), ("all spectral cues", SPECTRAL)):
        rows[name] = _by_split(clips, _regression(training, clips, [*cues]), "validation")
    return pd.DataFrame(rows, [*SPLITS, "low", "high"]).T


def auc_interval(labels, values, at_once: int = 1) -> tuple[float, float, float]:
    """AUC of fake against real and its 95 % interval for independent clips (DeLong et al. 1988, by ranks).

    The interval is so wide that `at_once` such intervals all contain the true value in 95 % of cases (Bonferroni). NaN
    if a class has fewer than two clips.
    """
    from scipy.stats import norm, rankdata

    labels, values = np.asarray(labels), np.asarray(values, dtype=float)
    fake, real, ranks = values[labels == 1], values[labels == 0], rankdata(values)
    if min(len(fake), len(real)) < 2:
        return np.nan, np.nan, np.nan
    above = (ranks[labels == 1] - rankdata(fake)) / len(real)  # share of real clips below each fake
    below = 1 - (ranks[labels == 0] - rankdata(real)) / len(fake)  # share of fakes above each real clip
    auc, error = float(above.mean()), np.sqrt(above.var(ddof=1) / len(fake) + below.var(ddof=1) / len(real))
    width = float(norm.isf(0.025 / at_once) * error)
    return auc, max(auc - width, 0.0), min(auc + width, 1.0)


def _regression(training: pd.DataFrame, clips: pd.DataFrame, cues: list[str]) -> pd.Series:
    """The logit of each clip from a logistic regression on some cues, fitted on training; NaN if that lacks a class."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if training.label.nunique() < 2:
        return pd.Series(np.nan, clips.index)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(training[cues], training.label)
    return pd.Series(model.decision_function(clips[cues]), clips.index)


def _by_split(clips: pd.DataFrame, values: pd.Series, interval_on: str, at_once: int = 1) -> dict:
    """AUC of `values` in each split, and its interval on one of them."""
    rows = {split: auc_interval(part.label, values[part.index], at_once) for split, part in clips.groupby("split")}
    _, low, high = rows.get(interval_on, (np.nan,) * 3)
    return {split: row[0] for split, row in rows.items()} | {"low": low, "high": high}
