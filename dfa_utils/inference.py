"""The detector in use: one file, a folder, or a long recording over time. Everything that is scored is scored here."""

import io
import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from numbers import Real

import numpy as np
import torch
from scipy.special import expit

from dfa_utils.audio import AudioError, in_float, mono_blocks, resample_blocks, stream_audio
from dfa_utils.checkpoint import RELEASED, fingerprint_of, load_checkpoint
from dfa_utils.models import fuse_for_scoring
from dfa_utils.speech import SpeechCheck, reason_to_abstain
from dfa_utils.windows import cut_windows, find_sounds, in_pieces

PATHS = (str, os.PathLike)
BYTES = (bytes, bytearray, memoryview)
BATCH = 32  # windows that are scored at once
PIECE_SECONDS = 120  # s; longer recordings are cut into windows piece by piece, so that memory does not grow with them
# Likelihood ratios from here on, in words: ENFSI guideline for evaluative reporting in forensic science, 2015
SUPPORT = {10**6: "extremely strong", 10**4: "very strong", 1_000: "strong", 100: "moderately strong"}
SUPPORT |= {10: "moderate", 2: "weak"}


@dataclass(frozen=True, repr=False, eq=False)
class Prediction:
    """What the detector says of one recording.

    label: "real", "fake" or "uncertain"; score: P(fake) in [0, 1] of the whole, from the mean of its windows' logits;
    threshold: a score from here on means fake; seconds: duration; sound: seconds of it that were judged, as digital
    silence is not; times, ends [N]: start and end of each judged window in s; scores [N]: P(fake) of each window on its
    own; uncertain_band: (low, high), a score with low <= score < high means neither, or None; reason: why the recording
    is "uncertain" whatever its score, such as that there is no speech in it, or ""; evidence: how many real and fake
    clips the scores were calibrated on, or None.
    """

    path: str
    score: float
    threshold: float
    seconds: float
    sound: float
    times: np.ndarray
    ends: np.ndarray
    scores: np.ndarray
    uncertain_band: tuple[float, float] | None = None
    reason: str = ""
    evidence: tuple[int, int] | None = None

    @property
    def label(self) -> str:
        """The verdict: "uncertain" for a reason or within the band, else "fake" from the threshold on, else "real"."""
        if self.reason or (self.uncertain_band and self.uncertain_band[0] <= self.score < self.uncertain_band[1]):
            return "uncertain"
        return "fake" if self.score >= self.threshold else "real"

    @property
    def likelihood_ratio(self) -> float | None:
        """How many times more likely such a score is for synthetic than for genuine speech; None if it is not known.

        It is the odds of P(fake), which is calibrated for equally frequent classes. No ratio exceeds the number of
        clips that could have contradicted it, plus 1 (compare Vergeer et al. 2016, "Numerical likelihood ratios
        outputted by LR systems are often based on extrapolation", Science & Justice 56).
        """
        if self.reason or not self.evidence:
            return None
        real, fake = self.evidence
        odds = self.score / max(1 - self.score, np.finfo(float).tiny)
        return float(np.clip(odds, 1 / (fake + 1), real + 1))

    @property
    def support(self) -> str:
        """The likelihood ratio in words: how many times, and how strong ENFSI calls it; "" without a ratio."""
        ratio = self.likelihood_ratio
        if ratio is None:
            return ""
        times, kind = (ratio, "synthetic") if ratio > 1 else (1 / ratio, "genuine")
        word = next((word for least, word in SUPPORT.items() if times >= least), None)
        if not word:
            return "about as likely if synthetic as if genuine: no support for either"
        return f"about {float(f'{times:.2g}'):,g} times more likely if {kind}: {word} support"

    @property
    def suspicious(self) -> tuple[float, float] | None:
        """Start and end in s of the longest stretch in which every window on its own is called fake, or None."""
        fake = self.scores >= max(self.threshold, *(self.uncertain_band or [0]))
        edges = np.flatnonzero(np.diff(fake, prepend=False, append=False)).reshape(-1, 2)  # first, after the last
        stretches = [] if self.reason else [(float(self.times[i]), float(self.ends[j - 1])) for i, j in edges]
        return max(stretches, key=lambda stretch: stretch[1] - stretch[0], default=None)

    def __str__(self) -> str:
        low, high = self.uncertain_band or (self.threshold, self.threshold)
        score, word = f"score {self.score:.4f}", "" if self.uncertain_band else " threshold"
        words = {
            "real": f"{score} <{word} {low:.4f}",
            "fake": f"{score} >={word} {high:.4f}",
            "uncertain": self.reason or f"{score} is between {low:.4f} and {high:.4f}, where errors are frequent",
        }
        suspicious = self.suspicious if len(self.scores) > 1 else None
        where = "suspicious from {:.1f} to {:.1f} s".format(*suspicious) if suspicious else ""
        parts = f"{words[self.label]}, {self.seconds:.2f} s", self.support, where
        return f"{self.path}: {self.label} ({'; '.join(filter(None, parts))})"

    __repr__ = __str__  # not the scores of all windows

    def _repr_html_(self) -> str:
        from dfa_utils.display import verdict_html

        return verdict_html(self)


