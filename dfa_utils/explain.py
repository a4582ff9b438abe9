"""Where in time and frequency a verdict comes from, and whether that answer can be trusted.

What is explained is the network's input: the standardised mel spectrogram. Removing a cell means setting it to the
clip's mean, which is 0 there. The score that is explained is the logit of P(fake): values above 0 speak for fake,
values below 0 for real. captum does the attribution; every function works on the model's own device, on a copy in
evaluation mode, and returns tensors on the CPU. All of them take a detector that sees one spectrogram, and raise
ValueError for any other, and ImportError where captum is missing.
"""

import copy
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from scipy.integrate import trapezoid
from scipy.stats import spearmanr
from torch import nn

from dfa_utils.config import Config
from dfa_utils.features import band_corners, standardise
from dfa_utils.models import SpectrogramDetector, build_model

BATCH = 32  # clips that are explained at once
FRESH = 2**31  # added to a seed: the random weights must not be those from which the model's own training began


def grad_cam(model: SpectrogramDetector, waveforms: torch.Tensor) -> torch.Tensor:
    """Grad-CAM (Selvaraju et al. 2017): what each cell of the spectrogram adds to the score, in logits up to a scale.

    Shape: [B, T] -> [B, n_mels, frames]. Above 0 speaks for fake, below 0 for real: of two classes both signs tell, so
    the paper's ReLU is left out. The maps that are weighed are the last ones of a convolution, on the coarsest grid;
    they are interpolated to the spectrogram. Raises ValueError for a back end without maps of convolutions.
    """
    return torch.cat([_grad_cam(model, batch) for batch in waveforms.split(BATCH)])


def occlusion_by_band(model: SpectrogramDetector, waveforms: torch.Tensor, bands: int = 8) -> torch.Tensor:
    """What each band of mel rows adds to the score, in logits: by how much it falls when the band is taken away.

    Shape: [B, T] -> [B, bands], lowest band first (`band_edges` says where they lie). Above 0: the band speaks for
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


def randomisation_check(model: SpectrogramDetector, waveforms: torch.Tensor, seed: int = 0) -> float:
    """Rank correlation, in [-1, 1], of the Grad-CAM maps of the model and of one with random weights; mean over clips.

    Near 0 is good: the maps show what was learnt. Far from 0, on either side, they show the clip whatever the weights.
    The random model is a fresh one of the same config. Adebayo et al. 2018, "Sanity checks for saliency maps".
    """
    maps = grad_cam(model, waveforms)
    fresh = build_model(config=replace(model.config, seed=FRESH + seed), pretrained=False).to(
        next(model.parameters()).device
    )
    pairs = zip(maps.flatten(1), grad_cam(fresh, waveforms).flatten(1), strict=True)
    return float(np.nan_to_num([spearmanr(*pair).statistic for pair in pairs]).mean())  # NaN: a map is constant


def deletion_curve(
    model: SpectrogramDetector, waveforms: torch.Tensor, maps: torch.Tensor, steps: int = 10
) -> np.ndarray:
    """Mean P(class called at 0.5) as ever more cells are taken away, those first that speak most for the verdict.

    Shape: [steps + 1], for shares of the cells from 0 to 1: the mean over clips of the probability of the class that
    the model called when it saw all of them. The sooner it falls, the better the maps [B, n_mels, frames]. Petsiuk et
    al. 2018 (RISE). Raises ValueError for maps that are not of the spectrograms' shape, or steps below 1.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    shares = np.linspace(0, 1, steps + 1)
    pairs = zip(waveforms.split(BATCH), maps.split(BATCH), strict=True)
    curves = torch.cat([_delete(model, *pair, shares) for pair in pairs])  # [B, steps + 1]
    return curves.mean(dim=0).numpy()


def moved(maps: torch.Tensor, seed: int = 0) -> torch.Tensor:
    """Each map [B, n_mels, frames] rolled to a random place: as smooth, with the same values, but it points elsewhere.

    The control of `faithfulness`. Cells drawn one by one would be none: they tear the spectrogram to dust, which
    upsets a network sooner than any hole, so that even a good map would lose against them.
    """
    rng = np.random.default_rng(seed)
    shifts = rng.integers(maps.shape[1:], size=(len(maps), 2)).tolist()
    return torch.stack([part.roll(shift, dims=(0, 1)) for part, shift in zip(maps, shifts, strict=True)])


def faithfulness(
    model: SpectrogramDetector, waveforms: torch.Tensor, maps: torch.Tensor, steps: int = 10, seed: int = 0
) -> float:
    """Area under the deletion curve of maps at random places less that of the maps, in [-1, 1]; above 0 is faithful."""
    at_random, by_map = (deletion_curve(model, waveforms, part, steps) for part in (moved(maps, seed), maps))
    return float(trapezoid(at_random - by_map, dx=1 / steps))


