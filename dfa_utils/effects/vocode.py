"""Copy-synthesis: fakes made from real speech, by taking it apart and putting it together again as vocoders do.

A detector that learns to tell a recording from its own copy learns the vocoder's trace, for all else is the same:
words, voice, room, noise and level (Wang and Yamagishi, "Spoofed training data for speech spoofing countermeasure can
be efficiently created using neural vocoders", ICASSP 2023). The vocoders here are classical: none has trained weights.

Each takes a waveform [T] float32 at `sample_rate` Hz and a generator, from which it draws its settings, and returns
[T], in step with it. Sizes in samples are those at 16 kHz; at other rates they last as long.
"""

import hashlib
import math
import os
import warnings
from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile
import torch
from torch.nn.functional import interpolate, pad
from torchaudio.functional import convolve, melscale_fbanks, resample

from dfa_utils.audio import AudioError, is_silent, load_audio
from dfa_utils.config import Config
from dfa_utils.datasets.layouts import CLASSES, DataError, find_audio, find_sets, read, read_table
from dfa_utils.support.files import write_atomically
from dfa_utils.support.parallel import map_in_threads

MOMENTUM = 0.99 / 1.99  # of the fast Griffin-Lim algorithm, as torchaudio has it
FLOOR = 1e-5  # magnitude below which a spectrogram holds nothing; the waveform's peak is 1
PITCH_HOP = 0.005  # s; from one value of f0 to the next
PITCH_RANGE = (60, 500)  # Hz
PITCH_BAND = 2_000.0  # Hz; harmonics above make peaks of the autocorrelation that are too sharp for its samples
VOICED = 0.45  # autocorrelation at one period, relative to that at lag 0, from which on a frame has a pitch
OCTAVE_COST = 0.02  # of autocorrelation, for each octave downwards: a period is not taken for two
LONGEST = 300.0  # s; a longer clip would take gigabytes of memory
COLUMNS = ["path", "split", "label", "system", "speaker", "source"]
PYWORLD = "the vocoder 'world' needs pyworld: pip install pyworld-prebuilt; or name other vocoders"


def griffin_lim(waveform: torch.Tensor, sample_rate: int, generator: np.random.Generator) -> torch.Tensor:
    """[T] from its magnitude spectrogram alone, by 8 to 40 rounds of fast Griffin-Lim from random phase.

    FFT size 512, 800 or 1,024, hop a quarter or a fifth of it. Griffin and Lim, IEEE TASSP 1984; Perraudin et al.,
    "A fast Griffin-Lim algorithm", WASPAA 2013.
    """
    size, hop = _frame(sample_rate, generator)
    return _find_phase(_stft(waveform, size, hop).abs(), size, hop, len(waveform), generator)


def mel_griffin_lim(waveform: torch.Tensor, sample_rate: int, generator: np.random.Generator) -> torch.Tensor:
    """[T] from its mel spectrogram: 64 to 128 bands up to 95 or 100 % of the band, the rest as `griffin_lim`.

    The way back from a mel spectrogram in Tacotron (Wang et al., Interspeech 2017) and its kin.
    """
    size, hop = _frame(sample_rate, generator)
    bands, top = int(generator.choice((64, 80, 80, 100, 128))), float(generator.choice((0.95, 1.0, 1.0)))
    magnitude = _smear(_stft(waveform, size, hop).abs(), bands, top, sample_rate)
    return _find_phase(magnitude, size, hop, len(waveform), generator)


def mel_smear(waveform: torch.Tensor, sample_rate: int, generator: np.random.Generator) -> torch.Tensor:
    """[T] with the magnitudes that 64 to 100 mel bands leave, and its own phase: a perfect phase model's output."""
    size, hop = _frame(sample_rate, generator)
    spectrum = _stft(waveform, size, hop)
    magnitude = _smear(spectrum.abs(), int(generator.choice((64, 80, 80, 100))), 1.0, sample_rate)
    return _istft(torch.polar(magnitude, spectrum.angle()), size, hop, len(waveform))


