"""Do copies of real clips by vocoders help as further training fakes? python -m research.copies --data ROOT.

A detector that learns to tell a recording from its own copy learns the vocoder's trace, for all else is the same:
words, voice, room, noise and level (Wang and Yamagishi, "Spoofed training data for speech spoofing countermeasure can
be efficiently created using neural vocoders", ICASSP 2023). The vocoders here are classical. The same CNN is trained
with and without copies, each time without a third of the systems and speakers, and scored on these; the EER of each
fold is printed. In results/trials.csv the copies made the error higher in each of three folds.
"""

import argparse
import hashlib
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from dfa_utils import metrics
from dfa_utils.audio import load_audio
from dfa_utils.checkpoint import load_checkpoint, runs_folder
from dfa_utils.config import Config
from dfa_utils.dataset import scan
from dfa_utils.evaluation import score_clips
from dfa_utils.inference import Detector
from dfa_utils.support import wav_bytes, write_atomically
from research.crossval import fit_all_epochs, left_in, make_folds
from research.recipes import PLAIN
from research.vocoders import VOCODERS, vocode

CONFIG = replace(PLAIN, frequency_scale="linear", n_mels=56, f_min=4_000.0, f_max=7_500.0)
SHARE = 0.4  # of the training fakes are copies
FOLDS = 3


def main(arguments=None) -> int:
    """Train and score each fold without and with copies, and print the EERs."""
    top = argparse.ArgumentParser("python -m research.copies", description="Do vocoded copies help as further fakes?")
    top.add_argument("--data", required=True, metavar="ROOT", help="a data set that names systems and speakers")
    top.add_argument("--runs", metavar="FOLDER", help="for copies and runs (default: below $DFA_RUNS)")
    options = top.parse_args(arguments)
    folder = Path(options.runs or runs_folder() / "copies")
    manifest = scan(options.data, splits=("training", "validation")).reset_index(drop=True)
    numbers, rows = make_folds(manifest, FOLDS), []
    for fold in range(FOLDS):
        training, unheard = left_in(manifest, numbers, fold), manifest[numbers == fold].assign(split="validation")
        for name, clips in (("without copies", training), ("with copies", with_copies(training, folder / "clips"))):
            data = pd.concat([clips.assign(split="training"), unheard], ignore_index=True)
            run = fit_all_epochs(CONFIG, data, folder / f"fold{fold} {name}")
            scored = score_clips(Detector(load_checkpoint(run)[0], {}), unheard)
            rows.append((name, fold, metrics.eer_rate(scored.label, scored.score)))
    table = pd.DataFrame(rows, columns=["training", "fold", "eer"]).pivot(
        index="fold", columns="training", values="eer"
    )
    print(table.to_string(float_format="{:.1%}".format))
    return 0


def with_copies(training: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """The training clips with a share SHARE of the fakes replaced by copies of real clips, as wav files in `folder`."""
    fakes, reals = training[training.label == 1], training[training.label == 0]
    count = min(round(SHARE * len(fakes)), len(reals))
    originals = reals.sample(count, random_state=0)
    copies = originals.assign(path=[write_copy(path, folder) for path in originals.path], label=1, system="copy")
    return pd.concat([reals, fakes.sample(len(fakes) - count, random_state=0), copies])


def write_copy(path: str, folder: Path) -> str:
    """A wav file with the copy of a clip by one of VOCODERS, drawn by `path`; it has the clip's mean and RMS."""
    name = hashlib.sha256(path.encode()).hexdigest()[:16]
    file = folder / f"{name}.wav"
    if not file.exists():
        rate, draw = Config().sample_rate, np.random.default_rng(int(name, 16))
        real = load_audio(path, rate)
        copy = vocode(real, str(draw.choice(list(VOCODERS))), rate, draw)
        copy = (copy - copy.mean()) * (real.std() / copy.std().clamp_min(1e-9)) + real.mean()
        write_atomically(file, wav_bytes((copy / copy.abs().max().clamp_min(1)).numpy(), rate))
    return str(file)


if __name__ == "__main__":
    sys.exit(main())
