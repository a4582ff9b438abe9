"""Judge recordings with an exported detector, without torch: python without_torch.py DETECTOR.onnx FILE [FILE ...]

Copy this file to wherever you need it: `pip install numpy soundfile onnxruntime` is all that it requires.
`python -m dfa_utils export` writes DETECTOR.onnx. Each FILE gets one line, with its verdict and score or with the
reason why there is none. The exit status is 1 if a file could not be judged. In Python:
`Detector("detector.onnx").predict("voice.wav")`.

The scores agree with those of `dfa_utils.Detector` to within 0.0001, for recordings of any length: both cut them into
windows in the same way. But this file reads a recording as a whole, so an hour of it can take 2 GB of memory.
"""

import io
import json
import math
import re
import sys
from collections import namedtuple
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnxruntime
import soundfile
from numpy.lib.stride_tricks import sliding_window_view

FORMAT = 2  # of the metadata; an exported detector of another format is refused
LONGEST_WINDOW = 2**21  # samples; longer windows would exhaust memory
LONGEST_SECONDS, MOST_SAMPLES = 7_200, 2**28  # of a recording, which is read as a whole; at its own sample rate
PIECE_SECONDS = 120  # a longer recording is searched for sounds piece by piece
LONGEST_TAG = 1_000  # bytes after the last frame of MP3 that need not be sound
BEGINNINGS = {"OGG": rb"OggS\0\x02", "FLAC": rb'fLaC[\0\x80]\0\0"'}  # of a recording, by format
SIZES = r"(?m)^ *(?:data|Data Size|SSND|BODY|riff|Riff size) *: (\d+) \(should be (\d+)\)"  # in libsndfile's log
REST = r"Unknown chunk marker \((?!0\))\w+\) at position (\d+)\. Exit"
RUN, CONSTANT = 128, 3 / 32768  # digital silence: at least RUN samples that differ by less than CONSTANT

# Likelihood ratios from here on, in words: ENFSI guideline for evaluative reporting in forensic science, 2015
SUPPORT = {10**6: "extremely strong", 10**4: "very strong", 1_000: "strong", 100: "moderately strong"}
SUPPORT |= {10: "moderate", 2: "weak"}

# label: "real", "fake" or "uncertain"; score: P(fake) in [0, 1], higher = more likely fake; likelihood_ratio: how many
# times more likely such a score is for synthetic than for genuine speech, or None; support: the same in words, or "";
# reason: why the label is "uncertain" whatever the score, or ""; times, ends [N]: start and end of each window in s;
# scores [N]: P(fake) of each window; suspicious: start and end in s of the longest stretch that is called fake, or None
FIELDS = "label score likelihood_ratio support reason seconds times ends scores suspicious"
Prediction = namedtuple("Prediction", FIELDS)