def phase(waveform: torch.Tensor, sample_rate: int, generator: np.random.Generator) -> torch.Tensor:
    """[T] with Gaussian phase noise that grows linearly with frequency, as a poor phase model's error does.

    It begins at 0 to 60 % of the band, with a slope of 0.5 to 3 pi a band. A round of Griffin-Lim follows, or the noise
    would take up to 6 dB off the level where it is strong: overlapping frames would cancel.
    """
    size, hop = _frame(sample_rate, generator)
    spectrum = _stft(waveform, size, hop)
    start, slope = generator.uniform(0, 0.6), generator.uniform(0.5, 3) * math.pi
    spread = slope * (torch.linspace(0, 1, len(spectrum)) - start).clamp_min(0)[:, None]  # [bins, 1]
    noise = torch.from_numpy(generator.standard_normal(spectrum.shape, dtype=np.float32))
    angle = spectrum.angle() + spread * noise
    for _ in range(2):
        made = _istft(torch.polar(spectrum.abs(), angle), size, hop, len(waveform))
        angle = _stft(made, size, hop).angle()
    return made


def world(waveform: torch.Tensor, sample_rate: int, generator: np.random.Generator) -> torch.Tensor:
    """[T] through WORLD: f0, spectral envelope and aperiodicity every 5 ms, and synthesis from them.

    In 60 % of cases both are coded, the envelope by 24, 40 or 60 numbers a frame. Morise et al., "WORLD", IEICE
    Transactions 2016. Raises ValueError, which names the cure, where pyworld is not installed.
    """
    pyworld = _pyworld()
    padded = np.pad(waveform.double().numpy(), (0, math.ceil(0.02 * sample_rate)))  # it leaves the last frame empty
    pitch, times = pyworld.dio(padded, sample_rate)
    pitch = pyworld.stonemask(padded, pitch, times, sample_rate)
    envelope = pyworld.cheaptrick(padded, pitch, times, sample_rate)
    aperiodicity = pyworld.d4c(padded, pitch, times, sample_rate)
    if generator.random() < 0.6:
        size, numbers = 2 * (envelope.shape[1] - 1), int(generator.choice((24, 40, 60)))
        coded = pyworld.code_spectral_envelope(envelope, sample_rate, numbers)
        envelope = pyworld.decode_spectral_envelope(coded, sample_rate, size)
        if pyworld.get_num_aperiodicities(sample_rate):  # none at 8 kHz
            bands = pyworld.code_aperiodicity(aperiodicity, sample_rate)
            aperiodicity = pyworld.decode_aperiodicity(bands, sample_rate, size)
    made = pyworld.synthesize(pitch, envelope, aperiodicity, sample_rate)
    return torch.from_numpy(made[: len(waveform)].astype(np.float32))


def source_filter(waveform: torch.Tensor, sample_rate: int, generator: np.random.Generator) -> torch.Tensor:
    """[T] as an excitation of harmonics and noise under the envelope of 40, 64 or 80 mel bands of the speech.

    The excitation has 8, 30 or all harmonics; 0 to 2 rounds of Griffin-Lim follow. After the neural source-filter model
    (Wang et al., "Neural source-filter-based waveform model", ICASSP 2019), with a filter that is not trained.
    """
    size, hop = _scaled(512, sample_rate), _scaled(128, sample_rate)
    source = _stft(_excitation(waveform, sample_rate, generator), size, hop)
    speech, bands = _stft(waveform, size, hop).abs(), int(generator.choice((40, 64, 80)))
    made = _istft(source * _gain(speech, source.abs(), bands, sample_rate), size, hop, len(waveform))
    wanted = _smear(speech, bands, 1.0, sample_rate)
    for _ in range(generator.integers(3)):
        made = _istft(torch.polar(wanted, _stft(made, size, hop).angle()), size, hop, len(waveform))
    return made


