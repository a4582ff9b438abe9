"""The detector in use: one file, a folder, or a long recording over time."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from dfa_utils.audio import AudioError, resample_blocks, stream_audio, windows
from dfa_utils.checkpoint import SHIPPED, CheckpointError, load_checkpoint
from dfa_utils.models import SpectrogramDetector, score_windows


@dataclass(frozen=True)
class Prediction:
    """What the detector says of one recording.

    label: "real" or "fake" (fake when score >= threshold); score: P(fake) in [0, 1], the mean over the windows;
    seconds: duration; times [N]: start of each judged window in s; scores [N]: P(fake) of each. Silent windows are
    not judged.
    """

    path: str
    label: str
    score: float
    threshold: float
    seconds: float
    times: np.ndarray
    scores: np.ndarray

    def __str__(self) -> str:
        sign = ">=" if self.label == "fake" else "<"
        why = f"score {self.score:.4f} {sign} threshold {self.threshold:.4f}, {self.seconds:.2f} s"
        return f"{self.path}: {self.label} ({why})"


class Detector:
    """A trained model with its threshold; `Detector.load()` gives one."""

    def __init__(self, model: SpectrogramDetector, info: dict):
        self.model, self.info = model.eval(), info
        self.threshold = float(info.get("threshold", 0.5))

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
            return self._judge(str(source), stream_audio(source, self.model.config.sample_rate))
        return self._judge("array", self._from_array(source, sample_rate))

    def predict_files(self, paths: Iterable) -> Iterator[tuple[str, Prediction | AudioError]]:
        """Judge files one after the other; yields (path, Prediction), or (path, AudioError) and goes on."""
        for path in paths:
            try:
                yield str(path), self.predict(path)
            except AudioError as error:
                yield str(path), error

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

    def _judge(self, name: str, blocks: Iterable[torch.Tensor]) -> Prediction:
        config, counter = self.model.config, _Counter(blocks)
        cut = windows(counter, config.clip_samples, config.hop_samples)
        judged = list(score_windows(self.model, cut))
        if not judged:
            raise AudioError(f"{name}: silent throughout, so there is nothing to judge; check the recording")
        starts, scores = np.array(judged).T  # [N], [N]
        label = "fake" if scores.mean() >= self.threshold else "real"
        seconds, times = counter.samples / config.sample_rate, starts / config.sample_rate
        return Prediction(name, label, float(scores.mean()), self.threshold, seconds, times, scores)


class _Counter:
    """Passes blocks through and counts their samples."""

    def __init__(self, blocks: Iterable[torch.Tensor]):
        self.blocks, self.samples = blocks, 0

    def __iter__(self) -> Iterator[torch.Tensor]:
        for block in self.blocks:
            self.samples += len(block)
            yield block
