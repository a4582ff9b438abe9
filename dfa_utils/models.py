"""The detector: front end and network in one module, so that training and use cannot differ in their features.

Waveform in, two logits out, in the order real, fake.
"""

import copy
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import pad
from torch.nn.utils.fusion import fuse_conv_bn_eval

from dfa_utils.config import Config
from dfa_utils.features import LogMel, SpecAugment, standardise
from dfa_utils.support import look_up

LEAST_SIZE = 32  # bands and frames; a vision model that halves its picture five times needs that many


def _convolution(c_in: int, c_out: int, size: int, stride: int = 1) -> list[nn.Module]:
    """Convolution, batch norm and ReLU: [B, C_in, F, T] -> [B, C_out, F/stride, T/stride], rounded up."""
    convolution = nn.Conv2d(c_in, c_out, size, stride, padding=size // 2, bias=False)
    return [convolution, nn.BatchNorm2d(c_out), nn.ReLU(inplace=True)]


class ConvBlock(nn.Sequential):
    """3x3 convolution, batch norm, ReLU, maximum over 2x2: [B, C_in, F, T] -> [B, C_out, F/2, T/2], rounded up."""

    def __init__(self, c_in: int, c_out: int):
        super().__init__(*_convolution(c_in, c_out, size=3), nn.MaxPool2d(2, ceil_mode=True))


class CNN(nn.Module):
    """Spectrogram [B, 1, n_mels, frames] -> logits [B, 2] (real, fake), for any number of frames.

    The first convolution strides by 2 in both directions, which quarters the cost of all later layers.
    """

    def __init__(self, config: Config):
        super().__init__()
        self.stem = nn.Sequential(*_convolution(1, config.channels[0], size=5, stride=2))
        self.blocks = nn.Sequential(*(ConvBlock(c_in, c_out) for c_in, c_out in pairwise(config.channels)))
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(2 * config.channels[-1], 2)

    def forward(self, spectrogram: torch.Tensor) -> torch.Tensor:
        x = self.stem(spectrogram)  # [B, C0, n_mels/2, frames/2]
        x = self.blocks(x)  # [B, C, n_mels/32, frames/32]
        x = x.mean(dim=2)  # [B, C, frames/32]
        x = torch.cat([x.mean(dim=2), x.amax(dim=2)], dim=1)  # [B, 2C]: mean and maximum over time
        return self.head(self.dropout(x))  # [B, 2]


class Timm(nn.Module):
    """Spectrogram [B, 1, n_mels, frames] -> logits [B, 2] (real, fake), by a vision model of timm: "timm:NAME".

    It takes any number of frames. `config.pretrained` names a .safetensors file of weights to start from. Raises
    ImportError without timm, and ValueError for a name that timm does not have or a file that is not there.
    """

    def __init__(self, config: Config, pretrained: bool = True):
        super().__init__()
        try:
            import timm
        except ModuleNotFoundError as error:
            raise ImportError(f"the model {config.model!r} needs timm: pip install timm") from error
        name = config.model.removeprefix("timm:")
        if not timm.is_model(name):
            similar = ", ".join(timm.list_models(f"*{name.split('_')[0]}*")[:5]) or "see timm.list_models()"
            raise ValueError(f"timm has no model called {name!r}; similar names: {similar}")
        options = {"in_chans": 1, "num_classes": 2, "drop_rate": config.dropout}
        if pretrained and config.pretrained:
            options |= {"pretrained": True, "pretrained_cfg_overlay": {"file": _weights_of(config.pretrained, name)}}
        size = config.n_mels, 1 + config.clip_samples // config.hop_length
        try:  # a vision transformer learns one positional embedding per patch, and can interpolate them
            flexible = {"img_size": size, "dynamic_img_size": True, "dynamic_img_pad": True}
            self.network = timm.create_model(name, **options, **flexible)
        except TypeError:  # other models take any size as they are
            self.network = timm.create_model(name, **options)

    def forward(self, spectrogram: torch.Tensor) -> torch.Tensor:
        bands, frames = spectrogram.shape[2:]
        return self.network(pad(spectrogram, (0, max(0, LEAST_SIZE - frames), 0, max(0, LEAST_SIZE - bands))))


BACK_ENDS = {"cnn": CNN}


class SpectrogramDetector(nn.Module):
    """Front end and back end in one: waveform [B, T] at config.sample_rate Hz -> logits [B, 2] (real, fake).

    The weights are stored channels last, which makes convolutions on a CPU twice as fast. `pretrained`: see
    `build_model`.
    """

    def __init__(self, config: Config, pretrained: bool = True):
        super().__init__()
        self.config = config
        self.front_end = LogMel(config)
        self.mask = SpecAugment(config.mask_bands, config.mask_frames)
        self.back_end = _back_end(config, pretrained).to(memory_format=torch.channels_last)

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        return self.classify(self.front_end(waveform))

    def classify(self, spectrogram: torch.Tensor) -> torch.Tensor:
        """Logits [B, 2] from the spectrogram in dB [B, 1, n_mels, frames], as `front_end` gives it."""
        return self.back_end(self.mask(standardise(spectrogram, self.config.mean_subtraction)))


def fuse_for_scoring(model: nn.Module) -> nn.Module:
    """A copy in evaluation mode with each batch norm folded into the convolution before it: same logits, less work."""
    model = copy.deepcopy(model).eval()
    for layers in [module for module in model.modules() if isinstance(module, nn.Sequential)]:
        for i, (layer, following) in enumerate(pairwise(layers)):
            if isinstance(layer, nn.Conv2d) and isinstance(following, nn.BatchNorm2d):
                layers[i], layers[i + 1] = fuse_conv_bn_eval(layer, following), nn.Identity()
    return model


def build_model(name: str | None = None, config: Config | None = None, pretrained: bool = True) -> SpectrogramDetector:
    """A fresh detector by the name of its back end (None: the config's), seeded by config.seed.

    Names are those of BACK_ENDS, and "timm:NAME" for the vision models of timm. `pretrained=False` ignores the weights
    that `config.pretrained` names, as a checkpoint replaces them all. Raises ValueError that lists the known names, and
    ImportError for a missing package.
    """
    config = config or Config()
    config = replace(config, model=name or config.model)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(config.seed)
        return SpectrogramDetector(config, pretrained)


def count_parameters(module: nn.Module) -> int:
    """Number of weights that training can change."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def _back_end(config: Config, pretrained: bool) -> nn.Module:
    """The network behind the spectrogram, by the config's name."""
    if config.model.startswith("timm:"):
        return Timm(config, pretrained)
    return look_up(BACK_ENDS | {"timm:NAME": None}, config.model, "model")(config)


def _weights_of(path: str, name: str) -> str:
    """The file with a timm model's weights."""
    file = Path(path) / "model.safetensors" if Path(path).is_dir() else Path(path)
    if file.suffix != ".safetensors" or not file.exists():
        cure = f"hf download timm/{name}.TAG model.safetensors --local-dir FOLDER (the model's page names the tags)"
        raise ValueError(f"{path}: no .safetensors file of weights there; with a network, download one: {cure}")
    return str(file)
