"""From a file to samples: float32, mono, at one sample rate, as a whole or in blocks.

libsndfile (the soundfile package) reads wav, flac, ogg, mp3 and similar formats. The rest (m4a, aac, webm, mp4) goes
through torchcodec, which `torchaudio.load` uses too. It starts an FFmpeg decoder for each file, which takes many times
as long for a short wav (notebook 02 measures it).
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
import torch
from torchaudio.transforms import Resample

BLOCK_SECONDS = 30.0  # s; decoded at once
LOWEST_RATE = 4_000  # Hz; no recording of speech has less, and a damaged header of 1 Hz would turn a clip into days
HIGHEST_RATE = 768_000  # Hz; no recorder has more
LARGEST_BLOCK = 2**25  # samples of all channels, decoded at once, whatever the header promises
LONGEST_HOURS = 24.0  # a hostile file of a few megabytes can promise months of silence
LOUDEST_SAMPLE = 1e6  # 120 dB above full scale; a float file with more holds no sound
CANCELLED = 0.01  # power of the channels' mean, relative to the loudest channel, below which they cancel each other
UNKNOWN_LENGTH = 0x7FFFF000  # a data size from here on means that the writer did not know it (it wrote to a pipe)
LARGEST_RATIO = 2_000  # of sample rates, as a fraction; the weights of a finer one would fill memory
CONTEXT = 16  # samples, at the lower rate, by which resampled blocks overlap; the weights reach 7


class AudioError(ValueError):
    """A file that cannot be used; the message names it and the cure.

    `kind` says what is wrong in one word: "missing", "folder", "permission", "empty", "truncated", "unreadable",
    "samples" (NaN or infinite), "rate", "long", "silent".
    """

    def __init__(self, message: str, kind: str = "unreadable"):
        super().__init__(message)
        self.kind = kind


def load_audio(path, sample_rate: int = 16_000) -> torch.Tensor:
    """Read one file as float32 mono [T] at `sample_rate` Hz, full scale = 1.

    Channels are averaged; where they would cancel each other (one is the other inverted), the loudest is taken.
    Raises AudioError for a file that is missing, may not be read, is empty, truncated or not audio, has a sample rate
    below 4 or above 768 kHz, lasts more than 24 hours, or holds NaN or infinite samples.
    """
    blocks = list(stream_audio(path, sample_rate))
    return torch.from_numpy(blocks[0] if len(blocks) == 1 else np.concatenate(blocks))


def stream_audio(path, sample_rate: int = 16_000) -> Iterator[np.ndarray]:
    """Yield the samples of `load_audio` in consecutive blocks [about 30 * sample_rate], in constant memory.

    Raises the same errors, but only when it reaches the bad part.
    """
    path = Path(path)
    _refuse_missing(path)
    samples = 0
    for block in resample_blocks(mono_blocks(path, _decode(path)), sample_rate):
        samples += len(block)
        if samples > LONGEST_HOURS * 3600 * sample_rate:
            raise AudioError(f"{path}: holds more than {LONGEST_HOURS:g} hours of sound; cut it into parts", "long")
        yield block
    if not samples:
        raise AudioError(f"{path}: the file holds no samples; record or export it again", "empty")


def mono_blocks(name, blocks: Iterable[tuple[np.ndarray, int]]) -> Iterator[tuple[np.ndarray, int]]:
    """Blocks ([T, channels] float, Hz) mixed to one channel ([T] float32, Hz).

    Raises AudioError, which begins with `name`, for a sample rate or samples that no recording of speech has.
    """
    for samples, rate in blocks:
        if not LOWEST_RATE <= rate <= HIGHEST_RATE or rate != int(rate):
            wanted = f"a whole number from {LOWEST_RATE} to {HIGHEST_RATE} Hz"
            raise AudioError(f"{name}: its sample rate must be {wanted}, got {rate} Hz; export it again", "rate")
        mono = _mix(samples)
        if not np.abs(mono).max(initial=0) < LOUDEST_SAMPLE:  # so that NaN is refused too
            raise AudioError(f"{name}: holds NaN, infinite or absurd samples; export it again as 16-bit wav", "samples")
        yield np.ascontiguousarray(mono, np.float32), int(rate)


def resample_blocks(blocks: Iterable[tuple[np.ndarray, int]], sample_rate: int) -> Iterator[np.ndarray]:
    """Resample consecutive blocks ([T] float32, Hz) to `sample_rate` Hz as if they were one waveform.

    Each block is resampled together with the edges of its neighbours. The ratio of the rates is a fraction of numbers
    up to LARGEST_RATIO: exact for every usual rate, at most 3e-4 off for an odd one (44,101 Hz).
    """
    held, done, new, old = np.empty(0, np.float32), 0, 1, 1  # held[:done] is context: it was resampled before
    for block, rate in blocks:
        if rate == sample_rate:
            yield block
            continue
        new, old = Fraction(sample_rate, rate).limit_denominator(LARGEST_RATIO).as_integer_ratio()
        margin = old * math.ceil(CONTEXT * max(1, old / new) / old)  # samples of context, in whole periods of the ratio
        held = np.concatenate([held, block])
        ready = (len(held) - margin) // old * old
        if ready >= margin and ready > done:
            yield resample(held, old, new)[done * new // old : ready * new // old]
            held, done = held[ready - margin :], margin
    if len(held) > done:
        yield resample(held, old, new)[done * new // old :]


def resample(samples: np.ndarray, old: int, new: int) -> np.ndarray:
    """Resample [T] float32 from a rate of `old` to a rate of `new`: [ceil(T * new / old)]."""
    return _resampler(old, new)(torch.from_numpy(samples)).numpy()


def fit_length(waveform, size: int):
    """The middle [size] of a tensor or array [T]; a shorter one is repeated."""
    if len(waveform) < size:
        return waveform[np.arange(size) % len(waveform)]
    start = (len(waveform) - size) // 2
    return waveform[start : start + size]


def libsndfile_name(path) -> bytes | str:
    """A path in the form in which soundfile opens any file: on POSIX a name is bytes, which need not be text."""
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
        raise AudioError(f"{path}: a folder without readable audio files; give a file or another folder", "folder")
    if not os.access(path, os.R_OK):
        raise AudioError(f"{path}: you may not read it; change its permissions (chmod u+r) or copy it", "permission")
    if size == 0:
        raise AudioError(f"{path}: the file is empty (0 bytes); copy or record it again", "empty")


def _decode(path: Path) -> Iterator[tuple[np.ndarray, int]]:
    """Blocks [T, channels] of about BLOCK_SECONDS, each with its sample rate in Hz."""
    try:
        file = soundfile.SoundFile(libsndfile_name(path))
    except (soundfile.LibsndfileError, TypeError):  # TypeError: a .raw file has no header
        yield from _decode_with_ffmpeg(path)
        return
    with file:
        _refuse_truncated(path, file)
        frames = max(1, min(int(BLOCK_SECONDS * file.samplerate), LARGEST_BLOCK // file.channels))
        try:
            while len(block := file.read(frames, dtype="float32", always_2d=True)):
                yield block, file.samplerate
        except soundfile.LibsndfileError as error:
            raise AudioError(f"{path}: the audio data are damaged or cut off ({error}); fetch it again") from error


def _refuse_truncated(path: Path, file: soundfile.SoundFile) -> None:
    """libsndfile reads a truncated wav without an error, but its log tells."""
    sizes = re.search(r"^data : (\d+) \(should be (\d+)\)", file.extra_info, re.MULTILINE)
    promised, held = map(int, sizes.groups()) if sizes else (0, 0)
    if held < promised < UNKNOWN_LENGTH:
        what = f"truncated: its header promises {promised} bytes of audio, it holds {held}"
        raise AudioError(f"{path}: {what}; fetch the file again", "truncated")


def _decode_with_ffmpeg(path: Path) -> Iterator[tuple[np.ndarray, int]]:
    """The last block is open-ended; a recording without a duration in its header comes in one block."""
    if not has_ffmpeg():
        what = "libsndfile cannot read it, and FFmpeg (with torchcodec), for m4a, aac, webm and mp4, is not at hand"
        cure = "`apt-get install ffmpeg`, `conda install -c conda-forge ffmpeg` or `brew install ffmpeg`"
        raise AudioError(f"{path}: {what}. Install it: {cure}; or convert the file to wav, or leave it out")
    from torchcodec.decoders import AudioDecoder

    try:
        decoder = AudioDecoder(path)
        start, end = 0.0, decoder.metadata.duration_seconds_from_header or 0.0
        while start is not None:
            stop = start + BLOCK_SECONDS if start + BLOCK_SECONDS < end else None
            block = decoder.get_samples_played_in_range(start, stop)
            yield block.data.T.numpy(), block.sample_rate
            start = stop
    except (RuntimeError, ValueError) as error:
        what = "neither libsndfile nor FFmpeg finds audio in it; it is damaged, or not an audio file"
        raise AudioError(f"{path}: {what}: open it in a player, or convert it to wav") from error


@np.errstate(over="ignore", invalid="ignore")
def _mix(samples: np.ndarray) -> np.ndarray:
    """[T, channels] -> [T]: the mean of the channels, or the loudest of them where they cancel each other."""
    if samples.shape[1] == 1:
        return samples[:, 0]
    mean, power = samples.mean(axis=1), np.square(samples).mean(axis=0)
    return samples[:, power.argmax()] if np.square(mean).mean() < CANCELLED * power.max() else mean


@lru_cache
def _resampler(old: int, new: int) -> Resample:
    return Resample(old, new, dtype=torch.float64).float()  # weights computed in double precision
