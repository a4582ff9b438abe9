"""The detector: front end and network in one module, so that no checkpoint meets other features than it was trained on.

Waveform in, two logits out, in the order real, fake.
"""

import copy
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchaudio.functional import compute_deltas, create_dct

from dfa_utils.audio import is_silent
from dfa_utils.config import VIEW, Config
from dfa_utils.features import LogMel, SpecAugment, standardise


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
        moving = [cepstrum, compute_deltas(cepstrum)]
        moving.append(compute_deltas(moving[1]))
        return torch.cat([x.std(dim=2, correction=0) for x in moving], dim=1).clamp_min(LEAST_SPREAD).log()


BACK_ENDS = {"cnn": CNN, "statistics": Statistics}
LEAST_SPREAD = 1e-3  # of a cepstral coefficient over time, in units of db_scale
WINDOW = ("sample_rate", "clip_seconds", "hop_seconds")  # what the members of an ensemble agree in
ADVICE = 2.0  # how far an ensemble's advisers can move its logit at most
FRONT_END = (*VIEW, "scale", "top_db", "db_scale")  # what makes a front end


class Detecting(nn.Module):
    """What turns waveforms [B, T] at config.sample_rate Hz into logits [B, 2] (real, fake)."""

    config: Config

    @torch.inference_mode()
    def predict_proba(self, waveform: torch.Tensor) -> torch.Tensor:
        """Softmax of the logits, [B, 2]: P(real), P(fake), computed in evaluation mode."""
        was_training = self.training
        probabilities = self.eval()(waveform).softmax(dim=1)
        self.train(was_training)
        return probabilities


class SpectrogramDetector(Detecting):
    """Front end and back end in one: waveform [B, T] at config.sample_rate Hz -> logits [B, 2] (real, fake).

    The weights lie channels last in memory, as the processors' kernels want them: twice as fast on a CPU. Raises
    ValueError for a back end that cannot take the config's number of views.
    """

    def __init__(self, config: Config):
        super().__init__()
        if config.views and config.model != "statistics":
            raise ValueError(f"the model {config.model!r} looks at one spectrogram; leave `views` empty")
        self.config = config
        self.front_ends = nn.ModuleList(LogMel(view) for view in config.spectrograms)
        self.mask = SpecAugment(config.mask_bands, config.mask_frames)
        self.back_end = BACK_ENDS[config.model](config).to(memory_format=torch.channels_last)

    @property
    def front_end(self) -> LogMel:
        """The front end of the first spectrogram; most detectors have no other."""
        return self.front_ends[0]

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        return self.judge([standardise(front_end(waveform), self.config.db_scale) for front_end in self.front_ends])

    def judge(self, spectrograms: list[torch.Tensor]) -> torch.Tensor:
        """Logits [B, 2] from the standardised spectrograms [B, 1, n_mels, frames], one a view."""
        return self.back_end(*map(self.mask, spectrograms))


class Ensemble(Detecting):
    """Several detectors of one sample rate and window, of which some lead and the others advise.

    The logit of P(fake) is the mean of the leaders', plus ADVICE times the hyperbolic tangent of the advisers' mean,
    which decides where the leaders are undecided and cannot outvote them elsewhere. `leads` [members] says who leads
    (None: all, and it is the mean of all). `calibration` [2], a slope and an offset, turns that logit into one that can
    be believed (see `dfa_utils.analysis.calibrate`). Members share the work on what they see alike. `config` is the first
    member's. Raises ValueError for members that cut recordings into other windows, and where none leads.
    """

    def __init__(self, members: Sequence[SpectrogramDetector], leads: Sequence[bool] | None = None):
        super().__init__()
        self.members, self.config = nn.ModuleList(members), members[0].config
        self.register_buffer("leads", torch.tensor([True] * len(members) if leads is None else leads))
        self.register_buffer("calibration", torch.tensor([1.0, 0.0]))
        if len(self.leads) != len(members) or not self.leads.any():
            raise ValueError(f"of {len(members)} members at least one must lead, got {self.leads.tolist()}")
        if len({tuple(getattr(member.config, name) for name in WINDOW) for member in members}) > 1:
            raise ValueError(f"members of an ensemble must agree in {', '.join(WINDOW)}")

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        seen: dict[tuple, torch.Tensor] = {}
        logits = torch.cat([self._ask(member, waveform, seen) for member in self.members], dim=1)  # [B, members]
        logit = logits[:, self.leads].mean(dim=1)
        if not self.leads.all():
            logit = logit + ADVICE * logits[:, ~self.leads].mean(dim=1).tanh()
        slope, offset = self.calibration
        logit = slope * logit + offset
        return torch.stack([-logit, logit], dim=1) / 2  # [B, 2]

    @staticmethod
    def _ask(member: SpectrogramDetector, waveform: torch.Tensor, seen: dict[tuple, torch.Tensor]) -> torch.Tensor:
        """A member's logit of P(fake) [B, 1]; what it shares with members to come is left in `seen`."""
        keys = [tuple(getattr(view, name) for name in FRONT_END) for view in member.config.spectrograms]
        for key, front_end in zip(keys, member.front_ends, strict=True):
            if key not in seen:
                seen[key] = standardise(front_end(waveform), member.config.db_scale)
        views = [seen[key] for key in keys]
        if isinstance(member.back_end, Statistics) and not member.training:
            if (whole := tuple(keys)) not in seen:
                seen[whole] = member.back_end.measure(*views)
            return member.back_end.judge(seen[whole]).diff(dim=1)
        return member.judge(views).diff(dim=1)


def fuse_for_scoring(model: Detecting) -> Detecting:
    """A copy in evaluation mode with each batch norm folded into the convolution before it: same logits, less work."""
    model = copy.deepcopy(model).eval()
    for layers in [module for module in model.modules() if isinstance(module, nn.Sequential)]:
        for i, (layer, following) in enumerate(pairwise(layers)):
            if isinstance(layer, nn.Conv2d) and isinstance(following, nn.BatchNorm2d):
                layers[i], layers[i + 1] = fuse_conv_bn_eval(layer, following), nn.Identity()
    return model


def score_windows(model: Detecting, windows: list[torch.Tensor]) -> list[float | None]:
    """P(fake) of windows [T] of one length, as one batch; None for silence, in which there is nothing to judge."""
    stacked = torch.stack(windows).to(next(model.parameters()).device)  # [B, T]
    scores, silent = model.predict_proba(stacked)[:, 1].tolist(), is_silent(stacked).tolist()
    return [None if nothing else score for score, nothing in zip(scores, silent, strict=True)]


def build_model(name: str | None = None, config: Config | None = None) -> SpectrogramDetector:
    """A fresh detector by the name of its back end (None: the config's), seeded by config.seed.

    Raises ValueError that lists the known names.
    """
    config = config or Config()
    config = replace(config, model=name or config.model)
    if config.model not in BACK_ENDS:
        raise ValueError(f"no model called {config.model!r}; known: {', '.join(sorted(BACK_ENDS))}")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(config.seed)
        return SpectrogramDetector(config)


def count_parameters(module: nn.Module) -> int:
    """Numbers that training may change."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
