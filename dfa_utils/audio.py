"""From a file to samples: float32, mono, one sample rate; whole, or in blocks.

libsndfile (the soundfile package) reads wav, flac, ogg, mp3 and their kin. torchcodec, which `torchaudio.load` uses,
starts an FFmpeg decoder for each file, which takes many times as long for a short wav (notebook 02 measures it). It
reads the rest: m4a, aac, webm, mp4.


MERGED: From one sample rate to another, block by block, in NumPy: what `torchaudio.transforms.Resample` computes.

Each output sample is a weighted sum of the input samples around it, by a sinc that a Hann window ends (torchaudio's
`sinc_interp_hann`, Smith, "Digital audio resampling", https://ccrma.stanford.edu/~jos/resample). torchaudio multiplies
with all its zeros too; here each output takes those weights alone that count. And an exported detector, which reads
files through this module, needs no torch.
"""

import math
import os
import re
from collections.abc import Iterable, Iterator
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import numpy as np
import soundfile
from numpy.lib.stride_tricks import sliding_window_view

BLOCK_SECONDS = 30.0  # s; what is decoded at once
LOWEST_RATE = 4_000  # Hz; no recording of speech has less, and a damaged header of 1 Hz would make days of it
HIGHEST_RATE = 768_000  # Hz; no recorder has more
LARGEST_BLOCK = 2**25  # samples of all channels that are decoded at once, whatever a header promises
LONGEST_HOURS = 24.0  # a few megabytes of a hostile file can promise months of silence
LARGEST = 1e6  # 120 dB above full scale: a float file with more holds no sound
CANCELLED = 0.01  # power of the channels' mean, relative to the loudest channel, below which they cancel each other
UNKNOWN_LENGTH = 0x7FFFF000  # data sizes from here on are what writers into a pipe put, who do not know the length


class AudioError(ValueError):
    """A file that cannot be used; the message names it and the cure.

    `kind` says in a word what is wrong: "missing", "folder", "permission", "empty", "truncated", "unreadable",
    "samples" (NaN or infinite), "rate", "long", "silent".
    """

    def __init__(self, message: str, kind: str = "unreadable"):
        super().__init__(message)
        self.kind = kind


def load_audio(path, sample_rate: int = 16_000) -> "torch.Tensor":  # noqa: F821 -- imported when needed
    """Read one file as float32 mono [T] at `sample_rate` Hz, full scale = 1.

    Channels are averaged; where they would cancel each other (one is the other upside down), the loudest is taken.
    Raises AudioError for a file that is missing, may not be read, is empty, truncated or not audio, has a sample rate
    below 4 or above 768 kHz, lasts more than 24 hours, or holds NaN or infinite samples.
    """
    import torch

    blocks = list(stream_audio(path, sample_rate))
    return torch.from_numpy(blocks[0] if len(blocks) == 1 else np.concatenate(blocks))


def stream_audio(path, sample_rate: int = 16_000) -> Iterator[np.ndarray]:
    """Yield what `load_audio` returns in consecutive blocks [about 30 * sample_rate], in constant memory.

    Raises the same errors, when the bad part is reached. Needs no torch.
    """
    path = Path(path)
    _refuse_missing(path)
    samples = 0
    for block in resample_blocks(_mono_blocks(path), sample_rate):
        samples += len(block)
        if samples > LONGEST_HOURS * 3600 * sample_rate:
            raise AudioError(f"{path}: holds more than {LONGEST_HOURS:g} hours of sound; cut it into parts", "long")
        yield block
    if not samples:
        raise AudioError(f"{path}: the file holds no samples; record or export it again", "empty")


def fit_length(waveform, size: int):
    """The middle [size] of a tensor or array [T]; what is shorter is repeated."""
    if len(waveform) < size:
        return waveform[np.arange(size) % len(waveform)]
    start = (len(waveform) - size) // 2
    return waveform[start : start + size]


def libsndfile_name(path) -> bytes | str:
    """A path as soundfile opens any: on POSIX a name is bytes, which need not be text."""
    return os.fsencode(path) if os.name == "posix" else os.fspath(path)


