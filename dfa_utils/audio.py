"""From a file to samples: float32, mono, at one sample rate, as a whole or in blocks.

libsndfile (the soundfile package) reads formats that tell their length: wav, aiff, flac, ogg. Everything else (mp3,
m4a, aac, webm, mp4, wma, ...) goes through PyAV, which contains FFmpeg and reads until the file ends. libsndfile would
guess the length of an mp3 and stop there. A file of several recordings that were joined is read part by part.
"""

import io
import math
import os
import re
import warnings
from collections.abc import Iterable, Iterator
from fractions import Fraction
from functools import lru_cache
from itertools import groupby, pairwise
from mmap import ACCESS_READ, mmap
from operator import itemgetter
from pathlib import Path

import av
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
UNKNOWN_SIZE = 0x7FFFF000  # a data size from here on means that the writer did not know it (it wrote to a pipe)
TOLERATED = 0.1  # s; a header may promise this much more than the file holds
OGG = re.compile(rb"OggS\0\x02")  # the first page of a stream
MP3 = re.compile(rb"\xff[\xe2-\xff]..\0{9,32}(?:Xing|Info)", re.DOTALL)  # the frame with the length
OTHERS = rb"fLaC[\0\x80]\0\0\x22 RIFF....WAVE RF64....WAVE FORM....AIF[FC] caff\0\x01\0\0 \.snd\0\0\0. FLV\x01.\0\0\0"
OTHERS += rb" TTA1\x01\0 \0\0\0.ftyp \x30\x26\xb2\x75\x8e\x66\xcf\x11"  # mp4 and its kin, and wma
BEGINNINGS = [OGG, *(re.compile(pattern, re.DOTALL) for pattern in OTHERS.split(b" "))]  # of a recording in a file
SIZES = re.compile(r"^ *(?:data|Data Size|SSND|BODY|riff|Riff size) *: (\d+) \(should be (\d+)\)", re.MULTILINE)
REST = re.compile(r"^Length : (\d+)$(?s:.*)Unknown chunk marker \((?!0\))\w+\) at position (\d+)\. Exit", re.MULTILINE)
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


def load_audio(source, sample_rate: int = 16_000) -> torch.Tensor:
    """Read one recording as float32 mono [T] at `sample_rate` Hz, full scale = 1.

    `source` is a path or a binary file object. Channels are averaged; where they would cancel each other (one is the
    other inverted), the loudest is taken. Raises AudioError for a file that is missing, may not be read, is empty,
    truncated or not audio, has a sample rate below 4 or above 768 kHz, lasts more than 24 hours, or holds NaN or
    infinite samples.
    """
    return torch.from_numpy(np.concatenate([*stream_audio(source, sample_rate)]))


def stream_audio(source, sample_rate: int = 16_000) -> Iterator[np.ndarray]:
    """Yield the samples of `load_audio` in consecutive blocks [about 30 * sample_rate], in constant memory.

    Raises the same errors, but only when it reaches the bad part.
    """
    name, samples = getattr(source, "name", "file") if hasattr(source, "read") else source, 0
    for block in resample_blocks(mono_blocks(name, _decode(name, source)), sample_rate):
        samples += len(block)
        if samples > LONGEST_HOURS * 3600 * sample_rate:
            raise AudioError(f"{name}: holds more than {LONGEST_HOURS:g} hours of sound; cut it into parts", "long")
        yield block
    if not samples:
        raise AudioError(f"{name}: the file holds no samples; record or export it again", "empty")


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
    """Resample consecutive blocks ([T] float32, Hz) to `sample_rate` Hz; blocks of one rate count as one waveform.

    Each block is resampled together with the edges of its neighbours. The ratio of the rates is a fraction of numbers
    up to LARGEST_RATIO: exact for every usual rate, at most 3e-4 off for an odd one (44,101 Hz).
    """
    for rate, group in groupby(blocks, key=itemgetter(1)):
        samples = (block for block, _ in group)
        yield from samples if rate == sample_rate else _resampled(samples, rate, sample_rate)


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