def lpc(waveform: torch.Tensor, sample_rate: int, generator: np.random.Generator) -> torch.Tensor:
    """[T] by linear prediction: an excitation of harmonics and noise through an all-pole filter of each 25 ms.

    16, 20 or 24 poles. Atal and Hanauer, "Speech analysis and synthesis by linear prediction of the speech wave", JASA
    1971.
    """
    size, hop, order = _scaled(400, sample_rate), _scaled(100, sample_rate), int(generator.choice((16, 20, 24)))
    padded = 2 * size  # so that the filter's ringing does not wrap around
    source = torch.fft.irfft(_stft(_excitation(waveform, sample_rate, generator), size, hop), dim=0).double()
    frames = torch.fft.irfft(_stft(waveform, size, hop), dim=0).double()  # [size, frames]
    predictor = _predict(torch.fft.irfft(torch.fft.rfft(frames, padded, dim=0).abs() ** 2, dim=0).T, order)
    spectrum = torch.fft.rfft(source, padded, dim=0) / torch.fft.rfft(predictor.T, padded, dim=0)
    made = torch.fft.irfft(spectrum, dim=0)[:size]
    made = made * (frames.norm(dim=0) / made.norm(dim=0).clamp_min(1e-9))
    return _istft(torch.fft.rfft(made.float(), dim=0), size, hop, len(waveform))


def image(waveform: torch.Tensor, sample_rate: int, generator: np.random.Generator) -> torch.Tensor:
    """[T] whose upper band is made of spectral images of the lower half or quarter, under the true envelope.

    Upsampled by a random filter of 5, 9 or 17 taps over inserted zeros (a transposed convolution), by repetition or in
    straight lines; up to 60 % of the band is kept (30 % of it over the quarter). Pons et al., "Upsampling artifacts in
    neural audio synthesis", ICASSP 2021.
    """
    factor = int(generator.choice((2, 2, 4)))
    raised = _upsample(resample(waveform, factor, 1), factor, generator)[: len(waveform)]
    size, hop = _scaled(512, sample_rate), _scaled(128, sample_rate)
    true, copy = (_stft(x, size, hop) for x in (waveform, raised))
    mixed = copy * _gain(true.abs(), copy.abs(), 48, sample_rate)
    kept = int(generator.uniform(0, 0.3 if factor == 4 else 0.6) * len(true))
    mixed[:kept] = true[:kept]
    return _istft(mixed, size, hop, len(waveform))


VOCODERS: dict[str, Callable[[torch.Tensor, int, np.random.Generator], torch.Tensor]] = {
    "griffin_lim": griffin_lim,
    "mel_griffin_lim": mel_griffin_lim,
    "mel_smear": mel_smear,
    "phase": phase,
    "world": world,
    "source_filter": source_filter,
    "lpc": lpc,
    "image": image,
}


def vocode(waveform: torch.Tensor, name: str, sample_rate: int, generator: np.random.Generator) -> torch.Tensor:
    """The copy [T] that the vocoder called `name` makes of [T] at `sample_rate` Hz; finite, in step with it.

    It scales with the waveform's level. Raises ValueError for an unknown name, for anything but a waveform [T], and
    for "world" where pyworld is not installed.
    """
    if waveform.ndim != 1 or not len(waveform):
        raise ValueError(f"expected one waveform [T], got {tuple(waveform.shape)}")
    _refuse_unknown([name])
    peak = waveform.abs().max().clamp_min(1e-12)
    shortest = math.ceil(0.1 * sample_rate)
    padded = pad(waveform / peak, (0, max(shortest - len(waveform), 0)))
    return VOCODERS[name](padded, sample_rate, generator)[: len(waveform)] * peak


