"""The commands and their options, with an example each."""

import argparse
import sys
from pathlib import Path

from dfa_utils.cli import commands
from dfa_utils.cli.terminal import HelpFormatter, add_completion
from dfa_utils.config import Config

CHECKPOINT = "a run, a folder of runs (its newest), a file, or an exported .onnx (default: the weights of the package)"
DEVICE = "cpu, cuda, cuda:1, mps (default: a GPU if there is one)"
DATA = "{training,validation,testing}/{real,fake}/*.wav, or what data/README.md lists"
STATUS = """exit status:
  0  all well
  1  some file failed, or the audit found a trap; everything else was done
  2  it could not start: the last line on stderr names the cure
  130  stopped by Ctrl+C; train and predict --resume go on where they were

Scores are P(fake), from 0 to 1: higher = more likely fake.
NO_COLOR=1 turns colours off, TQDM_DISABLE=1 progress bars."""


def parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    top = argparse.ArgumentParser(
        _program(),
        description="Is a recording synthetic speech?\nJudge recordings, train a detector, see how often it is wrong.",
        epilog=STATUS,
        formatter_class=HelpFormatter,
    )
    add_completion(top)
    adder = top.add_subparsers(required=True, metavar="COMMAND")
    for add in (_predict, _audit, _train, _evaluate, _report, _export, _app, _vocode, _toy, _cache):
        add(adder)
    return top


def _program() -> str:
    """How the program was called."""
    return "dfa" if Path(sys.argv[0]).stem == "dfa" else "python -m dfa_utils"


def _add(adder, name: str, help: str, examples: list[str], run, more: str = "") -> argparse.ArgumentParser:
    """A command whose own --help says what it does, and shows it at work; `examples` are its arguments."""
    lines = [f"\n  {_program()} {name} {example}".rstrip() for example in examples]
    added = adder.add_parser(
        name,
        help=help,
        description=f"{help[0].upper()}{help[1:]}.\n{more}",
        epilog="".join(["example:", *lines]),
        formatter_class=HelpFormatter,
    )
    added.set_defaults(command=run)
    return added


def _json_option(command: argparse.ArgumentParser, what: str) -> None:
    command.add_argument("--json", action="store_true", help=f"print JSON instead of text: {what}")


def _checkpoint_option(command: argparse.ArgumentParser) -> None:
    command.add_argument("--checkpoint", metavar="RUN", help=CHECKPOINT)


def _predict(adder) -> None:
    command = _add(
        adder,
        "predict",
        "judge files and folders",
        ["voice.wav", "recordings/ --out scores.csv --resume"],
        commands.predict,
        "Each file gets a score, P(fake), and a verdict: real, fake, or uncertain where errors are frequent.",
    )
    command.add_argument("paths", nargs="+", metavar="PATH", help="audio files, or folders of them")
    _checkpoint_option(command)
    command.add_argument("--device", help=DEVICE)
    command.add_argument(
        "--out", metavar="CSV", help="write path, score, label, reason, seconds, detector and error of each file"
    )
    command.add_argument("--resume", action="store_true", help="continue the CSV where an earlier call stopped")
    _json_option(command, "one object a line and file, with the score of each window")


def _audit(adder) -> None:
    command = _add(
        adder,
        "audit",
        "what is broken or doubled in a data set, or betrays the class",
        ["data/toy"],
        commands.audit,
        "Loudness, silence, length or file format may tell real from fake, so that a detector learns them, not voices.",
    )
    command.add_argument("root", metavar="ROOT", help=DATA)
    command.add_argument("--out", metavar="CSV", help="write every clip's measurements")
    _json_option(command, "verdicts, problems, formats and probes")


