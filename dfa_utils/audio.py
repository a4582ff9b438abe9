"""From a file to samples: float32, mono, one sample rate; whole, in blocks, or in windows.

libsndfile (the soundfile package) reads wav, flac, ogg, mp3 and their kin. `torchaudio.load` starts an FFmpeg decoder
for each file, which takes many times as long for a short wav (notebook 02 measures it). It reads the rest: m4a, aac,
webm, mp4.
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
import torchaudio

SILENCE = 2 / 32768  # peak below which there is nothing to judge: the last bit of 16
LARGEST = 1e6  # 120 dB above full scale: a float file with more holds no sound
_UNKNOWN_LENGTH = 0x7FFFF000  # data sizes from here on are what writers into a pipe put, who do not know the length


class AudioError(ValueError):
    """A file that cannot be used; the message names it and the cure."""


def load_audio(path, sample_rate: int = 16_000) -> torch.Tensor:
    """Read one file as float32 mono [T] at `sample_rate` Hz, full scale = 1; channels are averaged.

    Raises AudioError for a file that is missing, empty, truncated, not audio, or holds NaN or infinite samples.
    """
    blocks = list(stream_audio(path, sample_rate, block_seconds=math.inf))
    return blocks[0] if len(blocks) == 1 else torch.cat(blocks)


def stream_audio(path, sample_rate: int = 16_000, block_seconds: float = 30.0) -> Iterator[torch.Tensor]:
    """Yield what `load_audio` returns in consecutive blocks [about block_seconds * sample_rate], in constant memory.

    Joined, the blocks equal `load_audio`'s result. Raises the same errors, when the bad part is reached.
    """
    path = Path(path)
    _refuse_missing(path)
    mono = (_mono(path, block) for block in _decode(path, block_seconds))
    empty = True
    for block in resample_blocks(mono, sample_rate):
        empty = False
        yield block
    if empty:
        raise AudioError(f"{path}: the file holds no samples; record or export it again")


def resample_blocks(blocks: Iterable[tuple[torch.Tensor, int]], sample_rate: int) -> Iterator[torch.Tensor]:
    """Resample consecutive blocks ([T], Hz) to `sample_rate` Hz as if they were one waveform.

    Each block is resampled together with its neighbours' edges, as far as torchaudio's sinc kernel reaches. The rates'
    ratio is taken in numbers up to 2,000, or the kernel would fill memory: exact for every usual rate, at most 3e-4 off
    for an odd one (44,101 Hz).
    """
    held, done, new, old = torch.empty(0), 0, 1, 1  # held[:done] was resampled before and is context now
    for block, rate in blocks:
        if rate == sample_rate:
            yield block
            continue
        new, old = Fraction(sample_rate, rate).limit_denominator(2000).as_integer_ratio()
        margin = old * math.ceil(16 * max(1, old / new) / old)  # samples of context, whole periods of the ratio
        held = torch.cat([held, block])
        ready = (len(held) - margin) // old * old
        if ready >= margin and ready > done:
            yield _resampler(old, new)(held)[done * new // old : ready * new // old]
            held, done = held[ready - margin :], margin
    if len(held) > done:
        yield _resampler(old, new)(held)[done * new // old :]


def windows(blocks: Iterable[torch.Tensor], size: int, hop: int) -> Iterator[tuple[int, torch.Tensor]]:
    """Cut consecutive blocks [T] into windows: (start in samples, window [size]), `hop` samples apart.

    Only what sounds is cut: the first window begins with the first sample that 16 bits tell from zero, the last one
    ends with the last, and a pause of digital silence as long as a window parts two sounds. A sound shorter than `size`
    is repeated to fill one window.
    """
    position, sound = 0, None
    for block in (part for whole in blocks for part in whole.split(size)):
        loud = (block.abs() >= SILENCE).nonzero().flatten()  # [N] of the block's samples
        if sound and position + (int(loud[0]) if len(loud) else len(block)) - sound.end >= size:
            yield from sound.rest()
            sound = None
        if len(loud):
            skipped = 0 if sound else int(loud[0])
            sound = sound or _Sound(size, hop, position + skipped)
            sound.held, sound.end = torch.cat([sound.held, block[skipped:]]), position + int(loud[-1]) + 1
            yield from sound.windows()
        elif sound:
            sound.held = torch.cat([sound.held, block])
        position += len(block)
    if sound:
        yield from sound.rest()


class _Sound:
    """What is between two pauses: held [T] from sample `begin` on, in which the last sound ends at sample `end`."""

    def __init__(self, size: int, hop: int, first: int):
        self.size, self.hop, self.first = size, hop, first
        self.held, self.begin, self.next, self.end = torch.empty(0), first, first, first

    def windows(self) -> Iterator[tuple[int, torch.Tensor]]:
        """The windows that end before `end` and were not cut yet; the samples before the last one are let go."""
        while self.next + self.size <= self.end:
            self.held, self.begin = self.held[self.next - self.begin :], self.next
            yield self.begin, self.held[: self.size]
            self.next += self.hop

    def rest(self) -> Iterator[tuple[int, torch.Tensor]]:
        """The last window, unless there is one that ends there; or the whole, repeated, if it is shorter."""
        held = self.held[: self.end - self.begin]
        if self.end - self.first < self.size:
            yield self.first, fit_length(held, self.size)
        elif self.begin + self.size < self.end:
            yield self.end - self.size, held[-self.size :]


def fit_length(waveform: torch.Tensor, size: int, start: int | None = None) -> torch.Tensor:
    """Cut [T] to [size] from sample `start` (None: from the middle), or repeat it where it is shorter."""
    if len(waveform) < size:
        return waveform.repeat(math.ceil(size / max(len(waveform), 1)))[:size]
    start = (len(waveform) - size) // 2 if start is None else start
    return waveform[start : start + size]


def has_ffmpeg() -> bool:
    """Whether torchcodec and an FFmpeg that it can use are installed, so that `torchaudio.load` works."""
    try:
        import torchcodec.decoders  # noqa: F401
    except (ImportError, OSError, RuntimeError):
        return False
    return True


def is_silent(waveform: torch.Tensor) -> torch.Tensor:
    """Whether [..., T] holds nothing but a constant, to the last bit of 16: [...] of bool."""
    mean = waveform.mean(dim=-1)
    return torch.maximum(waveform.amax(dim=-1) - mean, mean - waveform.amin(dim=-1)) < SILENCE


def _refuse_missing(path: Path) -> None:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise AudioError(f"{path}: no such file, or not readable ({error.strerror}); check the path") from error
    if path.is_dir():
        raise AudioError(f"{path}: a folder in which no audio file can be read; give a file, or another folder")
    if size == 0:
        raise AudioError(f"{path}: the file is empty (0 bytes); copy or record it again")


def _decode(path: Path, block_seconds: float) -> Iterator[tuple[np.ndarray, int]]:
    """Blocks [T, channels] at the file's own rate, with that rate."""
    try:
        file = soundfile.SoundFile(os.fsencode(path) if os.name == "posix" else path)  # bytes: any name
    except (soundfile.LibsndfileError, TypeError):  # TypeError: headerless .raw
        yield from _decode_with_ffmpeg(path, block_seconds)
        return
    with file:
        _refuse_truncated(path, file)
        frames = -1 if math.isinf(block_seconds) else int(block_seconds * file.samplerate)
        more = True
        while more:
            block = _read(path, file, frames)
            more = len(block) == frames
            if len(block):
                yield block, file.samplerate