def copy_synthesise(
    manifest: pd.DataFrame, folder, names: Iterable[str] | None = None, versions: int = 1, seed: int = 0
) -> pd.DataFrame:
    """Write each real clip of `manifest` and `versions` copies of it: a training split with both classes.

    `folder` gets training/real/*.wav and training/fake/*.wav, both at `Config().sample_rate` Hz in 16 bits, and
    manifest.csv, which `scan(folder, splits=("training",))` reads; returned is its table, with the system of a copy,
    "copy:NAME", the speaker, and `source`, the original's path. A copy has its original's RMS, as far as full scale
    allows. Each vocoder of `names` (None: VOCODERS) is as likely as the others, and no two copies of a clip share one
    while there are more; which, and its settings, follow from (seed, the clip's content, version). Files that are there
    already stay. A clip that is damaged, silent or above five minutes is left out with a warning. Raises ValueError for
    unknown names, fewer versions than 1, or a folder that holds the originals or another data set; DataError where no
    clip is left.
    """
    names, folder = list(dict.fromkeys(VOCODERS if names is None else names)), Path(folder).expanduser()
    _refuse_unknown(names)
    if versions < 1:
        raise ValueError(f"versions must be at least 1, got {versions}")
    reals = manifest[manifest.label == 0]
    _refuse_overwriting(folder, reals.path)
    copy = partial(_copy_clip, folder=folder, names=names, versions=versions, seed=seed)
    made = list(map_in_threads(copy, reals.path.tolist(), "copy-synthesis"))
    _warn_of([result for result in made if isinstance(result, AudioError)], len(reals))
    rows = _rows(reals, made)
    write_atomically(folder / "manifest.csv", rows.to_csv(index=False).encode(errors="backslashreplace"))
    return read_table(folder)


def real_clips(root, folder=None) -> pd.DataFrame:
    """The training split's real clips of a data set, or all recordings in a folder that is none (speakers unknown).

    Columns path, split, label (0 = real), system, speaker. Raises DataError as `dfa_utils.datasets.layouts.read` does, and for a
    `folder` for copies that lies in `root`: the next call would take them for real.
    """
    root = Path(root).expanduser()
    if folder is not None and Path(folder).expanduser().resolve().is_relative_to(root.resolve()):
        raise DataError(f"{folder}: lies in {root}, where copies would be taken for real; name a folder outside it")
    known = read(root) if find_sets(root) or not root.exists() else pd.DataFrame()
    if len(known):
        return known[(known.split == "training") & (known.label == 0)].reset_index(drop=True)
    paths = [str(path) for path in find_audio(root)]
    return pd.DataFrame({"path": paths, "split": "training", "label": 0, "system": "", "speaker": ""})


def _scaled(samples: int, sample_rate: int) -> int:
    """How many samples last as long as `samples` at 16 kHz; even."""
    return 2 * round(samples * sample_rate / 32_000)


def _frame(sample_rate: int, generator: np.random.Generator) -> tuple[int, int]:
    """A drawn FFT size and hop, in samples."""
    size = _scaled(int(generator.choice((512, 800, 1024, 1024))), sample_rate)
    return size, size // int(generator.choice((4, 4, 5)))


def _stft(waveform: torch.Tensor, size: int, hop: int) -> torch.Tensor:
    """[T] -> complex [bins, frames], Hann window, frames centred on the hops."""
    window = torch.hann_window(size)
    return torch.stft(waveform, size, hop, window=window, pad_mode="constant", return_complex=True)


def _istft(spectrum: torch.Tensor, size: int, hop: int, length: int) -> torch.Tensor:
    return torch.istft(spectrum, size, hop, window=torch.hann_window(size), length=length)


def _find_phase(magnitude: torch.Tensor, size: int, hop: int, length: int, generator) -> torch.Tensor:
    """8, 20 or 40 rounds of fast Griffin-Lim: [bins, frames] -> [length].

    torchaudio's draws from the global generator.
    """
    angle = torch.from_numpy(generator.uniform(-math.pi, math.pi, magnitude.shape).astype(np.float32))
    spectrum, before = torch.polar(magnitude, angle), torch.zeros(())
    for _ in range(generator.choice((8, 20, 40))):
        rebuilt = _stft(_istft(spectrum, size, hop, length), size, hop)
        ahead = rebuilt - MOMENTUM * before
        spectrum, before = ahead * (magnitude / ahead.abs().clamp_min(1e-9)), rebuilt
    return _istft(spectrum, size, hop, length)


