"""What tells speech from other sounds, from data to weights: python -m research.speech_check --data ROOT.

Trains a small CNN on the speech of ROOT, real and fake alike, against the sounds of `research.formula_sounds`. First without
some kinds of sounds, to see how it judges kinds that it never heard; then on all of them, for the weights. Its limit is
fixed on validation; `testing` is judged for the report, which also goes into a CSV beside the weights. A stopped call
goes on where it was.
"""

import argparse
import sys
import zlib
from pathlib import Path

import numpy as np
import pandas as pd

from dfa_utils.checkpoint import load_checkpoint, round_to_half, runs_folder, save_checkpoint
from dfa_utils.config import Config
from dfa_utils.dataset import scan
from dfa_utils.evaluation import score_clips
from dfa_utils.inference import Detector
from dfa_utils.speech import SPEECH
from dfa_utils.support import wav_bytes, write_atomically
from research.crossval import fit_all_epochs
from research.formula_sounds import KINDS, SAMPLE_RATE, make

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
PARTS = 4  # of the kinds; each part is left out once
REFUSED = 0.003  # share of the validation speech that the limit refuses
COLUMNS = ["path", "label", "system", "speaker", "split"]


def main(arguments=None) -> int:
    """Train without some kinds and report; train on all and save."""
    options = parser().parse_args(arguments)
    folder = Path(options.runs or runs_folder() / "speech")
    speech = scan(options.data).assign(label=0, system="", speaker="")[COLUMNS]
    sounds = write_sounds(folder / "sounds")
    kinds = list(KINDS)
    rows = []
    for part in range(PARTS):
        unheard = sounds.system.isin(kinds[part::PARTS])
        detector, limit = train(speech, sounds[~unheard], folder / f"without{part}")
        rows.append(refusals(detector, limit, speech, sounds[unheard]))
    shares = pd.concat(rows).groupby(level=0, sort=False).mean().rename_axis(None)
    print(shares.to_string(float_format="{:.1%}".format))
    table = shares.rename("refused").rename_axis("sounds").to_csv(float_format="%.4f")
    write_atomically(Path(options.out).with_suffix(".csv"), table.encode())
    detector, limit = train(speech, sounds, folder / "all")
    save_checkpoint(options.out, detector.model, {"limit": limit}, compact=True)
    return 0


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    top = argparse.ArgumentParser("python -m research.speech_check", description="Train what finds speech.")
    top.add_argument("--data", required=True, metavar="ROOT", help="training, validation and testing, as for train")
    top.add_argument("--out", default=SPEECH, metavar="FILE", help="the weights")
    top.add_argument("--runs", metavar="FOLDER", help="where sounds and runs lie (default: below $DFA_RUNS)")
    return top


def write_sounds(folder: Path) -> pd.DataFrame:
    """The sounds as wav files in `folder`, those of an earlier call as they are; a row each: COLUMNS, label 1."""
    rows = []
    for kind in KINDS:
        for number in range(PLAIN + VARIED):
            path = folder / kind.replace(" ", "_") / f"{number:03d}.wav"
            if not path.exists():
                rng = np.random.default_rng([number, zlib.crc32(kind.encode())])
                write_atomically(path, wav_bytes(make(kind, rng, varied=number >= PLAIN), SAMPLE_RATE))
            rows.append((str(path), 1, kind, "", "training"))
    return pd.DataFrame(rows, columns=COLUMNS)


def train(speech: pd.DataFrame, sounds: pd.DataFrame, folder: Path) -> tuple[Detector, float]:
    """A detector whose "fake" means "no speech", and the logit of it that REFUSED of the validation speech reach."""
    clips = pd.concat([speech[speech.split != "testing"], sounds, sounds[::10].assign(split="validation")])
    model, _ = load_checkpoint(fit_all_epochs(SETTINGS, clips.reset_index(drop=True), folder))
    round_to_half(model)
    detector = Detector(model, {})
    validation = score_clips(detector, speech[speech.split == "validation"])
    return detector, float(np.quantile(logit(validation.score), 1 - REFUSED))


def refusals(detector: Detector, limit: float, speech: pd.DataFrame, sounds: pd.DataFrame) -> pd.Series:
    """Share of the clips of `testing` that is refused, then that of the sounds of each kind."""
    judged = score_clips(detector, pd.concat([speech[speech.split == "testing"], sounds]).reset_index(drop=True))
    refused = logit(judged.score) >= limit
    return refused.groupby(judged.system.replace("", "speech of testing"), sort=False).mean()


def logit(scores) -> pd.Series:
    """The logit of P(no speech) of each score."""
    return np.log(scores) - np.log1p(-scores)


if __name__ == "__main__":
    sys.exit(main())