def has_ffmpeg() -> bool:
    """Whether torchcodec and an FFmpeg that it can use are installed, so that `torchaudio.load` works."""
    try:
        import torchcodec.decoders  # noqa: F401
    except (ImportError, OSError, RuntimeError):
        return False
    return True


def _refuse_missing(path: Path) -> None:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise AudioError(f"{path}: cannot be opened ({error.strerror}); check the path", "missing") from error
    if path.is_dir():
        raise AudioError(
            f"{path}: a folder in which no audio file can be read; give a file, or another folder", "folder"
        )
    if not os.access(path, os.R_OK):
        raise AudioError(f"{path}: may not be read; give yourself the permission (chmod u+r), or copy it", "permission")
    if size == 0:
        raise AudioError(f"{path}: the file is empty (0 bytes); copy or record it again", "empty")


def _mono_blocks(path: Path) -> Iterator[tuple[np.ndarray, int]]:
    """The file's samples mixed to one channel, ([T], Hz) a block."""
    for samples, rate in _decode(path):
        if not LOWEST_RATE <= rate <= HIGHEST_RATE:
            raise AudioError(
                f"{path}: its header says {rate} Hz, but recordings of speech have {LOWEST_RATE} to {HIGHEST_RATE} Hz; "
                "the header is damaged, or this is something else: export it again",
                "rate",
            )
        mono = _mix(samples)
        if not np.abs(mono).max(initial=0) < LARGEST:  # so that NaN is refused too
            raise AudioError(
                f"{path}: holds samples that are NaN, infinite or absurd; export it again as 16-bit wav", "samples"
            )
        yield np.ascontiguousarray(mono), rate


@np.errstate(over="ignore", invalid="ignore")
def _mix(samples: np.ndarray) -> np.ndarray:
    """[T, channels] -> [T]: the channels' mean, or the loudest of them where the mean has hardly any power left."""
    if samples.shape[1] == 1:
        return samples[:, 0]
    mean, power = samples.mean(axis=1), np.square(samples).mean(axis=0)
    return samples[:, power.argmax()] if np.square(mean).mean() < CANCELLED * power.max() else mean


