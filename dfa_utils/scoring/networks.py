"""What windows go through when they are scored with torch: the detector, and the check that they hold speech."""

from itertools import chain
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn.functional import avg_pool1d, max_pool1d

from dfa_utils.checkpoint import SHIPPED, load_checkpoint
from dfa_utils.features import standardise
from dfa_utils.models import SpectrogramDetector, fuse_for_scoring
from dfa_utils.scoring.speech import FAINT, HIGH, PAUSE
from dfa_utils.support.figures import CheckpointError

SPEECH = SHIPPED.with_name("speech.safetensors")


class SpeechCheck(nn.Module):
    """Measures windows [B, T] at config.sample_rate Hz: [B, 3], what `scoring.speech.reason_to_doubt` reads.

    The columns: the logit of "no speech", from a small CNN that `release.speech` trains; the share of the window that
    sounds, short pauses included, in [0, 1]; the level in dB of its loudest tenth of a second above HIGH, against the
    window's loudest point. `limit` is the logit from which on a window holds no speech.
    """

    def __init__(self, model: SpectrogramDetector, limit: float):
        super().__init__()
        self.model, self.config, self.limit = fuse_for_scoring(model), model.config, limit
        frames_per_second = model.config.sample_rate / model.config.hop_length
        self.tenth, self.reach = round(0.1 * frames_per_second), round(PAUSE * frames_per_second / 2)
        self.first_high = int((model.front_end.hertz < HIGH).sum())

    @classmethod
    def load(cls, path: str | Path = SPEECH) -> "SpeechCheck":
        """The check that ships with the package. Raises CheckpointError for a file that cannot be used."""
        model, info = load_checkpoint(path)
        if "limit" not in info:
            raise CheckpointError(f"{path}: holds no limit, so it is no check for speech; see `release.speech`")
        return cls(model, float(info["limit"]))

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        return self.measure(self.model.front_end(waveform))

    def measure(self, spectrogram: torch.Tensor) -> torch.Tensor:
        """The measures [B, 3] from the spectrogram in dB [B, 1, n_mels, frames]."""
        logits = self.model.judge([standardise(spectrogram, self.config.db_scale, self.config.centre)])
        return torch.stack([logits[:, 1] - logits[:, 0], self._sounding(spectrogram), self._high(spectrogram)], dim=1)

    def _sounding(self, spectrogram: torch.Tensor) -> torch.Tensor:
        """Share of the frames [B] that are no pause."""
        power = torch.pow(10.0, spectrogram / 10).mean(dim=2)  # [B, 1, frames]
        loudest = self._tenths(power).amax(dim=2, keepdim=True)
        sounds = (power > loudest * 10 ** (-FAINT / 10)).to(power.dtype)
        around = {"kernel_size": 2 * self.reach + 1, "stride": 1, "padding": self.reach}
        filled = max_pool1d(sounds, **around)
        return 1 - max_pool1d(1 - filled, **around).mean(dim=(1, 2))

    def _high(self, spectrogram: torch.Tensor) -> torch.Tensor:
        """Level [B] in dB of the loudest tenth of a second above HIGH, against the loudest point."""
        level = spectrogram[:, :, self.first_high :].mean(dim=2)  # [B, 1, frames]
        return self._tenths(level).amax(dim=(1, 2)) - spectrogram.amax(dim=(1, 2, 3))

    def _tenths(self, level: torch.Tensor) -> torch.Tensor:
        """Mean over each tenth of a second of [B, 1, frames]; over all of it, if it is shorter."""
        return avg_pool1d(level, min(self.tenth, level.shape[2]), stride=1)


class TorchScorer:
    """A detector in torch and, if one is given, a `SpeechCheck` for the same sample rate."""

    def __init__(self, model: nn.Module, speech: SpeechCheck | None = None):
        self.model, self.speech = model.eval(), speech
        self._fused: tuple[list[int], nn.Module] | None = None

    @torch.inference_mode()
    def score(self, windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The logit of P(fake) [B] of each window [B, T], and its measures [B, 3]; [B, 0] without a check."""
        windows = torch.from_numpy(windows).to(next(self.model.parameters()).device)
        logits = self._for_scoring()(windows).diff(dim=1).squeeze(1)
        measures = self.speech(windows) if self.speech else windows[:, :0]
        return logits.cpu().numpy(), measures.cpu().numpy()

    def _for_scoring(self) -> nn.Module:
        """The model fused for scoring; made once, and anew when an optimizer or a loader has changed the weights."""
        versions = [tensor._version for tensor in chain(self.model.parameters(), self.model.buffers())]
        if self._fused is None or self._fused[0] != versions:
            self._fused = versions, fuse_for_scoring(self.model)
        return self._fused[1]