def _read(path: Path, file: soundfile.SoundFile, frames: int):
    try:
        return file.read(frames, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise AudioError(f"{path}: the audio data are damaged or cut off ({error}); fetch the file again") from error


def _refuse_truncated(path: Path, file: soundfile.SoundFile) -> None:
    """libsndfile shortens a cut-off wav without a word, but its log tells."""
    sizes = re.search(r"^data : (\d+) \(should be (\d+)\)", file.extra_info, re.MULTILINE)
    promised, held = map(int, sizes.groups()) if sizes else (0, 0)
    if held < promised < _UNKNOWN_LENGTH:
        raise AudioError(
            f"{path}: truncated: its header promises {promised} bytes of audio, it holds {held}; fetch the file again"
        )


def _decode_with_ffmpeg(path: Path, block_seconds: float) -> Iterator[tuple[np.ndarray, int]]:
    _refuse_without_ffmpeg(path)
    try:
        if math.isinf(block_seconds):
            samples, rate = torchaudio.load(path)
            yield samples.T.numpy(), rate
        else:
            yield from _torchcodec_blocks(path, block_seconds)
    except (RuntimeError, ValueError) as error:
        raise AudioError(
            f"{path}: neither libsndfile nor FFmpeg finds audio in it; it is damaged or something else under an "
            "audio name: open it in a player, or convert it to wav"
        ) from error


def _torchcodec_blocks(path: Path, seconds: float) -> Iterator[tuple[np.ndarray, int]]:
    """In steps of `seconds`, the last one open-ended; a recording whose header tells no duration comes in one block."""
    from torchcodec.decoders import AudioDecoder

    decoder = AudioDecoder(path)
    start, end = 0.0, decoder.metadata.duration_seconds_from_header or 0.0
    while start is not None:
        stop = start + seconds if start + seconds < end else None
        block = decoder.get_samples_played_in_range(start, stop)
        yield block.data.T.numpy(), block.sample_rate
        start = stop


def _refuse_without_ffmpeg(path: Path) -> None:
    if not has_ffmpeg():
        raise AudioError(
            f"{path}: libsndfile cannot read it, and FFmpeg, which reads m4a, aac, webm and mp4, is not at hand "
            "(or torchcodec is missing). Install it: `apt-get install ffmpeg`, `conda install -c conda-forge ffmpeg` "
            "or `brew install ffmpeg`; or convert the file to wav. If it is no audio file at all, leave it out"
        )


def _mono(path: Path, decoded: tuple[np.ndarray, int]) -> tuple[torch.Tensor, int]:
    samples, rate = decoded
    with np.errstate(over="ignore", invalid="ignore"):
        mono = samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1)  # [T, channels] -> [T]
    if not np.abs(mono).max(initial=0) < LARGEST:  # so that NaN is refused too
        raise AudioError(f"{path}: holds samples that are NaN, infinite or absurd; export it again as 16-bit wav")
    return torch.from_numpy(np.ascontiguousarray(mono)), rate


@lru_cache
def _resampler(old: int, new: int) -> torchaudio.transforms.Resample:
    return torchaudio.transforms.Resample(old, new)