class Detector:
    """A trained model with its calibration and threshold; `Detector.load()` gives one.

    A recording is cut into windows, each window gets a logit from the model, and the mean of these logits is the
    recording's one logit. Calibration is applied to it once: score = sigmoid(`calibrated_logit`) = P(fake). `info` may
    hold "calibration" (slope, offset and, where length matters, half), "threshold", "uncertain" and "evidence" (see
    `calibrate`); without them they are (1, 0), 0.5, none and none. `speech` flags windows without speech; a recording
    without enough of them is "uncertain" whatever its score.
    """

    def __init__(self, model: torch.nn.Module, info: dict, speech: SpeechCheck | None = None):
        self.model, self.info, self.speech = model.eval(), info, speech
        self.calibration = (*info.get("calibration", (1.0, 0.0)), 0.0)[:3]  # slope, offset, half
        self.threshold = float(info.get("threshold", 0.5))
        self.uncertain_band = tuple(info["uncertain"]) if info.get("uncertain") else None
        self.evidence = tuple(info["evidence"]) if info.get("evidence") else None
        self._network = model

    @classmethod
    def load(cls, path=None, device: str = "cpu") -> "Detector":
        """Load a checkpoint file, a run's folder or the newest of a folder of runs; None: the released detector.

        The package's `SpeechCheck` comes with it, unless the detector has another sample rate. Raises CheckpointError
        that says how to train a detector, or what is wrong with the file.
        """
        model, info = load_checkpoint(RELEASED if path is None else path, device)
        speech = SpeechCheck.load().to(device)
        detector = cls(model, info, speech if model.config.sample_rate == speech.config.sample_rate else None)
        detector._network = fuse_for_scoring(model)  # faster; this copy does not follow later changes of the model
        return detector

    def predict(self, source, sample_rate: int | None = None) -> Prediction:
        """Judge one recording in constant memory: a file, or samples at `sample_rate` Hz (None: the model's own rate).

        A file is a path, an open binary file, or its bytes; its header gives the rate. Samples [T] (or [1, T]) are an
        array, a tensor or a list: floats in [-1, 1], or integers of 8, 16 or 32 bits. They may come with their own
        rate: (rate, samples) as from Gradio, or the dict {"array", "sampling_rate"} of `datasets`. Raises AudioError
        for anything else, for a `sample_rate` beside a source that tells its own, and for a recording that is
        unreadable, empty, not finite, or silent throughout.
        """
        if sample_rate is not None and _has_rate(source):
            name = source if isinstance(source, PATHS) else "source"
            raise AudioError(f"{name}: has a sample rate of its own; leave out the {sample_rate} Hz", "rate")
        if _is_file(source):
            [(_, result)] = self.predict_files([source])
        else:
            rate = self.model.config.sample_rate
            block = _samples_and_rate(source, rate if sample_rate is None else sample_rate)
            blocks = resample_blocks(mono_blocks("array", [block]), rate)
            [(_, result)] = self.predict_recordings([("array", blocks)])
        if isinstance(result, AudioError):
            raise result
        return result

    def predict_files(self, paths, batch_size: int = BATCH) -> Iterator[tuple[str, Prediction | AudioError]]:
        """Judge one file or any number of them, in constant memory: (path, Prediction), or (path, AudioError).

        Open binary files and the bytes of files will do as well as paths. One without a name is called "file".
        """
        rate = self.model.config.sample_rate
        opened = map(_open, [paths] if _is_file(paths) else paths)
        return self.predict_recordings(((name, stream_audio(file, rate)) for name, file in opened), batch_size)

    def predict_recordings(
        self, recordings: Iterable[tuple[str, Iterable]], batch_size: int = BATCH
    ) -> Iterator[tuple[str, Prediction | AudioError]]:
        """Judge recordings, each a name and consecutive blocks [T] at the model's rate: (name, Prediction), in order.

        Blocks may be arrays or tensors. Windows are scored in batches across recordings, so a result comes as soon as
        its batch is full. A recording whose blocks raise an AudioError, or that is silent throughout, gives (name,
        AudioError), and the others continue.
        """
        batch, ended = [], deque()
        for recording, window in self._cut(recordings):
            if window is None:
                ended.append(recording)
            else:
                batch.append((recording, window))
            if len(batch) == batch_size or len(ended) > batch_size:
                self._score(batch)
            while ended and len(ended[0].logits) == len(ended[0].starts):
                yield self._finish(ended.popleft())
        self._score(batch)
        yield from map(self._finish, ended)

    @cached_property
    def fingerprint(self) -> str:
        """12 hex digits for weights, settings, calibration and bounds; see `checkpoint.fingerprint_of`."""
        calibration = self.calibration if self.calibration[2] else self.calibration[:2]  # as older versions had it
        figures = calibration, self.threshold, self.uncertain_band
        return fingerprint_of(self.model, (*figures, self.evidence) if self.evidence else figures)

    def _cut(self, recordings) -> Iterator[tuple["_Recording", np.ndarray | None]]:
        """The windows [clip_samples] of all recordings, each with its recording; None where one has ended."""
        config = self.model.config
        for name, blocks in recordings:
            recording = _Recording(name)
            try:
                for piece in in_pieces(blocks, PIECE_SECONDS * config.sample_rate):
                    for sound in find_sounds(piece, config.clip_samples):
                        recording.sounding += sound[1] - sound[0]
                        for start, window in cut_windows(piece, [sound], config.clip_samples, config.hop_samples):
                            recording.starts.append(recording.samples + start)
                            recording.lengths.append(min(len(window), sound[1] - start))
                            yield recording, window
                    recording.samples += len(piece)
            except AudioError as error:
                recording.error = error.with_traceback(None)  # which would keep the samples
            yield recording, None

    @torch.inference_mode()
    def _score(self, batch: list[tuple["_Recording", np.ndarray]]) -> None:
        """Note the logit of P(fake) and the speech measures of each window, and empty the batch."""
        if not batch:
            return
        windows = torch.from_numpy(np.stack([window for _, window in batch]))  # [B, clip_samples]
        windows = windows.to(next(self._network.parameters()).device)
        logits = self._network(windows).diff(dim=1).squeeze(1).tolist()
        measures = self.speech(windows).tolist() if self.speech else [[]] * len(batch)
        for (recording, _), logit, measured in zip(batch, logits, measures, strict=True):
            recording.logits.append(logit)
            recording.measures.append(measured)
        batch.clear()

    def _finish(self, recording: "_Recording") -> tuple[str, Prediction | AudioError]:
        name, rate, reason = recording.name, self.model.config.sample_rate, ""
        times, lengths = np.array(recording.starts) / rate, np.array(recording.lengths) / rate  # [N], [N] in s
        logits, sound = np.array(recording.logits), recording.sounding / rate  # [N], s
        if recording.error:
            return name, recording.error
        if not len(logits):
            return name, AudioError(f"{name}: silent throughout, so there is nothing to judge; leave it out", "silent")
        if not np.isfinite(logits).all():
            return name, AudioError(f"{name}: gives no finite score; look for NaN or absurd samples in it", "samples")
        if self.speech:
            reason = reason_to_abstain(recording.measures, self.speech.limit, sound)
        score = float(expit(calibrated_logit(logits.mean(), sound, *self.calibration)))
        scores = expit(calibrated_logit(logits, lengths, *self.calibration))
        judged = recording.samples / rate, sound, times, times + lengths, scores
        return name, Prediction(name, score, self.threshold, *judged, self.uncertain_band, reason, self.evidence)