def _train(adder) -> None:
    defaults = Config()
    command = _add(
        adder,
        "train",
        "train a detector; a stopped run goes on where it was",
        ["--data data/toy --folder runs/mine"],
        commands.train,
        "It learns on training, and the epoch with the lowest loss on validation is kept. testing is not touched.",
    )
    command.add_argument("--data", required=True, metavar="ROOT", help=DATA)
    command.add_argument("--folder", help="where checkpoints go (default: below $DFA_RUNS or runs/)")
    command.add_argument(
        "--model",
        default=defaults.model,
        metavar="NAME",
        help="cnn, ast (a small spectrogram transformer), conformer, statistics, or timm:NAME of a model in timm; "
        "those with attention want --learning-rate 5e-4 (default: cnn)",
    )
    command.add_argument("--epochs", type=int, help="passes over the training split (default: by its size)")
    command.add_argument("--batch-size", type=int, help="clips a step (default: by the size of the training split)")
    command.add_argument("--learning-rate", type=float, default=defaults.learning_rate)
    command.add_argument("--seed", type=int, default=defaults.seed)


def _evaluate(adder) -> None:
    command = _add(
        adder,
        "evaluate",
        "accuracy, F1, confusion matrix and EER of each split",
        ["--data data/toy --checkpoint runs/mine --out runs/clips.csv"],
        commands.evaluate,
        "The threshold is the checkpoint's own, fixed on validation.",
    )
    command.add_argument("--data", required=True, metavar="ROOT", help=DATA)
    _checkpoint_option(command)
    command.add_argument("--device", help=DEVICE)
    command.add_argument("--out", metavar="CSV", help="write every clip's score")
    _json_option(command, "the figures of each split, and its confusion matrix (row = truth: real, fake)")


def _report(adder) -> None:
    command = _add(
        adder,
        "report",
        "the tables of an evaluation again, from its CSV; as one page with --html",
        ["runs/clips.csv --html runs/report.html"],
        commands.report,
    )
    command.add_argument("table", metavar="CSV", help="what evaluate --out wrote")
    command.add_argument(
        "--html", metavar="FILE", help="write one page instead, with figures and the paragraph for a thesis"
    )
    _json_option(command, "as evaluate --json")


def _export(adder) -> None:
    command = _add(
        adder,
        "export",
        "a detector as one ONNX file, for use without torch",
        ["--onnx detector.onnx"],
        commands.export,
    )
    command.add_argument("--onnx", required=True, metavar="FILE", help="where the graph goes, FILE.onnx")
    _checkpoint_option(command)


def _app(adder) -> None:
    command = _add(
        adder,
        "app",
        "a page in the browser that judges recordings on this computer",
        [""],
        commands.app,
        "Nothing is kept, and nobody else can reach it unless --host says so. Needs gradio: pip install gradio.",
    )
    _checkpoint_option(command)
    command.add_argument("--host", default="127.0.0.1", help="who may reach it; 0.0.0.0: all (default: %(default)s)")
    command.add_argument("--port", type=int, default=7860, help="default: %(default)s")


def _vocode(adder) -> None:
    command = _add(
        adder,
        "vocode",
        "make fakes of real recordings, to train on",
        ["recordings/ --out runs/copies"],
        commands.vocode,
    )
    command.add_argument("root", metavar="ROOT", help="a data set, of which its training reals, or a folder of reals")
    command.add_argument("--out", required=True, metavar="FOLDER", help="where the reals and their copies go")
    command.add_argument("--vocoders", metavar="A,B", help="names, separated by commas (default: all)")
    command.add_argument("--versions", type=int, default=1, metavar="N", help="copies of each clip (default: 1)")
    command.add_argument("--seed", type=int, default=0)


def _toy(adder) -> None:
    command = _add(
        adder,
        "toy",
        "make the toy data: simulated voices, and vocoded ones",
        ["runs/trapped --size fixture --trap level"],
        commands.toy,
    )
    command.add_argument("root", metavar="ROOT", help="the folder to make them in")
    command.add_argument("--size", default="lesson", help="fixture (88 clips) or lesson (600, the default)")
    command.add_argument(
        "--trap", help="level, silence or speakers: let this, and not only the vocoder, tell the class"
    )


def _cache(adder) -> None:
    command = _add(adder, "cache", "decoded clips on disk: where, how many, how large", ["--clear"], commands.cache)
    command.add_argument("--clear", action="store_true", help="delete them; they are made anew when needed")
