"""Make the released detector, from data to weights: python -m research.build --data ROOT.

Trains the members of the recipe "release", averages them, and fixes calibration, threshold and the band of "uncertain"
on validation. Then it scores every split, and `testing` under degradations, for the model card. A call that was stopped
continues when it is repeated.
"""

import argparse
import sys
from pathlib import Path

import pandas as pd

from dfa_utils.calibrate import calibrate, uncertain_band
from dfa_utils.checkpoint import RELEASED, load_checkpoint, runs_folder, save_checkpoint
from dfa_utils.dataset import fingerprint, scan
from dfa_utils.evaluation import score_clips
from dfa_utils.inference import Detector
from dfa_utils.models import Ensemble
from research.conditions import CLEAN, score_conditions
from research.crossval import fit_all_epochs
from research.recipes import members
from research.tables import RESULTS, names_of, write_table

CONDITIONS = [
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
]  # under which `testing` is scored, and `validation` for the band of "uncertain"
MISSED, FALSE_POSITIVES = 0.1, 0.05  # share of fakes that may be called real, and of reals that may be called fake
SCORES = ["path", "split", "label", "system", "speaker", "score", "threshold", "detector"]


def main(arguments=None) -> int:
    """Train, calibrate, save and score."""
    options = parser().parse_args(arguments)
    manifest, root = scan(options.data), Path(options.data)
    folder = Path(options.runs or runs_folder() / "release")
    configs = [config for seed in options.seeds for config in members("release", seed)]
    model = Ensemble([load_checkpoint(fit_all_epochs(config, manifest, folder))[0] for config in configs])
    info = {"data": fingerprint(manifest), "seeds": options.seeds, "recipe": "release"}
    detector = Detector(model, info)
    validation = score_clips(detector, manifest[manifest.split == "validation"])
    detector = calibrate(detector, validation.label, validation.score)
    degraded = under_conditions(detector, validation.path, seed=1)
    info = detector.info | {"uncertain": uncertain_bounds(validation.label, degraded, detector.threshold)}
    weights, results = (Path(options.out),) * 2 if options.out else (RELEASED.parent, RESULTS)
    save_checkpoint(weights / RELEASED.name, model, info)
    as_mp3 = degraded[["mp3 64"]].assign(path=names_of(validation, root))
    write_table(results / "degraded_validation.csv", as_mp3[["path", "mp3 64"]], "%.6f")
    score(Detector(model, info), manifest, root, results)
    return 0


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    top = argparse.ArgumentParser("python -m research.build", description="Train and save the released detector.")
    top.add_argument("--data", required=True, metavar="ROOT", help="training, validation and testing, as for train")
    top.add_argument(
        "--out", metavar="FOLDER", help="for weights and tables (default: dfa_utils/weights and research/results)"
    )
    top.add_argument("--seeds", nargs="+", type=int, default=[0])
    top.add_argument("--runs", metavar="FOLDER", help="for the training runs (default: below $DFA_RUNS)")
    return top


def under_conditions(detector: Detector, paths, seed: int) -> pd.DataFrame:
    """P(fake) of each clip under each of CONDITIONS, one column per condition.

    `seed` draws the noise and the rooms. Validation has another one than `testing`, so that the band cannot fit them.
    """
    scores = score_conditions(detector, paths, CONDITIONS, seed)  # [conditions, N]
    columns = [name if (name, level) == CLEAN else f"{name} {level:g}" for name, level in CONDITIONS]
    return pd.DataFrame(scores.T, columns=columns)


def uncertain_bounds(labels, degraded: pd.DataFrame, threshold: float) -> tuple[float, float]:
    """The bounds of "uncertain": few fakes score below them, and few reals above them, even when clips are degraded.

    `degraded` comes from `under_conditions`, for clips with these `labels`. Clean, at most MISSED of new fakes like
    them score below the lower bound. Under each condition at most FALSE_POSITIVES of new reals score above the upper
    one (see `uncertain_band`): calling a real voice fake because of a telephone is the worse error.
    """
    low, _ = uncertain_band(labels, degraded.clean, threshold, MISSED)
    return low, max(uncertain_band(labels, scores, threshold, FALSE_POSITIVES)[1] for _, scores in degraded.items())


def score(detector: Detector, manifest: pd.DataFrame, root: Path, folder: Path) -> None:
    """Write every clip's score, scores.csv.gz, and those of `testing` under CONDITIONS, degraded_testing.csv."""
    scores = score_clips(detector, manifest)
    scores = scores.assign(file=scores.path, path=names_of(scores, root))
    scores = scores.assign(threshold=detector.threshold, detector=detector.fingerprint)
    write_table(folder / "scores.csv.gz", scores[SCORES], "%.9f")
    testing = scores[scores.split == "testing"].reset_index(drop=True)
    degraded = under_conditions(detector, testing.file, seed=0)
    write_table(folder / "degraded_testing.csv", pd.concat([testing.path, degraded], axis=1), "%.6f")


if __name__ == "__main__":
    sys.exit(main())
