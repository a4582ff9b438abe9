"""What the page says of a recording: its verdict, and where in its most suspicious window the evidence lies."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch

from dfa_utils.audio import AudioError, fit_length, stream_audio
from dfa_utils.display import block, heading, paragraph
from dfa_utils.explain import grad_cam
from dfa_utils.inference import Detector, Prediction
from dfa_utils.plots import plot_map
from dfa_utils.report import picture

LONGEST = 600.0  # s of a recording


def answer(detector: Detector, path: str | None, name: str | None = None) -> str:
    """The verdict on a file as HTML, or one sentence on why there is none; `name` is how the file is called."""
    if path is None:
        return block(paragraph("Choose a recording first, or make one."))
    name, rate = name or Path(path).name, detector.model.config.sample_rate
    ((_, result),) = detector.judge([(name, _not_too_long(stream_audio(path, rate), rate, name))])
    if isinstance(result, AudioError):
        return block(paragraph(f"This file cannot be judged. {str(result).replace(str(path), name)}."))
    return result._repr_html_() + where(detector, result, stream_audio(path, rate))


def where(detector: Detector, prediction: Prediction, blocks: Iterable[np.ndarray]) -> str:
    """The window with the highest score as a spectrogram, and on it what speaks for fake and for real; as HTML.

    Grad-CAM explains networks of convolutions, so of an ensemble it explains that member alone. Empty where there is
    none, as in an exported detector.
    """
    network = _network_of_convolutions(detector)
    if network is None:
        return ""
    config, start = network.config, prediction.times[prediction.scores.argmax()]
    window = _cut(blocks, round(start * config.sample_rate), config.clip_samples)
    evidence = grad_cam(network, window[None])[0]
    with torch.no_grad():
        decibels = network.front_end(window[None])[0, 0]
    hop, words = (
        config.hop_length / config.sample_rate,
        f"window from {start:.1f} s, P(fake) {prediction.scores.max():.2f}",
    )
    drawn = picture(
        lambda ax: plot_map(decibels, evidence, hop, network.front_end.hertz, ax), f"spectrogram of the {words}"
    )
    return block(
        heading(f"Where in the {words}"),
        paragraph("Red speaks for fake, blue for real: what the network of convolutions looks at (Grad-CAM)."),
        drawn,
        paragraph("It shows where it looks, not that it is right; other parts of the detector have a say too.", "soft"),
    )


def _not_too_long(blocks: Iterable[np.ndarray], rate: int, name: str) -> Iterator[np.ndarray]:
    """The blocks [T]; AudioError as soon as there are more than LONGEST seconds."""
    samples = 0
    for samples_of in blocks:
        samples += len(samples_of)
        if samples > LONGEST * rate:
            raise AudioError(
                f"{name}: is longer than {LONGEST / 60:g} minutes; cut it, or use the command line", "long"
            )
        yield samples_of


def _network_of_convolutions(detector: Detector):
    """The detector, or its first member, that is a CNN on one spectrogram; None if there is none."""
    members = getattr(detector.model, "members", [detector.model])
    return next((member for member in members if getattr(member.config, "model", "") == "cnn"), None)


def _cut(blocks: Iterable[np.ndarray], start: int, size: int) -> torch.Tensor:
    """`size` samples from `start` on, repeated where there are fewer; no block is read beyond them."""
    held = np.empty(0, np.float32)
    for samples in blocks:
        held = np.concatenate([held, samples])
        if len(held) >= start + size:
            break
    return fit_length(torch.from_numpy(held[start : start + size]), size)
