"""The detector in use: one file, a folder, or a long recording over time. Everything that is scored is scored here."""

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from functools import cached_property
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from torch import nn

from dfa_utils.audio import LARGEST, LOWEST_RATE, AudioError, resample_blocks, stream_audio
from dfa_utils.checkpoint import SHIPPED, CheckpointError, configs_of, learnt_tensors, load_checkpoint
from dfa_utils.models import fuse_for_scoring
from dfa_utils.windows import Windows

BATCH = 32  # windows that are scored at once


@dataclass(frozen=True)
class Prediction:
    """What the detector says of one recording.

    label: "real", "fake" or "uncertain"; score: P(fake) in [0, 1] of the whole, from the mean of its windows' logits;
    threshold: from it on a score means fake; uncertain: the bounds (low, high) of the band low <= score < high in which
    it means neither, or None; seconds: duration; times [N]: start of each judged window in s; scores [N]: P(fake) of
    each window, as if it were all there is. Digital silence is not judged.
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
    """A trained model with its calibration and threshold; `Detector.load()` gives one.

    A recording is cut into windows, each window gets a logit from the model, and the mean of these logits is the
    recording's one logit. Calibration, a slope and an offset, is applied to it once: score = sigmoid(slope * logit +
    offset) = P(fake). `info` may hold "calibration", "threshold" and "uncertain" (see `analysis.calibrate`); without
    them they are (1, 0), 0.5 and none.
    """

    def __init__(self, model: nn.Module, info: dict):
        self.model, self.info = model.eval(), info
        self.calibration = tuple(info.get("calibration", (1.0, 0.0)))
        self.threshold = float(info.get("threshold", 0.5))
        self.uncertain = tuple(info["uncertain"]) if info.get("uncertain") else None
        self._fused: tuple[list[int], nn.Module] | None = None

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
        self, recordings: Iterable[tuple[str, Iterable[torch.Tensor]]], batch_size: int = BATCH
    ) -> Iterator[tuple[str, Prediction | AudioError]]:
        """Judge recordings, each a name and consecutive blocks [T] at the model's rate: (name, Prediction), in order.

        Windows are scored in batches across recordings, so a result comes as soon as its batch is full. A recording
        whose blocks raise an AudioError, or that is silent throughout, gives (name, AudioError) and stops nothing.
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
        """12 hex digits that change with everything that a score or verdict depends on, and with nothing else.

        Hashed are the learnt tensors, the settings of every member that differ from their defaults, the calibration,
        the threshold and the bounds of `uncertain`; not what is computed from settings, which differs in the last bit
        between processors.
        """
        digest = hashlib.sha256(repr((self.calibration, self.threshold, self.uncertain)).encode())
        for config in configs_of(self.model):
            changed = {f.name: getattr(config, f.name) for f in fields(config) if getattr(config, f.name) != f.default}
            digest.update(repr(sorted(changed.items())).encode())
        for name, value in sorted(learnt_tensors(self.model).items()):
            digest.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:12]

    def _scorer(self) -> nn.Module:
        """The model fused for scoring; made once, and anew when an optimizer or a loader has changed the weights."""
        versions = [tensor._version for tensor in chain(self.model.parameters(), self.model.buffers())]
        if self._fused is None or self._fused[0] != versions:
            self._fused = versions, fuse_for_scoring(self.model)
        return self._fused[1]

    def _from_array(self, samples, sample_rate: int | None) -> Iterator[torch.Tensor]:
        samples, rate = torch.as_tensor(samples), self.model.config.sample_rate
        if samples.ndim != 1 or not len(samples) or not samples.is_floating_point():
            raise AudioError(
                f"array: expected float samples [T] in [-1, 1], got {samples.dtype} {tuple(samples.shape)}", "samples"
            )
        if not samples.abs().max() < LARGEST:  # so that NaN is refused too
            raise AudioError(
                "array: holds samples that are NaN, infinite or absurd; look at how it was made", "samples"
            )
        given = rate if sample_rate is None else sample_rate
        if given < LOWEST_RATE or given != int(given):
            raise AudioError(f"array: a sample rate is a whole number from {LOWEST_RATE} Hz on, got {given}", "rate")
        return resample_blocks([(samples.float(), int(given))], rate)

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
            recording.samples = cut.samples
            yield recording, None, None

    @torch.inference_mode()
    def _score(self, batch: list) -> None:
        """Note the logit of P(fake) of each (recording, start, window) with its recording, and empty the batch."""
        if not batch:
            return
        stacked = torch.stack([window for *_, window in batch]).to(next(self.model.parameters()).device)  # [B, T]
        logits = self._scorer()(stacked).diff(dim=1).squeeze(1).tolist()  # [B]
        for (recording, start, _), logit in zip(batch, logits, strict=True):
            recording.pending -= 1
            recording.windows.append((start, logit))
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
        return name, Prediction(name, score, self.threshold, seconds, times, scores, self.uncertain)

    def _probability(self, logits) -> np.ndarray:
        slope, offset = self.calibration
        return torch.as_tensor(slope * logits + offset, dtype=torch.float64).sigmoid().numpy()


@dataclass
class _Recording:
    """What is known so far of a recording that is being judged."""

    name: str
    samples: int = 0
    pending: int = 0  # windows that wait for their logit
    windows: list[tuple[int, float]] = field(default_factory=list)  # (start in samples, logit of P(fake))
    error: AudioError | None = None