def _decode(path: Path) -> Iterator[tuple[np.ndarray, int]]:
    """Blocks [T, channels] of about BLOCK_SECONDS and their sample rate in Hz."""
    try:
        file = soundfile.SoundFile(libsndfile_name(path))
    except (soundfile.LibsndfileError, TypeError):  # TypeError: headerless .raw
        yield from _decode_with_ffmpeg(path)
        return
    with file:
        _refuse_truncated(path, file)
        frames = max(1, min(int(BLOCK_SECONDS * file.samplerate), LARGEST_BLOCK // file.channels))
        more = True
        while more:
            block = _read(path, file, frames)
            more = len(block) == frames
            if len(block):
                yield block, file.samplerate


def _read(path: Path, file: soundfile.SoundFile, frames: int) -> np.ndarray:
    try:
        return file.read(frames, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise AudioError(f"{path}: the audio data are damaged or cut off ({error}); fetch the file again") from error


def _refuse_truncated(path: Path, file: soundfile.SoundFile) -> None:
    """libsndfile shortens a cut-off wav without a word, but its log tells."""
    sizes = re.search(r"^data : (\d+) \(should be (\d+)\)", file.extra_info, re.MULTILINE)
    promised, held = map(int, sizes.groups()) if sizes else (0, 0)
    if held < promised < UNKNOWN_LENGTH:
        raise AudioError(
            f"{path}: truncated: its header promises {promised} bytes of audio, it holds {held}; fetch the file again",
            "truncated",
        )


def _decode_with_ffmpeg(path: Path) -> Iterator[tuple[np.ndarray, int]]:
    if not has_ffmpeg():
        raise AudioError(
            f"{path}: libsndfile cannot read it, and FFmpeg, which reads m4a, aac, webm and mp4, is not at hand "
            "(or torchcodec is missing). Install it: `apt-get install ffmpeg`, `conda install -c conda-forge ffmpeg` "
            "or `brew install ffmpeg`; or convert the file to wav. If it is no audio file at all, leave it out"
        )
    try:
        yield from _torchcodec_blocks(path)
    except (RuntimeError, ValueError) as error:
        raise AudioError(
            f"{path}: neither libsndfile nor FFmpeg finds audio in it; it is damaged, or no audio file: "
            "open it in a player, or convert it to wav"
        ) from error


def _torchcodec_blocks(path: Path) -> Iterator[tuple[np.ndarray, int]]:
    """The last block is open-ended; a recording whose header tells no duration comes in one block."""
    from torchcodec.decoders import AudioDecoder

    decoder = AudioDecoder(path)
    start, end = 0.0, decoder.metadata.duration_seconds_from_header or 0.0
    while start is not None:
        stop = start + BLOCK_SECONDS if start + BLOCK_SECONDS < end else None
        block = decoder.get_samples_played_in_range(start, stop)
        yield block.data.T.numpy(), block.sample_rate
        start = stop


ZERO_CROSSINGS = 6  # of the sinc on each side
ROLL_OFF = 0.99  # of the lower Nyquist frequency: where the low-pass lies
LARGEST_RATIO = 2_000  # the weights of finer ratios would fill memory


def resample_blocks(blocks: Iterable[tuple[np.ndarray, int]], sample_rate: int) -> Iterator[np.ndarray]:
    """Resample consecutive blocks ([T] float32, Hz) to `sample_rate` Hz as if they were one waveform.

    Each block is resampled together with its neighbours' edges, as far as the weights reach. The rates' ratio is taken
    in numbers up to LARGEST_RATIO: exact for every usual rate, at most 3e-4 off for an odd one (44,101 Hz).
    """
    held, done, new, old = np.empty(0, np.float32), 0, 1, 1  # held[:done] was resampled before and is context now
    for block, rate in blocks:
        if rate == sample_rate:
            yield block
            continue
        new, old = Fraction(sample_rate, rate).limit_denominator(LARGEST_RATIO).as_integer_ratio()
        margin = old * math.ceil(16 * max(1, old / new) / old)  # samples of context, whole periods of the ratio
        held = np.concatenate([held, block])
        ready = (len(held) - margin) // old * old
        if ready >= margin and ready > done:
            yield resample(held, old, new)[done * new // old : ready * new // old]
            held, done = held[ready - margin :], margin
    if len(held) > done:
        yield resample(held, old, new)[done * new // old :]


def resample(samples: np.ndarray, old: int, new: int) -> np.ndarray:
    """[T] float32 at a rate of `old` as [ceil(T * new / old)] at a rate of `new`; the two have no common divisor."""
    weights, starts, reach = _weights(old, new)
    periods = -(-len(samples) // old)
    padded = np.pad(samples, (reach, reach + old + weights.shape[1]))
    spans = sliding_window_view(padded, weights.shape[1])  # [T', taps]
    out = np.empty((periods, new), np.float32)
    for phase, start in enumerate(starts):
        out[:, phase] = spans[start::old][:periods] @ weights[phase]
    return out.reshape(-1)[: -(-len(samples) * new // old)]


@lru_cache
def _weights(old: int, new: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Weights [new, taps] of a period's outputs, the first input sample of each [new], and how far back they reach."""
    cutoff = min(old, new) * ROLL_OFF
    reach = math.ceil(ZERO_CROSSINGS * old / cutoff)
    phases = np.arange(new)
    starts = phases * old // new
    inputs = starts[:, None] - reach + np.arange(2 * reach + 2)  # [new, taps], in input samples
    times = np.clip((inputs / old - phases[:, None] / new) * cutoff, -ZERO_CROSSINGS, ZERO_CROSSINGS)
    window = np.cos(times * np.pi / ZERO_CROSSINGS / 2) ** 2
    return (np.sinc(times) * window * cutoff / old).astype(np.float32), starts, reach
