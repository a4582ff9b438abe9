"""The released detector, from data to weights: python -m research.build --data ROOT.

Trains the members of the recipe "release", puts them together, and fixes calibration, threshold and the band of
`uncertain` on validation. Writes CSVs beside the weights: the scores of every split, and those of validation and
`testing` under damage. A stopped call goes on where it was.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from dfa_utils.calibrate import calibrate, uncertain_band
from dfa_utils.checkpoint import SHIPPED, load_checkpoint, round_to_half, runs_folder, save_checkpoint
from dfa_utils.dataset import fingerprint, scan
from dfa_utils.degradations import CLEAN, UNDECIDED, score_conditions
from dfa_utils.evaluation import save_scores, score_clips
from dfa_utils.inference import Detector
from dfa_utils.models import Ensemble
from dfa_utils.support import write_atomically
from research.compare import names_of
from research.crossval import fit_all_epochs
from research.recipes import RECIPES

DAMAGE = [
    CLEAN,
    ("noise", 20),
    ("noise", 10),
    ("mp3", 64),
    ("telephone", 8),
    ("rerecording", 0.3),
    ("rerecording", 0.6),
    ("gain", -20),
    ("gain", 20),
    ("offset", 0.1),
    ("silence", 1.0),
]  # under which `testing` is scored, and `validation` for the band of `uncertain`
MISSED, ACCUSED = 0.1, 0.05  # share of fakes that may be called real, and of reals that may be called fake


def main(arguments=None) -> int:
    """Train, calibrate, save and score."""
    options = parser().parse_args(arguments)
    manifest = scan(options.data)
    runs = train(manifest, options.seeds, options.runs)
    roles = RECIPES["release"].roles * len(options.seeds)
    model = Ensemble([load_checkpoint(run)[0] for run in runs], roles)
    round_to_half(model.members)
    info = {"data": fingerprint(manifest), "seeds": options.seeds, "recipe": "release"}
    detector = Detector(model, info)
    validation = score_clips(detector, manifest[manifest.split == "validation"])
    detector = calibrate(detector, validation.label, validation.score)
    damaged = under_damage(detector, validation.path, seed=1)
    info = detector.info | {"uncertain": band_of_uncertain(validation.label, damaged, detector.threshold)}
    save_checkpoint(options.out, model, info, compact=True)
    folder, root = Path(options.out).parent, Path(options.data)
    write_damage(folder / "damage_validation.csv", damaged, names_of(validation, root))
    score(Detector(model, info), manifest, root, folder)
    return 0


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    top = argparse.ArgumentParser("python -m research.build", description="Train and save what is released.")
    top.add_argument("--data", required=True, metavar="ROOT", help="training, validation and testing, as for train")
    top.add_argument("--out", default=SHIPPED, metavar="FILE", help="the weights; CSVs of scores go beside them")
    top.add_argument("--seeds", nargs="+", type=int, default=[0])
    top.add_argument("--runs", metavar="FOLDER", help="where the training runs lie (default: below $DFA_RUNS)")
    return top


def train(manifest: pd.DataFrame, seeds: list[int], folder=None) -> list[Path]:
    """The last checkpoint of each member and seed."""
    folder = Path(folder or runs_folder() / "release")
    configs = [config for seed in seeds for config in RECIPES["release"].members(seed)]
    return [fit_all_epochs(config, manifest, folder) for config in configs]


def under_damage(detector: Detector, paths, seed: int) -> pd.DataFrame:
    """P(fake) of each clip under each condition of DAMAGE, one column a condition; 0.5 for what is silent by then.

    `seed` draws what is random. Validation has another one than `testing`, so that the band cannot fit its draws.
    """
    scores = np.nan_to_num(score_conditions(detector, paths, DAMAGE, seed=seed), nan=UNDECIDED)  # [conditions, N]
    return pd.DataFrame(scores.T, columns=[label(*condition) for condition in DAMAGE])


def band_of_uncertain(labels, damaged: pd.DataFrame, threshold: float) -> tuple[float, float]:
    """The bounds of `uncertain`: below them few fakes score, above them few reals, also when clips were damaged.

    `damaged` is what `under_damage` gives for clips with these `labels`. Clean, at most MISSED of new fakes like them
    score below the lower bound. Under each condition at most ACCUSED of new reals score above the upper one (see
    `uncertain_band`): to be called fake for a telephone's sake is the worse error.
    """
    low, _ = uncertain_band(labels, damaged.clean, threshold, MISSED)
    return low, max(uncertain_band(labels, scores, threshold, ACCUSED)[1] for _, scores in damaged.items())


def score(detector: Detector, manifest: pd.DataFrame, root: Path, folder: Path) -> None:
    """Write scores.csv, every clip's score, and damage.csv, those of `testing` under each condition of DAMAGE."""
    data = fingerprint(manifest)
    scores = score_clips(detector, manifest)
    names = names_of(scores, root)
    columns = ["path", "split", "label", "system", "speaker", "score"]
    save_scores(
        folder / "scores.csv", scores.assign(path=names)[columns], detector.threshold, detector.fingerprint, data
    )
    testing = (scores.split == "testing").to_numpy()
    write_damage(folder / "damage.csv", under_damage(detector, scores.path[testing], seed=0), np.array(names)[testing])


def write_damage(path: Path, damaged: pd.DataFrame, names: Sequence[str]) -> None:
    """Save what `under_damage` gave, with the clips' `names` in front."""
    table = damaged.assign(path=names)[["path", *damaged]]
    write_atomically(path, table.to_csv(index=False, float_format="%.6f").encode())


def label(name: str, level: float) -> str:
    """A condition's name and level in one."""
    return name if np.isnan(level) else f"{name} {level:g}"


if __name__ == "__main__":
    sys.exit(main())
