"""A detector as one ONNX file: waveforms in, P(fake) out, for onnxruntime in Python, in a browser or on a phone.

The graph holds everything between: normalisation, spectra, networks, calibration, and the check that there is speech.
`scoring.onnx.OnnxScorer` reads it. Needs the package `onnx` (extra `onnx`).
"""

import copy
import io
import json
import warnings
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import conv1d, pad
from torch.onnx import OnnxExporterError

from dfa_utils.backends.ensemble import Ensemble, logit_of_fake
from dfa_utils.backends.statistics import Statistics
from dfa_utils.features import LogMel, standardise
from dfa_utils.inference import Detector
from dfa_utils.models import WaveformDetector, fuse_for_scoring
from dfa_utils.scoring.onnx import FORMAT, OUTPUTS, OnnxScorer
from dfa_utils.support.files import write_atomically

OPSET = 17
LICENCE = "code: MIT; the check for speech, and the released detector: for research and education only"


def export_onnx(detector: Detector, path) -> Path:
    """Write the detector and its `SpeechCheck` as a graph, in one step; returns the path.

    Input: waveform [B, T] float32. Outputs: score [B], P(fake) of each waveform; logit [B], its calibrated logit;
    measures [B, 3], as `scoring.networks.SpeechCheck` gives them. The metadata "dfa_utils" are a JSON object: how to
    cut recordings into waveforms, threshold, bounds of `uncertain`, the limit of "no speech", the detector's
    fingerprint, the licence. Raises ImportError with the cure without the package `onnx`, ValueError for a detector
    without a check, one that was exported already, and a path that does not end in .onnx.
    """
    try:
        import onnx
    except ImportError as error:
        raise ImportError("to write an .onnx file, install onnx: pip install onnx") from error
    if isinstance(detector.model, OnnxScorer):
        raise ValueError("the detector was exported already; give the checkpoint that it was made of")
    if detector.speech is None:
        raise ValueError("a detector is exported with its SpeechCheck: give one to Detector(model, info, speech)")
    if isinstance(detector.model, WaveformDetector):
        raise ValueError(f"{detector.model.config.model} reads waveforms; what reads a spectrogram can be exported")
    path, config = Path(path), detector.model.config
    if path.suffix != ".onnx":
        raise ValueError(f"{path}: the file's name must end in .onnx, by which it is known when it is loaded")
    model = onnx.load_from_string(_traced(Graph(detector).eval(), config.clip_samples))
    figures = {
        "format": FORMAT,
        "sample_rate": config.sample_rate,
        "clip_samples": config.clip_samples,
        "hop_samples": config.hop_samples,
        "threshold": detector.threshold,
        "uncertain": detector.uncertain,
        "limit": detector.speech.limit,
        "fingerprint": detector.fingerprint,
        "licence": LICENCE,
    }
    onnx.helper.set_model_props(model, {"dfa_utils": json.dumps(figures)})
    write_atomically(path, model.SerializeToString())
    return path


def _traced(graph: nn.Module, samples: int) -> bytes:
    """The graph as torch's exporter writes it, for any number of waveforms of any length."""
    dynamic = {"waveform": {0: "clips", 1: "samples"}} | {name: {0: "clips"} for name in ("score", *OUTPUTS)}
    file = io.BytesIO()
    options = {"input_names": ["waveform"], "output_names": ["score", *OUTPUTS], "dynamic_axes": dynamic}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter: what it takes for constant is constant here
        try:
            torch.onnx.export(graph, (torch.randn(2, samples),), file, opset_version=OPSET, dynamo=False, **options)
        except OnnxExporterError as error:
            raise ValueError(f"ONNX lacks what this model does: {str(error).splitlines()[0]}") from error
    return file.getvalue()