class Detector:
    """The detector in a file *.onnx. Raises ValueError if it is missing, damaged, or not an exported detector."""

    def __init__(self, path):
        try:
            content = Path(path).read_bytes()
        except OSError as error:
            raise ValueError(f"{path}: cannot be read ({error.strerror}); check the path") from error
        try:
            self.session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
            self._read_metadata(json.loads(self.session.get_modelmeta().custom_metadata_map["dfa_utils"]))
            if [x.shape for x in self._run(np.zeros((2, self.size), np.float32))] != [(2,), (2, 3)]:
                raise ValueError("its outputs have other shapes")
        except Exception as error:  # onnxruntime's errors share no other base class, and metadata may hold anything
            why = f"{type(error).__name__}: {error}".splitlines()[0]
            raise ValueError(f"{path}: damaged, or not a detector for this version; export it again ({why})") from error

    def _read_metadata(self, data: dict) -> None:
        self.rate, self.size, self.hop = lengths = [data[k] for k in ("sample_rate", "clip_samples", "hop_samples")]
        self.threshold, self.limit = data["threshold"], data["limit"]
        self.band = low, high = data["uncertain"] or [self.threshold] * 2
        self.calibration = slope, offset, half = data["calibration"]
        self.evidence, (real, fake) = data["evidence"], data["evidence"] or (1, 1)
        sizes_fit = all(type(length) is int and 0 < length <= LONGEST_WINDOW for length in lengths)
        numbers = self.threshold, self.limit, low, high, slope, offset, half, real, fake
        numbers_fit = all(map(math.isfinite, numbers)) and low <= high and half >= 0 and min(real, fake) >= 1
        if not (data["format"] == FORMAT and sizes_fit and numbers_fit):
            raise ValueError("its metadata are of another format, or hold impossible numbers")

    def predict(self, path) -> Prediction:
        """Judge one recording. Raises ValueError, in one sentence, if that is not possible."""
        samples = resample(*read_mono(path), self.rate)
        sounds = list(find_sounds(samples, self.size, PIECE_SECONDS * self.rate))
        if not sounds:
            raise ValueError("it is silent throughout, so there is nothing to judge")
        starts, ends, windows = zip(*cut_windows(samples, sounds, self.size, self.hop), strict=True)
        times, ends, sound = np.array(starts), np.array(ends), sum(end - start for start, end in sounds)
        times, ends, sound = times / self.rate, ends / self.rate, sound / self.rate  # s
        batches = [self._run(np.stack(windows[i : i + 32])) for i in range(0, len(windows), 32)]
        logits, measures = (np.concatenate(parts).astype(float) for parts in zip(*batches, strict=True))
        if not np.isfinite(logits).all():
            raise ValueError("it gets no finite score; look for absurd samples in it")
        score, scores = float(self._probability(logits.mean(), sound)), self._probability(logits, ends - times)
        reason = reason_to_abstain(measures, self.limit, sound)
        unsure = reason or self.band[0] <= score < self.band[1]
        label = "uncertain" if unsure else "fake" if score >= self.threshold else "real"
        ratio = likelihood_ratio(score, *self.evidence) if self.evidence and not reason else None
        fake = scores >= max(self.threshold, *self.band)
        where = None if reason else longest_stretch(fake, times, ends)
        judged = len(samples) / self.rate, times, ends, scores, where
        return Prediction(label, score, ratio, in_words(ratio) if ratio else "", reason, *judged)

    def _probability(self, logit, seconds):
        """P(fake) of a logit that rests on so many seconds of sound, or of arrays of both."""
        slope, offset, half = self.calibration
        return 1 / (1 + np.exp(-(offset + slope * logit / (1 + half / seconds))))

    def _run(self, windows: np.ndarray) -> list[np.ndarray]:
        """Of windows [B, T]: the logit of P(fake) [B], not calibrated, and the measures of the speech check [B, 3]."""
        return self.session.run(["logit", "measures"], {"waveform": windows})


