"""Where in time and frequency a verdict comes from, and whether that answer can be trusted.

The network's input is explained: the standardised mel spectrogram. Removing a cell means setting it to the clip's mean,
which is 0 there. The score to be explained is the logit of P(fake): values above 0 speak for fake, values below 0 for
real. Every function works on the model's own device, on a copy in evaluation mode, and returns tensors on the CPU.
"""

import copy
from dataclasses import replace

import numpy as np
import torch
from scipy.integrate import trapezoid
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.nn.functional import interpolate

from dfa_utils.config import Config
from dfa_utils.features import band_corners, standardise
from dfa_utils.models import SpectrogramDetector, build_model

BATCH = 32  # clips that are explained at once


def grad_cam(model: SpectrogramDetector, waveforms: Tensor) -> Tensor:
    """Grad-CAM (Selvaraju et al. 2017): what each cell of the spectrogram adds to the score, in logits up to a scale.

    Shape: [B, T] -> [B, n_mels, frames]. Above 0 speaks for fake, below 0 for real. With two classes both signs have a
    meaning, so the paper's ReLU is left out. The last maps of a convolution are weighed, on their coarse grid, and
    interpolated to the spectrogram. Raises ValueError for a back end without maps of convolutions.
    """
    return torch.cat([_grad_cam(model, batch) for batch in waveforms.split(BATCH)])


def occlusion_by_band(model: SpectrogramDetector, waveforms: Tensor, bands: int = 8) -> Tensor:
    """What each band of mel rows adds to the score, in logits: by how much the score falls without the band.

    Shape: [B, T] -> [B, bands], lowest band first (`band_edges` gives their frequencies). Above 0: the band speaks for
    fake. Zeiler and Fergus 2014, with bands for patches. Raises ValueError for bands that are not 1 to n_mels.
    """
    starts = _band_starts(model.config, bands)
    return torch.cat([_occlude(model, batch, starts) for batch in waveforms.split(BATCH)])


def band_edges(config: Config, bands: int = 8) -> np.ndarray:
    """Edges [bands + 1] in Hz of the bands of `occlusion_by_band`; neighbours overlap by half a filter.

    Raises ValueError for bands that are not 1 to n_mels.
    """
    corners = band_corners(config)
    between = (corners[:-1] + corners[1:]) / 2
    return np.concatenate([corners[:1], between[_band_starts(config, bands)[1:]], corners[-1:]])


def randomisation_check(model: SpectrogramDetector, waveforms: Tensor, seed: int = 0) -> float:
    """Rank correlation, in [-1, 1], of the Grad-CAM maps of the model and of one with random weights; mean over clips.

    Near 0 is good: the maps show what was learnt. Far from 0, on either side, they show the clip whatever the weights.
    The random model is a fresh one of the same config. Adebayo et al. 2018, "Sanity checks for saliency maps".
    """
    # 2**31: the random weights must not be those from which the model's own training began
    fresh = build_model(config=replace(model.config, seed=2**31 + seed), pretrained=False)
    both = (grad_cam(each, waveforms).flatten(1) for each in (model, fresh.to(next(model.parameters()).device)))
    correlations = [spearmanr(*pair).statistic for pair in zip(*both, strict=True)]
    return float(np.nan_to_num(correlations).mean())  # NaN: a map is constant


