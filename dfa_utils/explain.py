"""Where in time and frequency a verdict comes from.

The network's input is explained: the standardised mel spectrogram. The score to be explained is the logit of P(fake):
values above 0 speak for fake, values below 0 for real.
"""

import copy

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from dfa_utils.features import standardise
from dfa_utils.models import SpectrogramDetector

BATCH = 32  # clips that are explained at once


def grad_cam(model: SpectrogramDetector, waveforms: Tensor) -> Tensor:
    """Grad-CAM (Selvaraju et al. 2017): what each cell of the spectrogram adds to the score, in logits up to a scale.

    Shape: [B, T] -> [B, n_mels, frames], on the CPU. Above 0 speaks for fake, below 0 for real. With two classes both
    signs have a meaning, so the paper's ReLU is left out. The last maps of a convolution are weighed, on their coarse
    grid, and interpolated to the spectrogram. Raises ValueError for a back end without maps of convolutions.
    """
    return torch.cat([_grad_cam(model, batch) for batch in waveforms.split(BATCH)])


def _grad_cam(model: SpectrogramDetector, waveforms: Tensor) -> Tensor:
    with torch.no_grad():
        db = model.front_end(waveforms.to(next(model.parameters()).device))
    back_end, spectrogram = copy.deepcopy(model.back_end).eval(), standardise(db, model.config.mean_subtraction)
    maps = []  # [B, C, F, T], of each module with a convolution in it that returns more than one cell

    def _note(module, _, output):
        convolves = any(isinstance(part, nn.Conv2d) for part in module.modules())
        if convolves and isinstance(output, Tensor) and output.ndim == 4 and output[0, 0].numel() > 1:
            maps.append(output)

    for module in back_end.modules():
        module.register_forward_hook(_note)
    with torch.enable_grad():
        score = back_end(spectrogram.requires_grad_()).diff(dim=1)  # [B, 1]; frozen weights do not stop its gradient
        if not maps:
            name = type(back_end).__name__
            raise ValueError(f"{name} has no Conv2d that returns maps, which Grad-CAM needs")
        weights = torch.autograd.grad(score.sum(), maps[-1])[0].mean(dim=(2, 3), keepdim=True)  # [B, C, 1, 1]
    evidence = (weights * maps[-1]).sum(dim=1, keepdim=True)  # [B, 1, F, T]
    return interpolate(evidence, spectrogram.shape[2:], mode="bilinear").squeeze(1).detach().cpu()
