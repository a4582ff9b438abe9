"""Fakes that try to pass: `adversaries.py ROOT`, verdicts on the fakes of its validation, attacked and laundered.

Attacks know the detector: FGSM (Goodfellow et al., "Explaining and harnessing adversarial examples", 2015) is one step
along the sign of the gradient; PGD (Madry et al., "Towards deep learning models resistant to adversarial attacks",
2018) takes STEPS smaller ones. Both stay within a bound 30 or 40 dB below the clip's RMS. Laundering knows nothing of
the detector: any audio program does it. Printed: the share of fakes that are called real, uncertain, and still fake.
"""

import argparse
from collections import Counter

import numpy as np
import torch
from common import write

from dfa_utils.audio import load_audio
from dfa_utils.augment import change_rate
from dfa_utils.dataset import scan
from dfa_utils.inference import Detector
from dfa_utils.support import progress_bar
from research.conditions import degrade

STEPS, RATE = 20, 16_000
LAUNDERING = {
    "low-pass at 4 kHz": ("band", 4_000),
    "MP3 at 32 kbit/s": ("mp3", 32),
    "white noise at 20 dB": ("noise", 20),
    "loudspeaker, room, microphone": ("rerecording", 0.3),
    "telephone": ("telephone", 8),
}  # name and level of a condition


def attack(model, wave: torch.Tensor, snr_db: float, steps: int) -> torch.Tensor:
    """[T] changed by at most the bound, so that the logit of P(fake) falls."""
    bound = wave.square().mean().sqrt() * 10 ** (-snr_db / 20)
    step, change = (bound if steps == 1 else bound / 5), torch.zeros_like(wave)
    for _ in range(steps):
        change.requires_grad_()
        model((wave + change)[None]).diff().backward()  # the logit of P(fake)
        change = (change.detach() - step * change.grad.sign()).clamp(-bound, bound)
    return (wave + change).detach()


def verdicts(detector, waves) -> dict[str, float]:
    """Percent of the waves for each verdict."""
    labels = Counter(result.label for _, result in detector.predict_recordings(("clip", [wave]) for wave in waves))
    return {label: round(100 * labels[label] / labels.total(), 1) for label in ("real", "uncertain", "fake")}


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("root")
detector = Detector.load()
clips = scan(parser.parse_args().root, check=False)
fakes = [load_audio(path) for path in clips.path[(clips.split == "validation") & (clips.label == 1)]]
figures = {"fakes": len(fakes), "as they are": verdicts(detector, fakes)}
for snr_db in (40, 30):
    for name, steps in (("FGSM", 1), ("PGD", STEPS)):
        attacked = [attack(detector.model, wave, snr_db, steps) for wave in progress_bar(fakes, f"{name} {snr_db} dB")]
        figures[f"{name} at {snr_db} dB"] = verdicts(detector, attacked)
halved = (change_rate(change_rate(wave, RATE, RATE // 2), RATE // 2, RATE) for wave in fakes)
figures["resampled to 8 kHz and back"] = verdicts(detector, halved)
for name, (kind, level) in LAUNDERING.items():
    laundered = (degrade(wave, kind, level, RATE, np.random.default_rng(i)) for i, wave in enumerate(fakes))
    figures[name] = verdicts(detector, laundered)
write("adversaries", figures)
