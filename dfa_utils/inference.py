"""The detector in use: one file, a folder, or a long recording over time. Everything that is scored is scored here."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from dfa_utils.audio import HIGHEST_RATE, LARGEST, LOWEST_RATE, AudioError, stream_audio
from dfa_utils.scoring.onnx import OnnxScorer
from dfa_utils.scoring.speech import reason_to_doubt
from dfa_utils.support.resample import resample_blocks
from dfa_utils.windows import Windows

BATCH = 32  # windows that are scored at once


@dataclass(frozen=True, repr=False)
class Prediction:
    """What the detector says of one recording.

    label: "real", "fake" or "uncertain"; score: P(fake) in [0, 1] of the whole, from the mean of its windows' logits;
    threshold: from it on a score means fake; uncertain: the bounds (low, high) of the band low <= score < high in which
    it means neither, or None; seconds: duration; times [N]: start of each judged window in s; scores [N]: P(fake) of
    each window, as if it were all there is; reason: why the recording is "uncertain" whatever its score, such as that
    there is no speech in it, or "". Digital silence is not judged.
    """

    path: str
    score: float
    threshold: float
    seconds: float
    times: np.ndarray
    scores: np.ndarray
    uncertain: tuple[float, float] | None = None
    reason: str = ""

    @property
    def label(self) -> str:
        """The verdict: "uncertain" for a reason or within the band, else "fake" from the threshold on, else "real"."""
        if self.reason or (self.uncertain and self.uncertain[0] <= self.score < self.uncertain[1]):
            return "uncertain"
        return "fake" if self.score >= self.threshold else "real"

    def __str__(self) -> str:
        return f"{self.path}: {self.label} ({self.reason or self._comparison()}, {self.seconds:.2f} s)"

    def _comparison(self) -> str:
        """The score, and the bound that decided."""
        below, above = self.uncertain or (self.threshold, self.threshold)
        if self.label == "uncertain":
            return f"score {self.score:.4f} lies from {below:.4f} to {above:.4f}, where errors are frequent"
        word = " threshold" if not self.uncertain else ""
        return f"score {self.score:.4f} " + (
            f">={word} {above:.4f}" if self.label == "fake" else f"<{word} {below:.4f}"
        )

    __repr__ = __str__  # not the scores of all windows

    def _repr_html_(self) -> str:
        from dfa_utils.display.verdict import verdict_html

        return verdict_html(self)


class Detector:
    """A trained model with its calibration and threshold; `Detector.load()` gives one.

    A recording is cut into windows, each window gets a logit from the model, and the mean of these logits is the
    recording's one logit. Calibration, a slope and an offset, is applied to it once: score = sigmoid(slope * logit +
    offset) = P(fake). `info` may hold "calibration", "threshold" and "uncertain" (see `analysis.calibrate`); without
    them they are (1, 0), 0.5 and none. `speech` looks at the same windows for what makes a verdict "uncertain" whatever
    the score; None: nothing does. The model is one in torch, or an `OnnxScorer`, which needs no torch.
    """

    def __init__(self, model, info: dict, speech=None):
        exported = isinstance(model, OnnxScorer)  # which holds its own check
        self.model, self.info, self.speech = model, info, model if exported else speech
        self.calibration = tuple(info.get("calibration", (1.0, 0.0)))
        self.threshold = float(info.get("threshold", 0.5))
        self.uncertain = tuple(info["uncertain"]) if info.get("uncertain") else None
        if exported:
            self._scorer = model
        else:
            from dfa_utils.scoring.networks import TorchScorer

            self._scorer = TorchScorer(model, speech)

    @classmethod
    def load(cls, path=None, device: str = "cpu") -> "Detector":
        """Load a checkpoint file, a run's folder or the newest of a folder of runs; None: the weights of the package.

        A file named *.onnx (`python -m dfa_utils export`) is scored by onnxruntime on the CPU. With a checkpoint comes
        the package's `SpeechCheck`, unless the detector has another sample rate. Raises CheckpointError that says how
        to train a detector, or what is wrong with the file.
        """
        if path is not None and Path(path).suffix == ".onnx":
            model = OnnxScorer(path)
            return cls(model, model.info)
        from dfa_utils.checkpoint import SHIPPED, CheckpointError, load_checkpoint
        from dfa_utils.scoring.networks import SpeechCheck

        if path is None and not SHIPPED.exists():
            raise CheckpointError(
                "this version ships no weights. Train a detector (python -m dfa_utils train --data ROOT, or "
                "notebooks/03_train_cnn.ipynb) and give its folder: Detector.load(FOLDER), or --checkpoint FOLDER"
            )
        model, info = load_checkpoint(SHIPPED if path is None else path, device)
        speech = SpeechCheck.load().to(device)
        return cls(model, info, speech if model.config.sample_rate == speech.config.sample_rate else None)

    def predict(self, source, sample_rate: int | None = None) -> Prediction:
        """Judge a file, or samples [T] at `sample_rate` Hz (None: the model's own rate), in constant memory.

        Raises AudioError for what cannot be judged: unreadable, empty, not finite, or silent throughout.
        """
        if isinstance(source, (str, Path)):
            results = self.predict_files([source])
        else:
            results = self.judge([("array", self._from_array(source, sample_rate))])
        (_, result), *_ = results
        if isinstance(result, AudioError):
            raise result
        return result

    def predict_files(self, paths: Iterable, batch_size: int = BATCH) -> Iterator[tuple[str, Prediction | AudioError]]:
        """Judge any number of files, in constant memory: (path, Prediction), or (path, AudioError) where one fails."""
        rate = self.model.config.sample_rate
        return self.judge(((str(path), stream_audio(path, rate)) for path in paths), batch_size)

    def judge(
        self, recordings: Iterable[tuple[str, Iterable]], batch_size: int = BATCH
    ) -> Iterator[tuple[str, Prediction | AudioError]]:
        """Judge recordings, each a name and consecutive blocks [T] at the model's rate: (name, Prediction), in order.

        Blocks may be arrays or tensors. Windows are scored in batches across recordings, so a result comes as soon as
        its batch is full. A recording whose blocks raise an AudioError, or that is silent throughout, gives (name,
        AudioError) and stops nothing.
        """
        batch, ended = [], deque()
        for recording, start, window in self._cut(recordings):
            if window is None:
                ended.append(recording)
            else:
                batch.append((recording, start, window))
            if len(batch) == batch_size or len(ended) > batch_size:
                self._score(batch)
            while ended and not ended[0].pending:
                yield self._finish(ended.popleft())
        self._score(batch)
        yield from map(self._finish, ended)

    @cached_property
    def fingerprint(self) -> str:
        """12 hex digits for weights, settings, calibration and bounds, and "-onnx" of an exported detector.

        See `checkpoint.fingerprint_of`.
        """
        if isinstance(self.model, OnnxScorer):
            return self.model.fingerprint
        from dfa_utils.checkpoint import fingerprint_of

        return fingerprint_of(self.model, (self.calibration, self.threshold, self.uncertain))

    def _from_array(self, samples, sample_rate: int | None) -> Iterator[np.ndarray]:
        if hasattr(samples, "detach"):  # a tensor; NumPy does not know all kinds of floats
            samples = samples.detach().cpu().float() if samples.is_floating_point() else samples.cpu()
        samples = np.asarray(samples)
        if samples.ndim != 1 or not len(samples) or not np.issubdtype(samples.dtype, np.floating):
            raise AudioError(
                f"array: expected float samples [T] in [-1, 1], got {samples.dtype} {samples.shape}", "samples"
            )
        if not np.abs(samples).max() < LARGEST:  # so that NaN is refused too
            raise AudioError(
                "array: holds samples that are NaN, infinite or absurd; look at how it was made", "samples"
            )
        rate = self.model.config.sample_rate
        given = rate if sample_rate is None else sample_rate
        if not LOWEST_RATE <= given <= HIGHEST_RATE or given != int(given):
            wanted = f"a whole number from {LOWEST_RATE} to {HIGHEST_RATE} Hz"
            raise AudioError(f"array: a sample rate is {wanted}, got {given}", "rate")
        return resample_blocks([(samples.astype(np.float32), int(given))], rate)

    def _cut(self, recordings):
        """(recording, start, window [clip_samples]) of all; (recording, None, None) where one has ended."""
        config = self.model.config
        for name, blocks in recordings:
            recording, cut = _Recording(name), Windows(blocks, config.clip_samples, config.hop_samples)
            try:
                for start, window in cut:
                    recording.pending += 1
                    yield recording, start, window
            except AudioError as error:
                recording.error = error.with_traceback(None)  # which would keep the samples
            recording.samples, recording.sounding = cut.samples, cut.sounding
            yield recording, None, None

    def _score(self, batch: list) -> None:
        """Note with each recording what the scorer says of its (recording, start, window), and empty the batch."""
        if not batch:
            return
        logits, measures = self._scorer.score(np.stack([window for *_, window in batch]))
        for (recording, start, _), logit, measured in zip(batch, logits.tolist(), measures.tolist(), strict=True):
            recording.pending -= 1
            recording.windows.append((start, logit))
            recording.measures.append(measured)
        batch.clear()

    def _finish(self, recording: "_Recording") -> tuple[str, Prediction | AudioError]:
        name, rate = recording.name, self.model.config.sample_rate
        if recording.error:
            return name, recording.error
        if not recording.windows:
            return name, AudioError(f"{name}: silent throughout, so there is nothing to judge; leave it out", "silent")
        starts, logits = np.array(recording.windows).T  # [N], [N]
        if not np.isfinite(logits).all():
            return name, AudioError(f"{name}: gives no finite score; look for NaN or absurd samples in it", "samples")
        score, scores = float(self._probability(logits.mean())), self._probability(logits)
        seconds, times = recording.samples / rate, starts / rate
        reason = ""
        if self.speech:
            reason = reason_to_doubt(recording.measures, self.speech.limit, recording.sounding / rate)
        return name, Prediction(name, score, self.threshold, seconds, times, scores, self.uncertain, reason)

    def _probability(self, logits) -> np.ndarray:
        slope, offset = self.calibration
        return np.exp(-np.logaddexp(0, -(slope * np.asarray(logits, np.float64) + offset)))  # a sigmoid


@dataclass
class _Recording:
    """What is known so far of a recording that is being judged."""

    name: str
    samples: int = 0
    sounding: int = 0  # samples from the first to the last of each sound
    pending: int = 0  # windows that wait for their logit
    windows: list[tuple[int, float]] = field(default_factory=list)  # (start in samples, logit of P(fake))
    measures: list[list[float]] = field(default_factory=list)  # what `SpeechCheck` says of each window
    error: AudioError | None = None