def _smear(magnitude: torch.Tensor, bands: int, top: float, sample_rate: int) -> torch.Tensor:
    """[bins, frames] through `bands` mel bands, which reach up to the share `top` of the band, and back; none below 0.

    The way back is the pseudo-inverse and 8 multiplicative steps (Lee and Seung, NIPS 2000): torchaudio's
    InverseMelScale solves by least squares alone, and cuts what falls below 0.
    """
    bank, inverse = _mel_bank(len(magnitude), bands, top, sample_rate)
    mel = bank @ magnitude  # [bands, frames]
    wanted, guess = bank.T @ mel, (inverse @ mel).clamp_min(FLOOR)
    for _ in range(8):
        guess = guess * (wanted / (bank.T @ (bank @ guess)).clamp_min(1e-8))
    return guess


def _gain(wanted: torch.Tensor, given: torch.Tensor, bands: int, sample_rate: int) -> torch.Tensor:
    """What lifts `given` to the mel envelope of `wanted`, up to 60 dB: all [bins, frames]."""
    bank, _ = _mel_bank(len(wanted), bands, 1.0, sample_rate)
    ratio = (bank @ wanted) / (bank @ given).clamp_min(FLOOR)  # [bands, frames]
    return (bank / bank.sum(dim=0).clamp_min(1e-9)).T @ ratio.clamp_max(1e3)