def deletion_curve(model: SpectrogramDetector, waveforms: Tensor, maps: Tensor, steps: int = 10) -> np.ndarray:
    """Mean P(class called at 0.5) while cells are removed, first those that speak most for the verdict.

    Shape: an array [steps + 1], for shares of the cells from 0 to 1. It holds the mean over clips of the probability of
    the class that the model called when it saw all cells. The sooner it falls, the better the maps [B, n_mels, frames].
    Petsiuk et al. 2018 (RISE). Raises ValueError for maps that are not of the spectrograms' shape, or steps below 1.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    shares = np.linspace(0, 1, steps + 1)
    pairs = zip(waveforms.split(BATCH), maps.split(BATCH), strict=True)
    return torch.cat([_delete(model, *pair, shares) for pair in pairs]).mean(dim=0).numpy()  # from [B, steps + 1]


def moved(maps: Tensor, seed: int = 0) -> Tensor:
    """Each map [B, n_mels, frames] rolled to a random place: as smooth, with the same values, but it points elsewhere.

    This is the control of `faithfulness`. Single random cells would be a poor one: without them the spectrogram is so
    unlike any other that the network fails sooner than with any hole in it, and even a good map would seem worse.
    """
    rng = np.random.default_rng(seed)
    shifts = rng.integers(maps.shape[1:], size=(len(maps), 2)).tolist()
    return torch.stack([part.roll(shift, dims=(0, 1)) for part, shift in zip(maps, shifts, strict=True)])


def faithfulness(model: SpectrogramDetector, waveforms: Tensor, maps: Tensor, steps: int = 10, seed: int = 0) -> float:
    """Area under the deletion curve of maps at random places minus that of the maps; above 0 is faithful: [-1, 1]."""
    at_random, by_map = (deletion_curve(model, waveforms, part, steps) for part in (moved(maps, seed), maps))
    return float(trapezoid(at_random - by_map, dx=1 / steps))


# ---- one batch


def _prepare(model: SpectrogramDetector, waveforms: Tensor) -> tuple[nn.Module, Tensor]:
    """A copy of the back end in evaluation mode, and its input [B, 1, n_mels, frames]."""
    with torch.no_grad():
        db = model.front_end(waveforms.to(next(model.parameters()).device))
    return copy.deepcopy(model.back_end).eval(), standardise(db, model.config.mean_subtraction)


def _logit(back_end: nn.Module, spectrogram: Tensor) -> Tensor:
    return back_end(spectrogram).diff(dim=1).squeeze(1)  # [B]: fake - real, the logit of P(fake)


def _grad_cam(model: SpectrogramDetector, waveforms: Tensor) -> Tensor:
    back_end, spectrogram = _prepare(model, waveforms)
    maps = []  # [B, C, F, T], of each module with a convolution in it that returns more than one cell

    def _note(module, _, output):
        convolves = any(isinstance(part, nn.Conv2d) for part in module.modules())
        if convolves and isinstance(output, Tensor) and output.ndim == 4 and output[0, 0].numel() > 1:
            maps.append(output)

    for module in back_end.modules():
        module.register_forward_hook(_note)
    with torch.enable_grad():
        score = _logit(back_end, spectrogram.requires_grad_())  # [B]; a model with frozen weights has gradients too
        if not maps:
            name = type(back_end).__name__
            raise ValueError(f"{name} has no Conv2d that returns maps; use occlusion_by_band instead of Grad-CAM")
        weights = torch.autograd.grad(score.sum(), maps[-1])[0].mean(dim=(2, 3), keepdim=True)  # [B, C, 1, 1]
    evidence = (weights * maps[-1]).sum(dim=1, keepdim=True)  # [B, 1, F, T]
    return interpolate(evidence, spectrogram.shape[2:], mode="bilinear").squeeze(1).detach().cpu()


def _band_starts(config: Config, bands: int) -> np.ndarray:
    if not 1 <= bands <= config.n_mels:
        raise ValueError(f"bands must be 1 to {config.n_mels}, the number of mel rows, got {bands}")
    return np.arange(bands) * config.n_mels // bands  # the first row of each


@torch.no_grad()
def _occlude(model: SpectrogramDetector, waveforms: Tensor, starts: np.ndarray) -> Tensor:
    back_end, spectrogram = _prepare(model, waveforms)
    band = np.searchsorted(starts, np.arange(spectrogram.shape[2]), side="right") - 1  # [n_mels]
    kept = [torch.from_numpy(band != i).to(spectrogram.device)[:, None] for i in range(len(starts))]  # [n_mels, 1] each
    without = torch.stack([_logit(back_end, spectrogram * rows) for rows in kept], dim=1)  # [B, bands]
    return (_logit(back_end, spectrogram)[:, None] - without).cpu()


@torch.no_grad()
def _delete(model: SpectrogramDetector, waveforms: Tensor, maps: Tensor, shares: np.ndarray):
    back_end, spectrogram = _prepare(model, waveforms)
    if maps.shape != spectrogram[:, 0].shape:
        raise ValueError(f"maps {tuple(maps.shape)} do not fit spectrograms {tuple(spectrogram[:, 0].shape)}")
    side = torch.where(_logit(back_end, spectrogram) >= 0, 1, -1)  # [B]: the class called
    order = (-side[:, None] * maps.to(side.device).flatten(1)).argsort(dim=1)
    rank = order.argsort(dim=1).view_as(spectrogram)  # 0: the first to go
    left = [spectrogram * (rank >= round(share * order.shape[1])) for share in shares]
    return torch.stack([(side * _logit(back_end, part)).sigmoid() for part in left], dim=1).cpu()  # [B, len(shares)]
