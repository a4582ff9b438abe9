"""The detector: front end and network in one module, so that no checkpoint meets other features than it was trained on.

Waveform in, two logits out, in the order real, fake.
"""

import copy
from dataclasses import replace
from itertools import pairwise

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from dfa_utils.backends.borrowed import SPEECH, SpectrogramTransformer, Speech, Timm, freeze
from dfa_utils.backends.statistics import Statistics
from dfa_utils.backends.tokens import Conformer, PatchTransformer
from dfa_utils.config import Config
from dfa_utils.features import LogMel, SpecAugment, normalise_waveform, standardise
from dfa_utils.support.lookup import find_entry


class ConvBlock(nn.Sequential):
    """3x3 convolution, batch norm, ReLU, maximum over 2x2: [B, C_in, F, T] -> [B, C_out, F/2, T/2], rounded up."""

    def __init__(self, c_in: int, c_out: int):
        super().__init__(
            nn.Conv2d(c_in, c_out, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(c_out),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2, ceil_mode=True),
        )


class CNN(nn.Module):
    """Spectrogram [B, 1, n_mels, frames] -> logits [B, 2] (real, fake), for any number of frames.

    The first convolution already steps by 2 in both directions, which quarters the arithmetic of all that follows.
    """

    def __init__(self, config: Config):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, config.channels[0], kernel_size=5, stride=2, padding=2, bias=False),
            nn.BatchNorm2d(config.channels[0]),
            nn.ReLU(inplace=True),
        )
        self.blocks = nn.Sequential(*(ConvBlock(c_in, c_out) for c_in, c_out in pairwise(config.channels)))
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(2 * config.channels[-1], 2)

    def forward(self, spectrogram: torch.Tensor) -> torch.Tensor:
        x = self.stem(spectrogram)  # [B, C0, n_mels/2, frames/2]
        x = self.blocks(x)  # [B, C, n_mels/32, frames/32]
        x = x.mean(dim=2)  # [B, C, frames/32]
        x = torch.cat([x.mean(dim=2), x.amax(dim=2)], dim=1)  # [B, 2C]: how it sounds on the whole, and at its oddest
        return self.head(self.dropout(x))  # [B, 2]


BACK_ENDS = {"cnn": CNN, "statistics": Statistics, "conformer": Conformer, "ast": PatchTransformer}


class SpectrogramDetector(nn.Module):
    """Front end and back end in one: waveform [B, T] at config.sample_rate Hz -> logits [B, 2] (real, fake).

    The weights lie channels last in memory, as the processors' kernels want them: twice as fast on a CPU. Raises
    ValueError for a back end that cannot take the config's number of views. `borrow`: see `build_model`.
    """

    def __init__(self, config: Config, borrow: bool = True):
        super().__init__()
        if config.views and config.model != "statistics":
            raise ValueError(f"the model {config.model!r} looks at one spectrogram; leave `views` empty")
        self.config = config
        self.front_ends = nn.ModuleList(LogMel(view) for view in config.spectrograms)
        self.mask = SpecAugment(config.mask_bands, config.mask_frames)
        self.back_end = _back_end(config, borrow).to(memory_format=torch.channels_last)
        freeze(self.back_end, config.frozen_layers)

    @property
    def front_end(self) -> LogMel:
        """The front end of the first spectrogram; most detectors have no other."""
        return self.front_ends[0]

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        scale, centre = self.config.db_scale, self.config.centre
        return self.judge([standardise(front_end(waveform), scale, centre) for front_end in self.front_ends])

    def judge(self, spectrograms: list[torch.Tensor]) -> torch.Tensor:
        """Logits [B, 2] from the standardised spectrograms [B, 1, n_mels, frames], one a view."""
        return self.back_end(*map(self.mask, spectrograms))


class WaveformDetector(nn.Module):
    """A borrowed model of speech that reads waveforms: [B, T] at config.sample_rate Hz -> logits [B, 2] (real, fake).

    Gain and DC offset of a clip do not show. It has no spectrogram, so `analysis.explain` cannot explain it.
    """

    def __init__(self, config: Config, borrow: bool = True):
        super().__init__()
        self.config, self.front_ends = config, nn.ModuleList()
        self.back_end = Speech(config, borrow)
        freeze(self.back_end, config.frozen_layers)

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        return self.back_end(normalise_waveform(waveform))


def fuse_for_scoring(model: nn.Module) -> nn.Module:
    """A copy in evaluation mode with each batch norm folded into the convolution before it: same logits, less work."""
    model = copy.deepcopy(model).eval()
    for layers in [module for module in model.modules() if isinstance(module, nn.Sequential)]:
        for i, (layer, following) in enumerate(pairwise(layers)):
            if isinstance(layer, nn.Conv2d) and isinstance(following, nn.BatchNorm2d):
                layers[i], layers[i + 1] = fuse_conv_bn_eval(layer, following), nn.Identity()
    return model


def build_model(name: str | None = None, config: Config | None = None, borrow: bool = True) -> nn.Module:
    """A fresh detector by the name of its back end (None: the config's), seeded by config.seed.

    Names are those of BACK_ENDS, "timm:NAME" for the vision models of timm, and those of SPEECH, which read waveforms.
    `borrow` takes the weights that `config.borrowed` names; without it they are random, for a checkpoint with them all.
    Raises ValueError that lists the known names, or says how to get the weights; ImportError for a missing package.
    """
    config = config or Config()
    config = replace(config, model=name or config.model)
    kind = WaveformDetector if config.model in SPEECH else SpectrogramDetector
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(config.seed)
        return kind(config, borrow)


def _back_end(config: Config, borrow: bool) -> nn.Module:
    """The network behind the spectrogram, by the config's name."""
    if config.model.startswith("timm:"):
        return Timm(config, borrow)
    if config.model == "ast" and config.borrowed:
        return SpectrogramTransformer(config, borrow)
    known = dict.fromkeys([*BACK_ENDS, "timm:NAME", *SPEECH]) | BACK_ENDS
    return find_entry(known, config.model, "model")(config)


def count_parameters(module: nn.Module) -> int:
    """Numbers that training may change."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
