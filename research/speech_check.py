"""Make the speech check, from data to weights: python -m research.speech_check --data ROOT.

Trains a small CNN on the speech of ROOT, real and fake, against the sounds of `research.formula_sounds`: first without
some kinds of sounds, to see how it judges kinds that it never heard, then on all of them, for the weights. Its limit is
fixed on validation; for `testing` and each kind of sound left out the share that it refuses is printed. A call that was
stopped continues when it is repeated.
"""

import argparse
import sys
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import logit

from dfa_utils.checkpoint import load_checkpoint, runs_folder, save_checkpoint
from dfa_utils.config import Config
from dfa_utils.dataset import scan
from dfa_utils.evaluation import score_clips
from dfa_utils.inference import Detector
from dfa_utils.speech import SPEECH_CHECK
from dfa_utils.support import wav_bytes, write_atomically
from research.formula_sounds import SAMPLE_RATE, SOUNDS, make
from research.recipes import fit_all_epochs

SETTINGS = Config(
    epochs=8,
    batch_size=64,
    n_mels=40,
    hop_length=320,
    f_min=60.0,
    f_max=7_600.0,
    channels=(8, 12, 16, 24),
    augment=(("noise", 0.4), ("room", 0.2), ("band", 0.1), ("equalise", 0.2)),
)
PLAIN, VARIED = 40, 80  # sounds of each kind
PARTS = 4  # the kinds are divided into; each is left out once
REFUSED = 0.003  # share of the validation speech beyond the limit
COLUMNS = ["path", "label", "system", "speaker", "split"]


def main(arguments=None) -> int:
    """Train without some kinds and report; train on all and save."""
    options = parser().parse_args(arguments)
    folder = Path(options.runs or runs_folder() / "speech")
    speech = scan(options.data).assign(label=0, system="", speaker="")[COLUMNS]
    sounds = write_sounds(folder / "sounds")
    kinds, rows = list(SOUNDS), []
    for part in range(PARTS):
        unheard = sounds.system.isin(kinds[part::PARTS])
        detector, limit = train(speech, sounds[~unheard], folder / f"without{part}")
        rows.append(refusals(detector, limit, speech, sounds[unheard]))
    shares = pd.concat(rows).groupby(level=0, sort=False).mean().rename_axis(None)
    print(shares.to_string(float_format="{:.1%}".format))
    detector, limit = train(speech, sounds, folder / "all")
    save_checkpoint(options.out, detector.model, {"limit": limit})
    return 0


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    top = argparse.ArgumentParser("python -m research.speech_check", description="Train the speech check.")
    top.add_argument("--data", required=True, metavar="ROOT", help="training, validation and testing, as for train")
    top.add_argument("--out", default=SPEECH_CHECK, metavar="FILE", help="the weights")
    top.add_argument("--runs", metavar="FOLDER", help="for sounds and runs (default: below $DFA_RUNS)")
    return top


def write_sounds(folder: Path) -> pd.DataFrame:
    """Write the sounds that `folder` lacks as wav files; one row per sound: COLUMNS, label 1."""
    rows = []
    for kind in SOUNDS:
        for number in range(PLAIN + VARIED):
            path = folder / kind.replace(" ", "_") / f"{number:03d}.wav"
            if not path.exists():
                rng = np.random.default_rng([number, zlib.crc32(kind.encode())])
                write_atomically(path, wav_bytes(make(kind, rng, varied=number >= PLAIN), SAMPLE_RATE))
            rows.append((str(path), 1, kind, "", "training"))
    return pd.DataFrame(rows, columns=COLUMNS)


def train(speech: pd.DataFrame, sounds: pd.DataFrame, folder: Path) -> tuple[Detector, float]:
    """A detector whose "fake" means "no speech", and the logit beyond which REFUSED of the validation speech is."""
    clips = pd.concat([speech[speech.split != "testing"], sounds, sounds[::10].assign(split="validation")])
    model, _ = load_checkpoint(fit_all_epochs(SETTINGS, clips.reset_index(drop=True), folder))
    detector = Detector(model, {})
    validation = score_clips(detector, speech[speech.split == "validation"])
    return detector, float(np.quantile(logit(validation.score), 1 - REFUSED))


def refusals(detector: Detector, limit: float, speech: pd.DataFrame, sounds: pd.DataFrame) -> pd.Series:
    """The share of `testing` that is refused, then the share of each kind of sound."""
    scored = score_clips(detector, pd.concat([speech[speech.split == "testing"], sounds]).reset_index(drop=True))
    refused = logit(scored.score) >= limit
    return refused.groupby(scored.system.replace("", "speech of testing"), sort=False).mean()


if __name__ == "__main__":
    sys.exit(main())
