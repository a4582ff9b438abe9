"""Back ends that read a spectrogram as a row of tokens: a small spectrogram transformer, and a conformer."""

import torch
from torch import nn
from torch.nn.functional import pad
from torch.utils.checkpoint import checkpoint

from dfa_utils.config import Config

PATCH = 16  # bands and frames of one patch
REACH = 10_000.0  # of the slowest wave of the positions, in tokens


class PatchTransformer(nn.Module):
    """Spectrogram [B, 1, n_mels, frames] -> logits [B, 2] (real, fake), by attention between patches of 16 x 16.

    The small sibling of the Audio Spectrogram Transformer (Gong, Chung, Glass 2021): each patch becomes a token, sines
    and cosines say where it lies, a class token gathers what `depth` layers of attention find. Any number of frames;
    what does not fill a patch is filled up with the mean, 0.
    """

    def __init__(self, config: Config):
        super().__init__()
        self.embed = nn.Conv2d(1, config.width, kernel_size=PATCH, stride=PATCH)
        self.class_token = nn.Parameter(torch.randn(1, 1, config.width) * 0.02)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                config.width, config.heads, 4 * config.width, config.dropout, "gelu", batch_first=True, norm_first=True
            )
            for _ in range(config.depth)
        )
        self.norm, self.dropout = nn.LayerNorm(config.width), nn.Dropout(config.dropout)
        self.head, self.recompute = nn.Linear(config.width, 2), config.recompute

    def forward(self, spectrogram: torch.Tensor) -> torch.Tensor:
        x = self.tokens(spectrogram)  # [B, 1 + patches, width]
        for layer in self.layers:
            x = run(layer, x, recompute=self.recompute and self.training)
        return self.head(self.dropout(self.norm(x[:, 0])))  # [B, 2]

    def tokens(self, spectrogram: torch.Tensor) -> torch.Tensor:
        """The class token and those of the patches, with their places: [B, 1 + patches, width]."""
        bands, frames = spectrogram.shape[2:]
        x = self.embed(pad(spectrogram, (0, -frames % PATCH, 0, -bands % PATCH)))  # [B, width, rows, columns]
        x = x + _grid(*x.shape[1:], x.device)
        x = x.flatten(2).transpose(1, 2)  # [B, patches, width]
        return torch.cat([self.class_token.expand(x.shape[0], -1, -1), x], dim=1)


class Conformer(nn.Module):
    """Spectrogram [B, 1, n_mels, frames] -> logits [B, 2] (real, fake), by `depth` blocks of attention and convolution.

    Two convolutions with steps of 2 make one token of four frames; then torchaudio's Conformer (Gulati et al. 2020);
    mean and maximum over time as in the CNN. Any number of frames.
    """

    def __init__(self, config: Config):
        from torchaudio.models.conformer import ConformerLayer

        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, config.channels[0], kernel_size=3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(config.channels[0]),
            nn.ReLU(inplace=True),
            nn.Conv2d(config.channels[0], config.channels[0], kernel_size=3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(config.channels[0]),
            nn.ReLU(inplace=True),
        )
        rows = -(-config.n_mels // 4)
        self.embed = nn.Linear(config.channels[0] * rows, config.width)
        self.layers = nn.ModuleList(
            ConformerLayer(config.width, 4 * config.width, config.heads, 31, config.dropout, use_group_norm=True)
            for _ in range(config.depth)
        )
        self.dropout, self.head = nn.Dropout(config.dropout), nn.Linear(2 * config.width, 2)
        self.recompute = config.recompute

    def forward(self, spectrogram: torch.Tensor) -> torch.Tensor:
        x = self.embed(self.stem(spectrogram).flatten(1, 2).transpose(1, 2))  # [B, frames/4, width]
        x = (x + _waves(x.shape[1], x.shape[2], x.device)).transpose(0, 1)  # [frames/4, B, width]
        for layer in self.layers:
            x = run(layer, x, None, recompute=self.recompute and self.training)
        x = torch.cat([x.mean(dim=0), x.amax(dim=0)], dim=1)  # [B, 2 * width]
        return self.head(self.dropout(x))


def run(layer: nn.Module, *inputs: torch.Tensor | None, recompute: bool) -> torch.Tensor:
    """What the layer gives; with `recompute` its inner values are computed again for the gradient, to save memory."""
    return checkpoint(layer, *inputs, use_reentrant=False) if recompute else layer(*inputs)


def _waves(length: int, width: int, device: torch.device) -> torch.Tensor:
    """Sines and cosines [length, width] of the place (Vaswani et al. 2017); `width` is even."""
    rates = REACH ** (-torch.arange(0, width, 2, device=device) / width)
    angles = torch.arange(length, device=device)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def _grid(width: int, rows: int, columns: int, device: torch.device) -> torch.Tensor:
    """Places [width, rows, columns]: one half of the numbers says the row, the other the column."""
    half = width // 2
    across = _waves(rows, half, device).T[:, :, None].expand(-1, -1, columns)
    along = _waves(columns, width - half, device).T[:, None, :].expand(-1, rows, -1)
    return torch.cat([across, along])
