"""A back end that measures how much cepstra move, and forgets when and in which order."""

import torch
from torch import nn
from torch.nn.functional import pad
from torchaudio.functional import create_dct

from dfa_utils.config import Config

LEAST_SPREAD = 1e-3  # of a cepstral coefficient over time, in units of db_scale


class Statistics(nn.Module):
    """Spectrograms [B, 1, n_mels, frames], one a view -> logits [B, 2] (real, fake), from how much their cepstra move.

    The standard deviations over time, as logarithms, of all cepstral coefficients and of their first and second
    differences (over linear bands: LFCC, as in the baselines of ASVspoof) go through one hidden layer. When and in
    which order things sound is lost, and with it most of what could be learnt by heart. Short and long windows see
    different things: views with several n_fft tell more than one.
    """

    def __init__(self, config: Config):
        super().__init__()
        sizes = [view.n_mels for view in config.spectrograms]
        for i, size in enumerate(sizes):
            self.register_buffer(f"cosines{i}", create_dct(size, size, "ortho").T.contiguous(), persistent=False)
        self.normalise = nn.BatchNorm1d(3 * sum(sizes), affine=False)
        self.layers = nn.Sequential(
            nn.Dropout(config.dropout),
            nn.Linear(3 * sum(sizes), config.channels[-1]),
            nn.ReLU(inplace=True),
            nn.Dropout(config.dropout),
            nn.Linear(config.channels[-1], 2),
        )

    def forward(self, *spectrograms: torch.Tensor) -> torch.Tensor:
        return self.judge(self.measure(*spectrograms))

    def measure(self, *spectrograms: torch.Tensor) -> torch.Tensor:
        """The deviations of all views, [B, 3 * bands of all]: the same in all detectors with these views."""
        with torch.autocast(spectrograms[0].device.type, enabled=False):
            return torch.cat([self._spread(i, view.float()) for i, view in enumerate(spectrograms)], dim=1)

    def judge(self, deviations: torch.Tensor) -> torch.Tensor:
        """Logits [B, 2] from what `measure` gives."""
        with torch.autocast(deviations.device.type, enabled=False):
            return self.layers(self.normalise(deviations))

    def _spread(self, i: int, spectrogram: torch.Tensor) -> torch.Tensor:
        cepstrum = self.get_buffer(f"cosines{i}") @ spectrogram.squeeze(1)  # [B, n_mels, frames]
        moving = [cepstrum, _differences(cepstrum)]
        moving.append(_differences(moving[1]))
        return torch.cat([_deviation(x) for x in moving], dim=1).clamp_min(LEAST_SPREAD).log()


def _differences(x: torch.Tensor) -> torch.Tensor:
    """How [B, n_mels, frames] changes per frame: the slope of a line through five frames, as in speech recognition.

    What `torchaudio.functional.compute_deltas` gives, in fewer steps, and for a batch of any size in one graph.
    """
    x = pad(x, (2, 2), mode="replicate")
    return (2 * (x[..., 4:] - x[..., :-4]) + x[..., 3:-1] - x[..., 1:-3]) / 10


def _deviation(x: torch.Tensor) -> torch.Tensor:
    """Standard deviation over the last dimension; `x.std()` takes many times as long on a CPU."""
    return torch.linalg.vector_norm(x - x.mean(dim=-1, keepdim=True), dim=-1) / x.shape[-1] ** 0.5
