"""The command line: python -m dfa_utils train | evaluate | predict."""

import argparse
import csv
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from dfa_utils.audio import AudioError
from dfa_utils.config import Config
from dfa_utils.inference import Detector, Prediction

CHECKPOINT = "a run, a folder of runs (its newest) or a file (default: the weights of the package)"
COLUMNS = ("path", "score", "label", "seconds", "error")


def main(arguments=None) -> int:
    """Run one command; the exit status: 0 = all well, 1 = some file failed, 2 = it could not start."""
    options = parser().parse_args(arguments)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal that lacks a letter of a file name goes on
    try:
        return options.command(options)
    except (ValueError, OSError) as error:  # AudioError, CheckpointError, DataError: each names the file and the cure
        print(f"error: {error}", file=sys.stderr)
        return 2


def parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    top = argparse.ArgumentParser("python -m dfa_utils", description="Detect synthetic speech.")
    commands = top.add_subparsers(required=True, metavar="train | evaluate | predict")
    _train_options(commands.add_parser("train", help="train a detector; a stopped run goes on where it was"))
    _evaluate_options(commands.add_parser("evaluate", help="accuracy, F1, confusion matrix and EER of each split"))
    _predict_options(commands.add_parser("predict", help="judge files and folders"))
    return top


def _train_options(command: argparse.ArgumentParser) -> None:
    defaults = Config()
    command.add_argument(
        "--data", required=True, metavar="ROOT", help="{training,validation,testing}/{real,fake}/*.wav"
    )
    command.add_argument("--run", metavar="FOLDER", help="where checkpoints go (default: below $DFA_RUNS or runs/)")
    command.add_argument("--epochs", type=int, help="passes over the training split (default: by its size)")
    command.add_argument("--batch-size", type=int, help="clips a step (default: by the size of the training split)")
    command.add_argument("--learning-rate", type=float, default=defaults.learning_rate)
    command.add_argument("--seed", type=int, default=defaults.seed)
    command.set_defaults(command=train)


def _evaluate_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--data", required=True, metavar="ROOT", help="the data set, as for train")
    command.add_argument("--checkpoint", metavar="RUN", help=CHECKPOINT)
    command.add_argument("--out", metavar="CSV", help="write every clip's score")
    command.set_defaults(command=evaluate)


def _predict_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("paths", nargs="+", metavar="PATH", help="audio files, or folders of them")
    command.add_argument("--checkpoint", metavar="RUN", help=CHECKPOINT)
    command.add_argument("--out", metavar="CSV", help=f"write the columns {','.join(COLUMNS)}")
    command.set_defaults(command=predict)


def train(options) -> int:
    """`train`: fit a detector on ROOT and say where it lies."""
    from dfa_utils.data import scan
    from dfa_utils.train import fit

    manifest = scan(options.data)
    config = replace(Config(learning_rate=options.learning_rate, seed=options.seed), **_sizes(options, manifest))
    run = fit(config, manifest, options.run)
    best = run.epochs[run.best]
    print(f"{run.folder}: epoch {best['epoch']} of {len(run.epochs)} is best, validation EER {best['eer']:.1%}")
    return 0


def _sizes(options, manifest) -> dict:
    fitting = Config().scaled_to(int((manifest.split == "training").sum()))
    return {"epochs": options.epochs or fitting.epochs, "batch_size": options.batch_size or fitting.batch_size}


def evaluate(options) -> int:
    """`evaluate`: the figures of every split, at the checkpoint's own threshold."""
    from dfa_utils.checkpoint import write_atomically
    from dfa_utils.data import scan
    from dfa_utils.evaluate import report, score_clips

    detector = Detector.load(options.checkpoint)
    scores = score_clips(detector.model, scan(options.data))
    print(report(scores, detector.threshold))
    if options.out:
        write_atomically(options.out, scores.to_csv(index=False, float_format="%.9f").encode())
    return 0


def predict(options) -> int:
    """`predict`: a line for each file, a row for each in the CSV; a file that fails is named and stops nothing."""
    from tqdm.auto import tqdm

    detector, failed = Detector.load(options.checkpoint), 0
    with _writer(options.out) if options.out else nullcontext() as file:
        if file:
            csv.writer(file).writerow(COLUMNS)
        for path, result in tqdm(detector.predict_files(_expand(options.paths)), disable=not sys.stderr.isatty()):
            failed += isinstance(result, AudioError)
            print(result if isinstance(result, Prediction) else f"error: {result}", flush=True)
            if file:
                csv.writer(file).writerow(_row(path, result))
    return int(failed > 0)


def _writer(path: str):
    """A CSV file that is written line by line, so that a kill loses nothing that was printed."""
    return open(path, "w", newline="", buffering=1, encoding="utf-8", errors="backslashreplace")


def _expand(paths) -> list[Path]:
    from dfa_utils.data import find_audio

    return [file for path in map(Path, paths) for file in ((find_audio(path) or [path]) if path.is_dir() else [path])]


def _row(path: str, result) -> tuple:
    if isinstance(result, AudioError):
        return path, "", "", "", str(result)
    return path, f"{result.score:.9f}", result.label, f"{result.seconds:.3f}", ""


if __name__ == "__main__":
    sys.exit(main())