@dataclass
class _Recording:
    """What is known so far of a recording that is being judged."""

    name: str
    samples: int = 0
    sounding: int = 0  # samples from the first to the last of each sound
    starts: list[int] = field(default_factory=list)  # first sample of each window
    lengths: list[int] = field(default_factory=list)  # samples of the recording in each; a short sound is repeated
    logits: list[float] = field(default_factory=list)  # of P(fake), of each window that has been scored
    measures: list[list[float]] = field(default_factory=list)  # of the `SpeechCheck`, likewise
    error: AudioError | None = None


def calibrated_logit(logit, seconds, slope: float, offset: float, half: float = 0.0):
    """offset + slope * logit * seconds / (seconds + half), of a logit or an array of them.

    The less sound was judged, the closer the logit comes to the offset; after `half` s it has half of its weight.
    """
    return offset + slope * logit / (1 + half / seconds)


def _is_file(source) -> bool:
    return isinstance(source, (*PATHS, *BYTES)) or hasattr(source, "read")


def _has_rate(source) -> bool:
    """Whether a source tells its own sample rate: a file, (rate, samples), or a dict with "sampling_rate"."""
    rate_first = isinstance(source, tuple) and len(source) == 2 and isinstance(source[0], Real)
    return rate_first or _is_file(source) or (isinstance(source, Mapping) and "sampling_rate" in source)