class Graph(nn.Module):
    """What is exported: waveform [B, T] -> score [B], logit [B], measures [B, 3]."""

    def __init__(self, detector: Detector):
        super().__init__()
        self.model = fuse_for_scoring(detector.model).cpu()
        self.speech = copy.deepcopy(detector.speech).cpu()
        self.slope, self.offset = detector.calibration
        for part in self.modules():
            if isinstance(part, Statistics):
                part.normalise = Standardise(part.normalise)
        by_convolution([part for part in self.modules() if isinstance(part, LogMel)])

    def forward(self, waveform: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        logit = self.slope * logit_of_fake(self._logits(waveform)).squeeze(1) + self.offset
        return logit.sigmoid(), logit, self.speech.measure(self._spectrogram(self.speech.model.front_end, waveform))

    def _logits(self, waveform: torch.Tensor) -> torch.Tensor:
        """The model's logits [B, 2], of all waveforms at once: a graph cannot cut a batch into parts."""
        if isinstance(self.model, Ensemble):
            return self.model.ask(waveform)
        config = self.model.config
        views = [self._spectrogram(front_end, waveform) for front_end in self.model.front_ends]
        return self.model.judge([standardise(view, config.db_scale, config.centre) for view in views])

    @staticmethod
    def _spectrogram(front_end: LogMel, waveform: torch.Tensor) -> torch.Tensor:
        return front_end.in_bands(front_end.spectra(waveform))


class Standardise(nn.Module):
    """A BatchNorm1d without weights in evaluation mode, for inputs [B, C] whose C the exporter cannot tell."""

    def __init__(self, norm: nn.BatchNorm1d):
        super().__init__()
        self.register_buffer("mean", norm.running_mean)
        self.register_buffer("deviation", (norm.running_var + norm.eps).sqrt())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x - self.mean) / self.deviation


class Convolution(nn.Module):
    """Power spectra by convolution, bins `first` to `last` alone: [B, T] -> [B, last - first, frames].

    The same as a short-time Fourier transform with a Hann window and reflected edges, in an operator that every
    runtime has.
    """

    def __init__(self, n_fft: int, hop_length: int, first: int, last: int):
        super().__init__()
        self.n_fft, self.hop_length = n_fft, hop_length
        times = torch.arange(n_fft, dtype=torch.float64)
        angles = 2 * torch.pi / n_fft * torch.outer(torch.arange(first, last, dtype=torch.float64), times)
        waves = torch.cat([angles.cos(), angles.sin()]) * torch.hann_window(n_fft, dtype=torch.float64)
        self.register_buffer("waves", waves.float().unsqueeze(1))  # [2 * bins, 1, n_fft]

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        padded = pad(waveform.unsqueeze(1), (self.n_fft // 2, self.n_fft // 2), mode="reflect")
        real, imaginary = conv1d(padded, self.waves, stride=self.hop_length).chunk(2, dim=1)
        return real.square() + imaginary.square()


class Bands(nn.Module):
    """What a front end needs of `MelPower`: `spectra` by convolution, and `mel_scale` for the bins that it gives."""

    def __init__(self, spectra: Convolution, weights: torch.Tensor):
        super().__init__()
        self.spectra, self.n_fft = spectra, spectra.n_fft
        self.register_buffer("weights", weights)  # [bins, bands]

    def mel_scale(self, power: torch.Tensor) -> torch.Tensor:
        """[B, bins, frames] -> [B, bands, frames]."""
        return self.weights.T @ power


def by_convolution(front_ends: Sequence[LogMel]) -> None:
    """Let these front ends compute their spectra by convolution, those of equal windows the same bins."""
    alike = defaultdict(list)
    for front_end in front_ends:
        alike[front_end.config.n_fft, front_end.config.hop_length].append(front_end)
    for (n_fft, hop_length), group in alike.items():
        used = torch.stack([front_end.mel.mel_scale.fb.any(dim=1) for front_end in group]).any(dim=0).nonzero()
        first, last = int(used.min()), int(used.max()) + 1
        spectra = Convolution(n_fft, hop_length, first, last)
        for front_end in group:
            front_end.mel = Bands(spectra, front_end.mel.mel_scale.fb[first:last].clone())