def _resampled(blocks: Iterable[np.ndarray], rate: int, sample_rate: int) -> Iterator[np.ndarray]:
    new, old = Fraction(sample_rate, rate).limit_denominator(LARGEST_RATIO).as_integer_ratio()
    margin = old * math.ceil(CONTEXT * max(1, old / new) / old)  # samples of context, in whole periods of the ratio
    held, done = np.empty(0, np.float32), 0  # held[:done] is context: it was resampled before
    for block in blocks:
        held = np.concatenate([held, block])
        ready = (len(held) - margin) // old * old
        if ready >= margin and ready > done:
            yield resample(held, old, new)[done * new // old : ready * new // old]
            held, done = held[ready - margin :], margin
    if len(held) > done:
        yield resample(held, old, new)[done * new // old :]


def _decode(name, source) -> Iterator[tuple[np.ndarray, int]]:
    """Blocks [T, channels] of about BLOCK_SECONDS, each with its sample rate in Hz: all that the source holds."""
    content = source.read() if hasattr(source, "read") else _mapped(Path(source))
    if not len(content):
        raise AudioError(f"{name}: the file is empty (0 bytes); copy or record it again", "empty")
    parts = split_recordings(content)
    kinds = BEGINNINGS[2 * (content[:4] in (b"OggS", b"\x1aE\xdf\xa3")) :]  # Ogg and Matroska may hold flac
    foreign = [kind for kind in kinds if not kind.match(content) and kind.search(content, 1)]
    _warn(name, foreign and content[:3] != b"ID3", "another kind of recording begins in it, and is left out")
    for start, end in parts:
        opened = os.fspath(source) if isinstance(content, mmap) and len(parts) == 1 else io.BytesIO(content[start:end])
        streams = OGG.findall(content, start, end) if content[:4] == b"OggS" else []
        page = content.rfind(b"OggS", start, end) if streams else len(content)
        _warn(name, b"" < content[page + 5 : page + 6] < b"\4", "it may be cut off: no page says that it is the last")
        is_mp3 = re.match(rb"ID3|\xff", content[start : start + 3]) and content.find(b"RIFF", start, end) < 0
        # libmpg123 would print its notes, and libsndfile takes one stream of an ogg without telling of the others
        yield from (_decode_with_ffmpeg if is_mp3 or len(streams) > 1 else _decode_part)(name, opened)


def split_recordings(content: bytes | mmap) -> list[tuple[int, int]]:
    """Where the recordings in a file begin and end, in bytes; more than one if several files were joined to one."""
    kind = MP3 if re.match(rb"ID3|\xff", content[:3]) else next((one for one in BEGINNINGS if one.match(content)), None)
    size = int.from_bytes(content[4:8], "little")  # of a RIFF; 0, or a very large number, where nobody knew it
    if kind is None or (content[:4] == b"RIFF" and not 0 < size < min(len(content) - 8, UNKNOWN_SIZE)):
        return [(0, len(content))]
    begin = [found.start() for found in kind.finditer(content)]
    if kind is OGG:  # a recording of several streams begins with a page for each
        begin = [after for before, after in pairwise(begin) if content.find(b"OggS", before + 1) < after]
    else:
        begin = begin[1:]
    return list(pairwise([0, *begin, len(content)]))


def _mapped(path: Path) -> mmap | bytes:
    """The bytes of a file, mapped into memory unless there are none."""
    try:
        size = path.stat().st_size
    except OSError as error:
        raise AudioError(f"{path}: cannot be opened ({error.strerror}); check the path", "missing") from error
    if path.is_dir():
        raise AudioError(f"{path}: a folder, not a recording; name a file, or a folder of audio files", "folder")
    if not path.is_file():  # a pipe or a device, which may never end
        raise AudioError(f"{path}: not a regular file; save it first, or pipe it into `predict -`", "empty")
    if not os.access(path, os.R_OK):
        raise AudioError(f"{path}: you may not read it; change its permissions (chmod u+r) or copy it", "permission")
    with open(path, "rb") as file:
        return mmap(file.fileno(), 0, access=ACCESS_READ) if size else b""


def _decode_part(name, source) -> Iterator[tuple[np.ndarray, int]]:
    try:
        file = soundfile.SoundFile(source if isinstance(source, io.BytesIO) else libsndfile_name(source))
        if knows_its_end := file.format != "MP3" and 0 < file.frames < 2**62:
            file.seek(file.frames - 1)  # fails in a flac that was cut out of another
            file.seek(0)
    except (soundfile.LibsndfileError, TypeError):  # TypeError: a .raw file has no header
        knows_its_end = False
    if not knows_its_end:
        yield from _decode_with_ffmpeg(name, source)
        return
    with file:
        _compare_sizes(name, file)
        frames = max(1, min(int(BLOCK_SECONDS * file.samplerate), LARGEST_BLOCK // file.channels))
        missing = file.frames
        try:
            full = True
            while full and len(block := file.read(frames, dtype="float32", always_2d=True)):
                yield block, file.samplerate
                missing -= len(block)
                full = len(block) == frames  # reading on after damage would give whatever was in memory
        except soundfile.LibsndfileError as error:
            raise AudioError(f"{name}: the audio data are damaged or cut off ({error}); fetch it again") from error
        if missing > TOLERATED * file.samplerate:  # in damaged pages of ogg, which libsndfile passes over
            raise AudioError(f"{name}: damaged: {missing / file.samplerate:.1f} s of it cannot be read; fetch it again")


def _compare_sizes(name, file: soundfile.SoundFile) -> None:
    """libsndfile reads what a header promises, or what is left of it, without an error; its log tells of both."""
    found = (pattern.search(file.extra_info) for pattern in (SIZES, REST))
    (promised, held), (end, used) = (map(int, each.groups()) if each else (0, 0) for each in found)
    tolerated = TOLERATED * file.samplerate / file.frames  # share of the sound
    if held * (1 + tolerated) < promised < UNKNOWN_SIZE:
        what = f"truncated: its header promises {promised} bytes of audio, it holds {held}"
        raise AudioError(f"{name}: {what}; fetch the file again", "truncated")
    _warn(name, end > used * (1 + tolerated), f"{end - used} bytes after the sound its header tells of are left out")


def _decode_with_ffmpeg(name, source) -> Iterator[tuple[np.ndarray, int]]:
    """Read until the file ends; a packet that cannot be decoded between others is an error, a tag is not."""
    if isinstance(source, io.BytesIO):
        source.seek(0)  # libsndfile has read some of it
    try:
        with av.open(source, metadata_errors="ignore") as container:
            if not container.streams.audio:
                raise AudioError(f"{name}: holds no sound; leave it out")
            yield from _joined(_frames(name, container))
    except (av.FFmpegError, ValueError, IndexError) as error:
        if isinstance(error, AudioError):
            raise
        reason = getattr(error, "strerror", None) or error
        what = f"neither libsndfile nor FFmpeg can read it ({reason}); it is damaged, or not an audio file"
        raise AudioError(f"{name}: {what}: open it in a player, or convert it to wav") from error


def _frames(name, container: "av.container.InputContainer") -> Iterator[tuple[np.ndarray, int]]:
    """Frames [T, channels] of the first audio stream; AudioError where something is damaged or cut off.

    A warning tells of other audio streams, and of gaps between time stamps: what is missing may not have been recorded.
    """
    (stream, *others), damage, bad, end, lost = container.streams.audio, None, 0, 0.0, 0.0
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except av.InvalidDataError as error:
            if bytes(packet)[:3] not in (b"ID3", b"TAG"):
                damage, bad = error, bad + packet.size
            continue
        if frames and damage:
            raise AudioError(f"{name}: damaged at {end:.1f} s ({damage.strerror}); fetch or export it again")
        for frame in frames:
            if frame.layout.nb_channels > 7:  # PyAV 18 counts eight planes wrong, and reads beyond them
                [frame] = av.AudioResampler("flt").resample(frame)
            samples = frame.to_ndarray()
            samples = samples.T if frame.format.is_planar else samples.reshape(-1, frame.layout.nb_channels)
            begin = frame.time or end
            lost += begin - end if end and begin > end + TOLERATED else 0.0
            end = begin + frame.samples / frame.sample_rate
            yield in_float(samples), frame.sample_rate
    if damage and not end:
        raise AudioError(f"{name}: damaged: no part of it can be decoded ({damage.strerror}); fetch or export it again")
    promised = float(stream.duration * stream.time_base) if stream.duration else (container.duration or 0) / 1e6
    kind, is_short = container.format.name.split(",")[0], end < promised - 5 * TOLERATED
    if kind in ("mov", "flac") and is_short and stream.duration:
        raise AudioError(f"{name}: cut off: {end:.1f} of {promised:.1f} s are there; fetch it again", "truncated")
    if kind in ("matroska", "flv", "tta", "avi") and is_short and len(container.streams) == 1:
        lost += promised - end
    _warn(name, lost > 0, f"{lost:.1f} s in it are lost or were not recorded")
    _warn(name, bad > 1_000, f"{bad} bytes at its end cannot be decoded")  # a tag may be shorter
    _warn(name, bool(others), f"it has {1 + len(others)} sound tracks, and the first is judged")


def _warn(name, is_true: bool, note: str) -> None:
    """Say what is left out of a recording, if that is true."""
    if is_true:
        warnings.warn(f"{name}: {note}", stacklevel=2)


@np.errstate(over="ignore")
def in_float(samples: np.ndarray) -> np.ndarray:
    """Samples of any type as float32 of full scale 1."""
    if samples.dtype.kind == "f":
        return samples.astype(np.float32)
    half = 2.0 ** (8 * samples.dtype.itemsize - 1)  # full scale, and the middle of types without a sign
    return ((samples.astype(np.float64) - half * (samples.dtype.kind == "u")) / half).astype(np.float32)


def _joined(frames: Iterable[tuple[np.ndarray, int]]) -> Iterator[tuple[np.ndarray, int]]:
    """Frames put together to blocks of about BLOCK_SECONDS, of one sample rate and number of channels each."""
    for (rate, channels), group in groupby(frames, key=lambda frame: (frame[1], frame[0].shape[1])):
        held, count, most = [], 0, min(BLOCK_SECONDS * rate, LARGEST_BLOCK / channels)
        for samples, _ in group:
            held.append(samples)
            count += len(samples)
            if count >= most:
                yield np.concatenate(held), rate
                held, count = [], 0
        if held:
            yield np.concatenate(held), rate


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