# ---- one batch


def _captum():
    try:
        from captum import attr
    except ImportError as error:
        raise ImportError("explanations need captum, which is not installed: pip install captum") from error
    return attr


def _prepare(model: SpectrogramDetector, waveforms: torch.Tensor) -> tuple[nn.Module, torch.Tensor]:
    """A copy of the back end in evaluation mode, and what it sees, [B, 1, n_mels, frames].

    Raises ValueError for what is no detector with one spectrogram.
    """
    if hasattr(model, "members") or model.config.extra_spectrograms:
        raise ValueError(
            f"{type(model).__name__} sees several spectrograms, and only a detector with one can be explained: of an "
            "ensemble such as the released detector, one of model.members whose config.model is 'cnn' at a time"
        )
    with torch.no_grad():
        db = model.front_end(waveforms.to(next(model.parameters()).device))
    return copy.deepcopy(model.back_end).eval(), standardise(db, model.config.mean_subtraction)


def _scorer(back_end: nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda spectrogram: back_end(spectrogram).diff(dim=1).squeeze(1)  # fake - real: the logit of P(fake)


def _grad_cam(model: SpectrogramDetector, waveforms: torch.Tensor) -> torch.Tensor:
    captum, (back_end, spectrogram) = _captum(), _prepare(model, waveforms)
    with torch.enable_grad():
        spectrogram.requires_grad_()  # so that frozen weights do as well
        cam = captum.LayerGradCam(_scorer(back_end), _last_maps(back_end, spectrogram))
        maps = captum.LayerAttribution.interpolate(cam.attribute(spectrogram), spectrogram.shape[2:], "bilinear")
    return maps.squeeze(1).detach().cpu()


def _last_maps(back_end: nn.Module, spectrogram: torch.Tensor) -> nn.Module:
    """The module with a Conv2d in it that is the last to hand on maps [B, C, F, T] of more than one cell."""
    found = []

    def _note(module, _, output):
        if isinstance(output, torch.Tensor) and output.ndim == 4 and output[0, 0].numel() > 1:
            found.append(module)

    holders = [m for m in back_end.modules() if any(isinstance(part, nn.Conv2d) for part in m.modules())]
    hooks = [module.register_forward_hook(_note) for module in holders]
    with torch.no_grad():
        back_end(spectrogram[:1])
    for hook in hooks:
        hook.remove()
    if not found:
        raise ValueError(
            f"{type(back_end).__name__} has no Conv2d that hands on maps, so Grad-CAM cannot explain it; "
            "occlusion_by_band can"
        )
    return found[-1]


def _band_starts(config: Config, bands: int) -> np.ndarray:
    if not 1 <= bands <= config.n_mels:
        raise ValueError(f"bands must be 1 to {config.n_mels}, the mel rows, got {bands}")
    return np.arange(bands) * config.n_mels // bands  # the first row of each


def _occlude(model: SpectrogramDetector, waveforms: torch.Tensor, starts: np.ndarray) -> torch.Tensor:
    back_end, spectrogram = _prepare(model, waveforms)
    rows = np.arange(spectrogram.shape[2])
    band = torch.from_numpy(np.searchsorted(starts, rows, side="right") - 1).to(spectrogram.device)
    mask = band[:, None].expand(spectrogram.shape[2:])[None, None]  # [1, 1, n_mels, frames]: the number of its band
    falls = _captum().FeatureAblation(_scorer(back_end)).attribute(spectrogram, baselines=0, feature_mask=mask)
    return falls[:, 0, starts, 0].cpu()  # [B, bands]: all cells of a band carry its fall


@torch.no_grad()
def _delete(model: SpectrogramDetector, waveforms: torch.Tensor, maps: torch.Tensor, shares: np.ndarray):
    back_end, spectrogram = _prepare(model, waveforms)
    if maps.shape != spectrogram[:, 0].shape:
        raise ValueError(f"maps {tuple(maps.shape)} do not fit spectrograms {tuple(spectrogram[:, 0].shape)}")
    score = _scorer(back_end)
    side = torch.where(score(spectrogram) >= 0, 1, -1)  # [B]: the class called
    order = (-side[:, None] * maps.to(side.device).flatten(1)).argsort(dim=1)
    rank = order.argsort(dim=1).view_as(spectrogram)  # 0: the first to go
    left = [spectrogram * (rank >= round(share * order.shape[1])) for share in shares]
    return torch.stack([(side * score(part)).sigmoid() for part in left], dim=1).cpu()  # [B, len(shares)]
