"""Whether a recording holds what the detector was made for: enough speech, with more than a telephone's bandwidth.

The score of music, noise or half a word means nothing. So every window is measured as well as scored, and if speech is
missing, the verdict is "uncertain", with the reason in words.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn.functional import avg_pool1d, max_pool1d

from dfa_utils.checkpoint import RELEASED, CheckpointError, load_checkpoint
from dfa_utils.models import SpectrogramDetector, fuse_for_scoring

SPEECH_CHECK = RELEASED.with_name("speech.safetensors")
LEAST_SECONDS = 0.5  # of sound
LEAST_SHARE = 0.25  # of the windows must hold speech
FAINT = 30.0  # dB; a frame that is this far below the loudest tenth of a second counts as a pause
PAUSE = 0.2  # s; a shorter pause counts as sound
HIGH = 5_200.0  # Hz; above it, a recording made at 8 kHz has not even the mirror images that resampling leaves
NOTHING = -64.0  # dB, relative to a window's loudest point; the loudest band above HIGH must reach it


def reason_to_abstain(measures: Sequence[Sequence[float]], limit: float, seconds: float) -> str:
    """Why a recording should not be judged, in words; "" if nothing speaks against it.

    `measures` [N, 3] are those of its N windows, by a `SpeechCheck`. From the logit `limit` on, a window holds no
    speech. `seconds` is the duration of the recording's sounds.
    """
    unlike, sounding, high = np.array(measures).T
    if sounding.mean() * seconds < LEAST_SECONDS:
        return f"less than {LEAST_SECONDS:g} s of sound, too little to judge"
    if np.mean(unlike < limit) < LEAST_SHARE:
        return "no clear speech in it, but strong noise, tones or music"
    if high.max() < NOTHING:
        return f"nothing above {HIGH / 1000:g} kHz, as on a telephone, which cuts off most traces of synthesis"
    return ""


class SpeechCheck(nn.Module):
    """Measures windows [B, T] at config.sample_rate Hz for `reason_to_abstain`: [B, 3].

    The columns are the logit of "no speech", from a small CNN; the share of the window that sounds, short pauses
    included, in [0, 1]; and the level in dB of the loudest band above HIGH in its loudest tenth of a second, relative
    to the window's loudest point. From the logit `limit` on, a window holds no speech.
    """

    def __init__(self, model: SpectrogramDetector, limit: float):
        super().__init__()
        self.model, self.config, self.limit = fuse_for_scoring(model), model.config, limit
        frames_per_second = model.config.sample_rate / model.config.hop_length
        reach = round(PAUSE * frames_per_second / 2)
        self.tenth, self.around = round(0.1 * frames_per_second), (2 * reach + 1, 1, reach)  # kernel, stride, padding
        self.first_high = int((model.front_end.hertz < HIGH).sum())

    @classmethod
    def load(cls, path: str | Path = SPEECH_CHECK) -> "SpeechCheck":
        """The check that ships with the package. Raises CheckpointError for a file that cannot be used."""
        model, info = load_checkpoint(path)
        if "limit" not in info:
            raise CheckpointError(f"{path}: holds no limit, so it is not a speech check")
        return cls(model, float(info["limit"]))

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        spectrogram = self.model.front_end(waveform)  # [B, 1, n_mels, frames] in dB
        logits = self.model.classify(spectrogram)
        return torch.stack([logits[:, 1] - logits[:, 0], self._sounding(spectrogram), self._high(spectrogram)], dim=1)

    def _sounding(self, spectrogram: torch.Tensor) -> torch.Tensor:
        """Share of the frames [B] that are not in a pause."""
        power = torch.pow(10.0, spectrogram / 10).mean(dim=2)  # [B, 1, frames]
        loudest = self._tenths(power).amax(dim=2, keepdim=True)
        sounds = (power > loudest * 10 ** (-FAINT / 10)).to(power.dtype)
        filled = max_pool1d(sounds, *self.around)  # short pauses are; its inverse is widened again
        return 1 - max_pool1d(1 - filled, *self.around).mean(dim=(1, 2))

    def _high(self, spectrogram: torch.Tensor) -> torch.Tensor:
        """Level [B] in dB of the loudest band above HIGH in its loudest 0.1 s, against the window's loudest point."""
        level = spectrogram[:, :, self.first_high :].amax(dim=2)  # [B, 1, frames]
        return self._tenths(level).amax(dim=(1, 2)) - spectrogram.amax(dim=(1, 2, 3))

    def _tenths(self, level: torch.Tensor) -> torch.Tensor:
        """Mean over each tenth of a second of [B, 1, frames]; over all of a shorter one."""
        return avg_pool1d(level, min(self.tenth, level.shape[2]), stride=1)
