"""A detector as one ONNX file: waveforms in, P(fake) out, for onnxruntime in Python, in a browser or on a phone.

The graph holds everything in between: normalisation, spectra, the network, calibration, and the speech check.
`web/without_torch.py` uses it without torch. Needs the package `onnx` (extra `onnx`).
"""

import copy
import io
import json
import warnings
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import conv1d, pad
from torch.onnx import OnnxExporterError

from dfa_utils.features import LogMel, normalise_waveform
from dfa_utils.inference import Detector, calibrated_logit
from dfa_utils.models import fuse_for_scoring
from dfa_utils.support import write_atomically

FORMAT = 2  # of the metadata; counts up when an older reader cannot use them any more
OUTPUTS = ("score", "logit", "measures")
LICENCE = "code: MIT; the check for speech, and the released detector: for research and education only"


def export_onnx(detector: Detector, path) -> Path:
    """Write the detector and its `SpeechCheck` as a graph, in one step; returns the path.

    Input: waveform [B, T] float32. Outputs: score [B], P(fake) of each waveform on its own; logit [B], of the network,
    not calibrated; measures [B, 3], as `speech.SpeechCheck` gives them. The metadata "dfa_utils" are a JSON object: how
    to cut recordings into waveforms, calibration, threshold, uncertain band, the clips behind them, the limit of "no
    speech", the detector's fingerprint, the licence. Raises ImportError with the cure without the package `onnx`, and
    ValueError for a detector without a SpeechCheck, for a model that ONNX cannot express, and for a path that does not
    end in .onnx.
    """
    try:
        import onnx
    except ImportError as error:
        raise ImportError("to write an .onnx file, install onnx: pip install onnx") from error
    if detector.speech is None:
        raise ValueError("a detector is exported with its SpeechCheck; give it one: Detector(model, info, speech)")
    path, config = Path(path), detector.model.config
    if path.suffix != ".onnx":
        raise ValueError(f"{path}: the file's name must end in .onnx")
    model = onnx.load_from_string(_traced(Graph(detector).eval(), config.clip_samples))
    figures = {name: getattr(config, name) for name in ("sample_rate", "clip_samples", "hop_samples")}
    figures |= {"format": FORMAT, "fingerprint": detector.fingerprint, "licence": LICENCE}
    figures |= {"threshold": detector.threshold, "uncertain": detector.uncertain_band, "limit": detector.speech.limit}
    figures |= {"calibration": detector.calibration, "evidence": detector.evidence}
    onnx.helper.set_model_props(model, {"dfa_utils": json.dumps(figures)})
    write_atomically(path, model.SerializeToString())
    return path


def _traced(graph: nn.Module, samples: int) -> bytes:
    """The graph as torch's exporter writes it, for any number of waveforms of any length."""
    dynamic = {"waveform": {0: "clips", 1: "samples"}} | {name: {0: "clips"} for name in OUTPUTS}
    file = io.BytesIO()
    options = {"input_names": ["waveform"], "output_names": list(OUTPUTS), "dynamic_axes": dynamic}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter names values that it takes as constant; they are
        try:
            torch.onnx.export(graph, (torch.randn(2, samples),), file, opset_version=17, dynamo=False, **options)
        except OnnxExporterError as error:
            raise ValueError(f"ONNX cannot express this model: {str(error).splitlines()[0]}") from error
    return file.getvalue()


class Graph(nn.Module):
    """What is exported: waveform [B, T] -> score [B], logit [B], measures [B, 3]."""

    def __init__(self, detector: Detector):
        super().__init__()
        self.model, self.speech = fuse_for_scoring(detector.model).cpu(), copy.deepcopy(detector.speech).cpu()
        self.calibration, self.sample_rate = detector.calibration, detector.model.config.sample_rate
        for model in (self.model, self.speech.model):
            model.front_end = ConvolutionalLogMel(model.front_end)

    def forward(self, waveform: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        logits = self.model(waveform)  # [B, 2]
        logit, seconds = logits[:, 1] - logits[:, 0], waveform.shape[1] / self.sample_rate
        return calibrated_logit(logit, seconds, *self.calibration).sigmoid(), logit, self.speech(waveform)


class ConvolutionalLogMel(nn.Module):
    """A `LogMel` that computes its spectra by convolution, an operator that every runtime has; same shapes, same dB.

    Only the frequency bins that some band uses are computed.
    """

    def __init__(self, front_end: LogMel):
        super().__init__()
        config, bank = front_end.config, front_end.mel.mel_scale.fb  # [1 + n_fft // 2, n_mels]
        used = bank.any(dim=1).nonzero()
        first, last = int(used.min()), int(used.max()) + 1
        self.n_fft, self.hop_length, self.to_db = config.n_fft, config.hop_length, front_end.to_db
        times = torch.arange(self.n_fft, dtype=torch.float64)
        angles = 2 * torch.pi / self.n_fft * torch.outer(torch.arange(first, last, dtype=torch.float64), times)
        waves = torch.cat([angles.cos(), angles.sin()]) * torch.hann_window(self.n_fft, dtype=torch.float64)
        self.register_buffer("waves", waves.float().unsqueeze(1))  # [2 * bins, 1, n_fft]
        self.register_buffer("bank", bank[first:last].T.contiguous())  # [n_mels, bins]

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        waveform = normalise_waveform(waveform)
        waveform = waveform.repeat(1, 1 + (self.n_fft - 1) // waveform.shape[1])
        padded = pad(waveform.unsqueeze(1), (self.n_fft // 2, self.n_fft // 2), mode="reflect")
        real, imaginary = conv1d(padded, self.waves, stride=self.hop_length).chunk(2, dim=1)
        return self.to_db((self.bank @ (real.square() + imaginary.square())).unsqueeze(1))