def _open(file) -> tuple[str, "str | io.IOBase"]:
    """The name of a file, and what `stream_audio` reads. Raises AudioError for what is not a binary file."""
    name = os.fspath(file) if isinstance(file, PATHS) else str(getattr(file, "name", "file"))
    if isinstance(file, io.TextIOBase):
        raise AudioError(f"{name}: opened as text; open it in binary mode: open(path, 'rb')")
    if not _is_file(file):
        raise AudioError(f"{type(file).__name__} is not a file; give paths, open files, or the bytes of files")
    if isinstance(file, BYTES):
        return name, io.BytesIO(file)
    if getattr(file, "seekable", bool)():
        file.seek(0)  # who wrote or read it before may have left it at its end
    return name, file


def _samples_and_rate(source, sample_rate: float) -> tuple[np.ndarray, float]:
    """The samples [T, channels] and their rate in Hz (`sample_rate`, unless they come with their own)."""
    if isinstance(source, Mapping):
        source, sample_rate = source.get("array"), source.get("sampling_rate", sample_rate)
    if rate_first := isinstance(source, tuple) and _has_rate(source):  # then samples are [T, channels]
        sample_rate, source = source
    if not isinstance(sample_rate, Real):
        raise AudioError(f"array: its sample rate must be a number of Hz such as 16000, got {sample_rate!r}", "rate")
    samples = _as_floats(source)
    if samples.size == max(samples.shape, default=0):  # [T], [1, T] or [T, 1]
        samples = samples.reshape(-1, 1)
    elif samples.ndim != 2 or not rate_first or samples.shape[0] < samples.shape[1]:
        what = f"samples of shape {samples.shape}, expected one channel [T]"
        raise AudioError(f"array: {what}; average the channels: samples.mean({np.argmin(samples.shape)})", "samples")
    return samples, sample_rate


def _as_floats(samples) -> np.ndarray:
    """Samples of any shape as floats of full scale 1; integers are divided by the full scale of their type."""
    if isinstance(samples, torch.Tensor):  # NumPy does not have all of torch's types
        samples = samples.detach().cpu().float() if samples.is_floating_point() else samples.cpu()
    kind = type(samples).__name__
    try:
        samples = np.asarray(samples)
    except ValueError:  # lists of different lengths
        samples = np.asarray(None)
    if not samples.size or not samples.ndim or samples.dtype.kind not in "iuf" or samples.dtype in ("int64", "uint64"):
        what = f"got {kind}" + (f" of {samples.dtype} {samples.shape}" if samples.ndim else "")
        wanted = "a file (path, open file, bytes) or samples [T], floats in [-1, 1] or integers of 8, 16 or 32 bits"
        raise AudioError(f"array: {what}, expected {wanted}; predict_files takes several files", "samples")
    return in_float(samples)