@lru_cache
def _mel_bank(bins: int, bands: int, top: float, sample_rate: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Slaney's mel filters [bands, bins] and their pseudo-inverse."""
    bank = melscale_fbanks(bins, 0.0, top * sample_rate / 2, bands, sample_rate, "slaney", "slaney").T
    return bank, torch.linalg.pinv(bank)


def _pyworld():
    try:
        import pyworld
    except ImportError as error:
        raise ValueError(PYWORLD) from error
    return pyworld


def _pitch(waveform: torch.Tensor, sample_rate: int) -> np.ndarray:
    """f0 [1 + T / hop] in Hz, every PITCH_HOP, 0 where unvoiced.

    The best peak of the autocorrelation over 50 ms, divided by the window's own (Boersma, IFA Proceedings 1993).
    """
    size, hop = _scaled(800, sample_rate), round(PITCH_HOP * sample_rate)
    shortest, longest = (round(sample_rate / hertz) for hertz in reversed(PITCH_RANGE))
    window = torch.hann_window(size)
    frames = pad(waveform, (size // 2, size // 2 + hop)).unfold(0, size, hop)[: 1 + len(waveform) // hop]
    frames = (frames - frames.mean(dim=1, keepdim=True)) * window  # [frames, size]
    both = torch.fft.rfft(torch.cat([frames, window[None]]), 2 * size).abs() ** 2
    both[:, math.ceil(PITCH_BAND * 2 * size / sample_rate) :] = 0
    lags = torch.fft.irfft(both)[:, : longest + 2]
    lags = lags[:-1] / (lags[:-1, :1] + FLOOR) / (lags[-1] / lags[-1, 0])  # [frames, lags]
    return _best_peak(lags, shortest, longest, sample_rate)


def _best_peak(lags: torch.Tensor, shortest: int, longest: int, sample_rate: int) -> np.ndarray:
    """f0 [frames] of autocorrelations [frames, lags]: their best local maximum, refined by a parabola."""
    left, middle, right = (lags[:, shortest + k : longest + k] for k in (-1, 0, 1))
    octaves = torch.log2(torch.arange(shortest, longest) / shortest)
    is_peak = (middle > left) & (middle >= right) & (middle > VOICED)
    score = torch.where(is_peak, middle - OCTAVE_COST * octaves, -1.0)
    value, place = score.max(dim=1, keepdim=True)
    left, middle, right = (x.gather(1, place) for x in (left, middle, right))
    shift = (left - right) / (2 * (left - 2 * middle + right)).clamp_max(-1e-9)
    hertz = sample_rate / (shortest + place + shift)
    return torch.where(value > 0, hertz, 0.0).squeeze(1).numpy()


def _excitation(waveform: torch.Tensor, sample_rate: int, generator: np.random.Generator) -> torch.Tensor:
    """Harmonics of unit power with noise 14 to 34 dB below them where [T] is voiced, else noise of unit power: [T].

    8, 30 or all harmonics up to 97.5 % of the band, in phase.
    """
    pitch, voiced = _pitch_of_samples(waveform, sample_rate)
    turn = np.pi * np.cumsum(pitch) / sample_rate  # half the phase of the first harmonic
    count = np.minimum(int(generator.choice((8, 30, 10_000))), np.floor(0.4875 * sample_rate / pitch))
    nowhere = np.abs(np.sin(turn)) < 1e-4
    ratio = np.sin((2 * count + 1) * turn) / np.where(nowhere, 1, np.sin(turn))  # Dirichlet's kernel
    harmonics = (np.where(nowhere, 2 * count + 1, ratio) - 1) / np.sqrt(2 * count)
    noise = generator.standard_normal(len(turn)) * np.where(voiced, generator.uniform(0.02, 0.2), 1)
    return torch.from_numpy((harmonics * voiced + noise).astype(np.float32))


def _pitch_of_samples(waveform: torch.Tensor, sample_rate: int) -> tuple[np.ndarray, np.ndarray]:
    """f0 in Hz, held over what is unvoiced, and whether it is voiced: [T] each."""
    pitch, time = _pitch(waveform, sample_rate), np.arange(len(waveform))
    times, known = round(PITCH_HOP * sample_rate) * np.arange(len(pitch)), pitch > 0
    if not known.any():
        return np.full(len(time), 100.0), np.zeros(len(time), dtype=bool)
    return np.interp(time, times[known], pitch[known]), np.interp(time, times, known) > 0.5


def _predict(lags: torch.Tensor, order: int) -> torch.Tensor:
    """Prediction filters [frames, 1 + order] of autocorrelations [frames, lags], by the normal equations."""
    lags = lags[:, : order + 1].clone()
    lags[:, 0] = lags[:, 0] * 1.0001 + 1e-9
    between = (torch.arange(order)[:, None] - torch.arange(order)).abs()
    weights = torch.linalg.solve(lags[:, between], lags[:, 1:])  # [frames, order]
    return torch.cat([torch.ones(len(lags), 1), -weights], dim=1)


def _upsample(low: torch.Tensor, factor: int, generator: np.random.Generator) -> torch.Tensor:
    """[T] -> [factor * T] in one of three ways that leave images of the band."""
    kind = generator.integers(3)
    if kind == 1:
        return low.repeat_interleave(factor)
    if kind == 2:
        return interpolate(low[None, None], scale_factor=factor, mode="linear")[0, 0]
    spread = torch.zeros(len(low) * factor)
    spread[::factor] = low * factor
    size = int(generator.choice((5, 9, 17)))
    taps = generator.standard_normal(size) * np.hanning(size + 2)[1:-1]
    return convolve(spread, torch.from_numpy((taps / np.linalg.norm(taps)).astype(np.float32)), "same")


def _refuse_unknown(names: list[str]) -> None:
    """ValueError for names that are none of VOCODERS, and for one that cannot run here."""
    unknown = sorted(set(names) - set(VOCODERS))
    if unknown or not names:
        raise ValueError(f"no vocoder called {', '.join(map(repr, unknown)) or '...'}; known: {', '.join(VOCODERS)}")
    if "world" in names:
        _pyworld()


def _refuse_overwriting(folder: Path, paths: Iterable[str]) -> None:
    home = f"{os.path.realpath(folder)}{os.sep}"
    if any(os.path.realpath(path).startswith(home) for path in paths):
        raise ValueError(f"{folder}: the originals lie in it; name another folder for the copies")
    table = folder / "manifest.csv"
    if table.exists() and list(pd.read_csv(table, nrows=0)) != COLUMNS:
        raise ValueError(f"{folder}: holds another data set; name another folder for the copies")


def _copy_clip(
    path: str, folder: Path, names: list[str], versions: int, seed: int
) -> list[tuple[str, str]] | AudioError:
    """Write what is missing of a clip: (file, vocoder) of the real one ("") and its copies; or why it is of no use."""
    try:
        clip = _digest(path)
        plan = _plan(clip, names, versions, seed)
        missing = [row for row in plan if not (folder / row[0]).exists()]
        real = _usable(path) if missing else None
    except AudioError as error:
        return error
    for file, name, version in missing:
        generator = np.random.default_rng((seed, clip, version))
        write_atomically(folder / file, _wav(_copy(real, name, generator) if name else real))
    return [(file, name) for file, name, _ in plan]


def _plan(clip: int, names: list[str], versions: int, seed: int) -> list[tuple[str, str, int]]:
    """(file, vocoder, version) of the real clip, whose vocoder is "", and of its copies."""
    order = np.random.default_rng((seed, clip)).permutation(names).tolist()
    used = [(order[version % len(names)], version) for version in range(versions)]
    fakes = [(f"training/fake/{clip:016x}-{name}-s{seed}v{version}.wav", name, version) for name, version in used]
    return [(f"training/real/{clip:016x}.wav", "", 0), *fakes]


def _digest(path: str) -> int:
    """64 bits that stand for the file's content."""
    try:
        return int(hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16], 16)
    except OSError as error:
        raise AudioError(f"{path}: no such file, or not readable ({error.strerror}); check the path") from error


def _usable(path: str) -> torch.Tensor:
    """The clip [T] within full scale; AudioError for one of which no copy can be made."""
    rate = Config().sample_rate
    waveform = load_audio(path, rate)
    if len(waveform) > LONGEST * rate:
        raise AudioError(f"{path}: longer than {LONGEST / 60:g} minutes; cut it into shorter clips")
    if is_silent(waveform):
        raise AudioError(f"{path}: silent; leave it out")
    return _limit_peak(waveform)


def _copy(real: torch.Tensor, name: str, generator: np.random.Generator) -> torch.Tensor:
    """A copy [T] with the mean and the RMS of `real` [T], as far as full scale allows."""
    copy = vocode(real, name, Config().sample_rate, generator)
    copy = (copy - copy.mean()) * (real.std(correction=0) / copy.std(correction=0).clamp_min(1e-9))
    return _limit_peak(copy + real.mean())


def _limit_peak(waveform: torch.Tensor) -> torch.Tensor:
    return waveform / waveform.abs().max().clamp_min(1)


def _wav(waveform: torch.Tensor) -> bytes:
    """[T] as a 16-bit wav file."""
    pcm = (waveform * 32_768).round().clamp(-32_768, 32_767).to(torch.int16)
    file = BytesIO()
    soundfile.write(file, pcm.numpy(), Config().sample_rate, format="WAV", subtype="PCM_16")
    return file.getvalue()


def _rows(reals: pd.DataFrame, made: list) -> pd.DataFrame:
    """The manifest of what was made, each file once; DataError where nothing was."""
    rows = [
        (file, "training", CLASSES[bool(name)], f"copy:{name}" if name else "", speaker, path)
        for path, speaker, files in zip(reals.path, reals.speaker, made, strict=True)
        if not isinstance(files, AudioError)
        for file, name in files
    ]
    if not rows:
        raise DataError(f"none of {len(made)} real clips can be used; copies are made of real recordings, so name some")
    return pd.DataFrame(rows, columns=COLUMNS).drop_duplicates("path")


def _warn_of(errors: list[AudioError], total: int) -> None:
    if errors:
        named = "; ".join(map(str, errors[:5])) + ("; ..." if len(errors) > 5 else "")
        warnings.warn(f"left out {len(errors)} of {total} clips: {named}", stacklevel=3)