def read_mono(path) -> tuple[np.ndarray, int]:
    """A file's samples [T] float32, its channels averaged, and its sample rate in Hz. Raises ValueError."""
    blocks = []
    try:
        with io.BytesIO(of_any_size(Path(path).read_bytes())) as handle, soundfile.SoundFile(handle) as file:
            rate, frames = file.samplerate, min(30 * file.samplerate, 2**25 // file.channels)
            refuse_truncated(file)
            while len(block := file.read(frames, "float32", always_2d=True)):
                blocks.append(mix(block))
                if sum(map(len, blocks)) > min(LONGEST_SECONDS * rate, MOST_SAMPLES):
                    raise ValueError("it is too long to be read as a whole; cut it into parts")
            if file.format == "OGG" and sum(map(len, blocks)) < file.frames - 0.1 * rate:
                raise ValueError("it is damaged: a part of it cannot be read; fetch it again")
            refuse_partly_read(handle, file)
    except (OSError, soundfile.LibsndfileError, TypeError) as error:  # TypeError: a file *.raw has no header
        raise ValueError("it is missing, or libsndfile cannot read it; check the path, or convert it to wav") from error
    if not blocks:
        raise ValueError("it holds no samples, or its header says so; open it in a player, and export it again")
    samples = np.concatenate(blocks)
    if not np.abs(samples).max() < 1e6:  # so that NaN is refused as well
        raise ValueError("it holds samples that are NaN, infinite or absurd; export it again as 16-bit wav")
    if not 4_000 <= rate <= 768_000:
        raise ValueError(f"its header says {rate} Hz, but recordings of speech have 4,000 to 768,000 Hz")
    return samples, rate


def of_any_size(content: bytes) -> bytes:
    """A file; as a wav whose header gives its sound the size 0, it gets the size that libsndfile takes as unknown."""
    found = re.match(rb"(?s)RIFF....WAVEfmt .{20,999}?data\0\0\0\0", content)
    return content[: found.end() - 4] + b"\xff" * 4 + content[found.end() :] if found else content


def refuse_truncated(file) -> None:
    """Raise ValueError for a file that lacks 0.1 s or more of the sound that its header promises."""
    sizes = re.search(SIZES, file.extra_info)
    promised, held = map(int, sizes.groups()) if sizes else (0, 0)
    missing = (promised - held) * file.frames >= 0.1 * file.samplerate * held
    if held < promised < 0x7FFFF000 and missing:  # a larger size means "unknown"
        raise ValueError("cut off: it holds less audio than its header promises; fetch it again")


def refuse_partly_read(handle, file) -> None:
    """Raise ValueError if libsndfile took a part for the whole.

    It guesses the length of some MP3, it reads only the first of several files that were joined, and of a wav only what
    the header tells of, though that may have been written when the recording began.
    """
    kind, found = file.format, re.search(REST, file.extra_info)
    read = int(found[1]) if found else handle.getbuffer().nbytes
    rest = handle.read().split(b"APETAGEX")[0].rstrip(b"\0") if kind == "MP3" else b""
    handle.seek(0)
    parts = re.findall(BEGINNINGS[kind], handle.read()) if kind in BEGINNINGS else []
    if (handle.getbuffer().nbytes - read) * file.frames > 0.1 * file.samplerate * read:
        raise ValueError("its header tells of less sound than it holds; open it in an editor, and export it again")
    if len(parts) > 1 or len(rest) > LONGEST_TAG:
        raise ValueError("libsndfile reads only its first part; convert it to wav: ffmpeg -i FILE OUT.wav")


@np.errstate(over="ignore", invalid="ignore")
def mix(block: np.ndarray) -> np.ndarray:
    """[T, channels] -> [T]: the mean of the channels, or the loudest one where they cancel each other."""
    mean, power = block.mean(axis=1), np.square(block).mean(axis=0)
    return block[:, power.argmax()] if np.square(mean).mean() < 0.01 * power.max() else mean


def resample(samples: np.ndarray, rate: int, new_rate: int) -> np.ndarray:
    """[T] at `rate` Hz as [T'] at `new_rate` Hz: a sinc in a Hann window, as `torchaudio.transforms.Resample`."""
    new, old = Fraction(new_rate, rate).limit_denominator(2_000).as_integer_ratio()
    if new == old:
        return samples
    cutoff = 0.99 * min(old, new)
    reach = math.ceil(6 * old / cutoff)
    taps = np.arange(2 * reach + 2)
    padded = np.pad(samples, (reach, reach + old + len(taps)))
    spans = sliding_window_view(padded, len(taps))  # [T', taps]
    out = np.empty((-(-len(samples) // old), new), np.float32)  # [periods, new samples of each]
    for i in range(new):
        first = i * old // new
        times = np.clip(((first - reach + taps) / old - i / new) * cutoff, -6, 6)
        weights = np.sinc(times) * np.cos(times * np.pi / 12) ** 2 * cutoff / old
        out[:, i] = spans[first::old][: len(out)] @ weights.astype(np.float32)
    return out.ravel()[: -(-len(samples) * new // old)]


def find_sounds(samples: np.ndarray, pause: int, piece: int):
    """Yield (first sample, sample after the last) of each sound in [T]; `pause` samples of silence separate two.

    Each `piece` samples are searched on their own; the last piece is up to twice as long.
    """
    edges = [0, *range(piece, len(samples) // piece * piece, piece), len(samples)]
    for begin, end in pairwise(edges):
        places = begin + np.flatnonzero(~is_silent(samples[begin:end]))
        for part in np.split(places, np.flatnonzero(np.diff(places) > pause) + 1):
            if len(part):
                yield int(part[0]), int(part[-1]) + 1


def is_silent(samples: np.ndarray) -> np.ndarray:
    """Whether each of [T] is part of a constant run of RUN samples, where all samples outside [T] count as 0."""
    runs = sliding_window_view(np.pad(samples, RUN - 1), RUN)  # [T + RUN - 1, RUN]
    return sliding_window_view(np.ptp(runs, axis=1) < CONSTANT, RUN).any(axis=1)


def cut_windows(samples: np.ndarray, sounds, size: int, hop: int):
    """Yield (start, end, window [size]) of each sound, `hop` samples apart; the last one ends where the sound ends."""
    for start, end in sounds:
        last = max(start, end - size)
        for first in dict.fromkeys([*range(start, last + 1, hop), last]):
            stop = min(first + size, end)
            yield first, stop, np.resize(samples[first:stop], size)  # a shorter sound is repeated


def reason_to_abstain(measures: np.ndarray, limit: float, seconds: float) -> str:
    """Why a recording should not be judged, or "".

    `measures` [N, 3] are those of its windows: the logit of "no speech", the share that sounds, and the level in dB of
    the loudest band above 5.2 kHz. A window with a logit from `limit` on holds no speech. `seconds` is the duration of
    all sounds.
    """
    if measures[:, 1].mean() * seconds < 0.5:
        return "less than 0.5 s of sound, too little to judge"
    if np.mean(measures[:, 0] < limit) < 0.25:
        return "no clear speech in it, but strong noise, tones or music"
    if measures[:, 2].max() < -64:
        return "nothing above 5.2 kHz, as on a telephone, which cuts off most traces of synthesis"
    return ""


def likelihood_ratio(score: float, real: int, fake: int) -> float:
    """How many times more likely a score is for synthetic speech; no more than so many clips of each class support."""
    return float(np.clip(score / max(1 - score, np.finfo(float).tiny), 1 / (fake + 1), real + 1))


def in_words(ratio: float) -> str:
    """A likelihood ratio in the words of SUPPORT."""
    times, kind = (ratio, "synthetic") if ratio > 1 else (1 / ratio, "genuine")
    word = next((word for least, word in SUPPORT.items() if times >= least), None)
    if not word:
        return "about as likely if synthetic as if genuine: no support for either"
    return f"about {float(f'{times:.2g}'):,g} times more likely if {kind}: {word} support"


def longest_stretch(fake: np.ndarray, times: np.ndarray, ends: np.ndarray):
    """Start and end in s of the longest row of windows [N] that are all fake, or None."""
    edges = np.flatnonzero(np.diff(fake, prepend=False, append=False)).reshape(-1, 2)  # first, after the last
    stretches = [(float(times[i]), float(ends[j - 1])) for i, j in edges]
    return max(stretches, key=lambda stretch: stretch[1] - stretch[0], default=None)


def main(path: str, *files: str) -> int:
    """Print a line for each file. The exit status is 1 if one could not be judged."""
    try:
        detector, failed = Detector(path), 0
    except ValueError as error:
        sys.exit(f"error: {error}")
    for file in files:
        try:
            found = detector.predict(file)
            where = found.suspicious if len(found.scores) > 1 else None
            parts = f"{found.reason or f'score {found.score:.4f}'}, {found.seconds:.2f} s", found.support
            parts += ("suspicious from {:.1f} to {:.1f} s".format(*where) if where else "",)
            print(f"{file}: {found.label} ({'; '.join(filter(None, parts))})")
        except ValueError as error:
            print(f"{file}: error: {error}")
            failed = 1
    return failed


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]) if len(sys.argv) > 2 else __doc__.splitlines()[0])
