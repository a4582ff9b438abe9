"""The detector in use: one file, a folder, or a long recording over time."""

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from dfa_utils.audio import AudioError, resample_blocks, stream_audio, windows
from dfa_utils.checkpoint import SHIPPED, CheckpointError, load_checkpoint
from dfa_utils.models import Detecting, fuse_for_scoring, score_windows


@dataclass(frozen=True)
class Prediction:
    """What the detector says of one recording.

    label: "real", "fake" or "uncertain"; score: P(fake) in [0, 1], the mean over the windows; threshold: from it on a
    score means fake; uncertain: the bounds (low, high) from and below which it means neither, if the detector has some;
    seconds: duration; times [N]: start of each judged window in s; scores [N]: P(fake) of each. Silent windows are
    not judged.
    """

    path: str
    score: float
    threshold: float
    seconds: float
    times: np.ndarray
    scores: np.ndarray
    uncertain: tuple[float, float] | None = None

    @property
    def label(self) -> str:
        """What the score means: "uncertain" within the band, else "fake" from the threshold on, else "real"."""
        if self.uncertain and self.uncertain[0] <= self.score < self.uncertain[1]:
            return "uncertain"
        return "fake" if self.score >= self.threshold else "real"

    def __str__(self) -> str:
        why = f"score {self.score:.4f} {'>=' if self.score >= self.threshold else '<'} threshold {self.threshold:.4f}"
        if self.label == "uncertain":
            why = "score {:.4f} lies from {:.4f} to {:.4f}, where errors are frequent".format(
                self.score, *self.uncertain
            )
        return f"{self.path}: {self.label} ({why}, {self.seconds:.2f} s)"


class Detector:
    """A trained model with its threshold; `Detector.load()` gives one."""

    def __init__(self, model: Detecting, info: dict):
        self.model, self.info = model.eval(), info
        self.threshold = float(info.get("threshold", 0.5))
        self.uncertain = tuple(info["uncertain"]) if info.get("uncertain") else None

    @classmethod
    def load(cls, path=None, device: str = "cpu") -> "Detector":
        """Load a checkpoint file, a run's folder or the newest of a folder of runs; None: the weights of the package.

        Raises CheckpointError that says how to train a detector, or what is wrong with the file.
        """
        if path is None and not SHIPPED.exists():
            raise CheckpointError(
                "this version ships no weights. Train a detector (python -m dfa_utils train --data ROOT, or "
                "notebooks/03_train_cnn.ipynb) and give its folder: Detector.load(FOLDER), or --checkpoint FOLDER"
            )
        return cls(*load_checkpoint(SHIPPED if path is None else path, device))

    def predict(self, source, sample_rate: int | None = None) -> Prediction:
        """Judge a file, or samples [T] at `sample_rate` Hz (None: the model's own rate), in constant memory.

        Raises AudioError for what cannot be judged: unreadable, empty, not finite, or silent throughout.
        """
        if isinstance(source, (str, Path)):
            result = dict(self.predict_files([source]))[str(source)]
        else:
            result = dict(self._judge([("array", self._from_array(source, sample_rate))]))["array"]
        if isinstance(result, AudioError):
            raise result
        return result

    def predict_files(self, paths: Iterable, batch_size: int = 32) -> Iterator[tuple[str, Prediction | AudioError]]:
        """Judge any number of files, in constant memory; yields (path, Prediction), or (path, AudioError) and goes on.

        In the order of `paths`, in batches of windows across files: a result comes as soon as its batch is full.
        """
        rate = self.model.config.sample_rate
        return self._judge(((str(path), stream_audio(path, rate)) for path in paths), batch_size)

    @cached_property
    def fingerprint(self) -> str:
        """12 hex digits that change with the weights, the settings, the threshold and the bounds of `uncertain`."""
        bounds = "" if self.uncertain is None else f" {self.uncertain!r}"
        digest = hashlib.sha256(f"{self.model.config.to_json()} {self.threshold!r}{bounds}".encode())
        for value in self.model.state_dict().values():
            digest.update(value.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:12]

    def _from_array(self, samples, sample_rate: int | None) -> Iterator[torch.Tensor]:
        samples = torch.as_tensor(samples)
        if samples.ndim != 1 or not len(samples) or not samples.is_floating_point():
            raise AudioError(
                f"array: expected float samples [T] in [-1, 1], got {samples.dtype} {tuple(samples.shape)}"
            )
        if not torch.isfinite(samples).all():
            raise AudioError("array: holds samples that are NaN or infinite; look at how it was made")
        rate = self.model.config.sample_rate
        return resample_blocks([(samples.float(), sample_rate or rate)], rate)

    def _judge(self, sources: Iterable[tuple[str, Iterable[torch.Tensor]]], batch_size: int = 32):
        """(path, Prediction or AudioError) of each (path, consecutive blocks [T]), in order."""
        scorer, batch, ended = fuse_for_scoring(self.model), [], deque()
        for recording, start, window in self._cut(sources):
            if window is None:
                ended.append(recording)
            else:
                batch.append((recording, start, window))
            if len(batch) == batch_size or len(ended) > batch_size:
                _score(scorer, batch)
            while ended and not ended[0].pending:
                yield self._finish(ended.popleft())
        _score(scorer, batch)
        yield from map(self._finish, ended)

    def _cut(self, sources):
        """(recording, start, window [clip_samples]) of all sources; (recording, None, None) where one has ended."""
        config = self.model.config
        for path, blocks in sources:
            recording = _Recording(path)
            try:
                for start, window in windows(recording.count(blocks), config.clip_samples, config.hop_samples):
                    recording.pending += 1
                    yield recording, start, window
            except AudioError as error:
                recording.error = error.with_traceback(None)  # which would keep the samples
            yield recording, None, None

    def _finish(self, recording: "_Recording") -> tuple[str, "Prediction | AudioError"]:
        path, rate = recording.path, self.model.config.sample_rate
        if recording.error:
            return path, recording.error
        if not recording.windows:
            return path, AudioError(f"{path}: silent throughout, so there is nothing to judge; check the recording")
        starts, scores = np.array(recording.windows).T  # [N], [N]
        score = float(scores.mean())
        seconds, times = recording.samples / rate, starts / rate
        return path, Prediction(path, score, self.threshold, seconds, times, scores, self.uncertain)


@dataclass
class _Recording:
    """What is known so far of a recording that is being judged."""

    path: str
    samples: int = 0
    pending: int = 0  # windows that wait for their score
    windows: list[tuple[int, float]] = field(default_factory=list)  # (start in samples, P(fake))
    error: AudioError | None = None

    def count(self, blocks: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
        """Pass blocks through and count their samples."""
        for block in blocks:
            self.samples += len(block)
            yield block


def _score(scorer: Detecting, batch: list) -> None:
    """Score a batch of (recording, start, window), note the scores with their recordings, and empty it."""
    scores = score_windows(scorer, [window for _, _, window in batch]) if batch else []
    for (recording, start, _), score in zip(batch, scores, strict=True):
        recording.pending -= 1
        if score is not None:
            recording.windows.append((start, score))
    batch.clear()
