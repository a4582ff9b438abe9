"""The command line: python -m dfa_utils audit | train | evaluate | report | predict | export | vocode | toy | cache."""

import argparse
import sys
from dataclasses import replace

from dfa_utils.audio import AudioError
from dfa_utils.config import Config
from dfa_utils.inference import Detector, Prediction
from dfa_utils.support.files import write_atomically
from dfa_utils.support.parallel import progress_bar, share_between_processes, this_process, usable_device

CHECKPOINT = "a run, a folder of runs (its newest), a file, or an exported .onnx (default: the weights of the package)"
DEVICE = "cpu, cuda, cuda:1, mps (default: a GPU if there is one)"


def main(arguments=None) -> int:
    """Run one command; the exit status: 0 = all well, 1 = some file failed, 2 = it could not start."""
    options = parser().parse_args(arguments)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal that lacks a letter of a file name goes on
    try:
        return options.command(options)
    except (ValueError, OSError, ImportError) as error:  # of ours, or as clear: it names the file and the cure
        cure = "; see README.md, or give an exported detector" if isinstance(error, ModuleNotFoundError) else ""
        print(f"error: {error}{cure}", file=sys.stderr)
        return 2
    finally:
        this_process().destroy_process_group()


def parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    top = argparse.ArgumentParser("python -m dfa_utils", description="Detect synthetic speech.")
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    _audit_options(commands.add_parser("audit", help="what is broken or doubled in a data set, or betrays the class"))
    _train_options(commands.add_parser("train", help="train a detector; a stopped run goes on where it was"))
    _evaluate_options(commands.add_parser("evaluate", help="accuracy, F1, confusion matrix and EER of each split"))
    _report_options(commands.add_parser("report", help="the tables of an evaluation again, from its CSV"))
    _predict_options(commands.add_parser("predict", help="judge files and folders"))
    _export_options(commands.add_parser("export", help="a detector as one ONNX file, for use without torch"))
    _vocode_options(commands.add_parser("vocode", help="make fakes of real recordings, to train on"))
    _toy_options(commands.add_parser("toy", help="make the toy data: simulated voices, and vocoded ones"))
    _cache_options(commands.add_parser("cache", help="decoded clips on disk: where, how many, how large"))
    return top


def _audit_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("root", metavar="ROOT", help="the data set, as for train")
    command.add_argument("--out", metavar="CSV", help="write every clip's measurements")
    command.set_defaults(command=audit)


def _train_options(command: argparse.ArgumentParser) -> None:
    defaults = Config()
    command.add_argument(
        "--data", required=True, metavar="ROOT", help="{training,validation,testing}/{real,fake}/*.wav"
    )
    command.add_argument("--folder", help="where checkpoints go (default: below $DFA_RUNS or runs/)")
    command.add_argument("--epochs", type=int, help="passes over the training split (default: by its size)")
    command.add_argument("--batch-size", type=int, help="clips a step (default: by the size of the training split)")
    command.add_argument("--learning-rate", type=float, default=defaults.learning_rate)
    command.add_argument("--seed", type=int, default=defaults.seed)
    command.set_defaults(command=train)


def _evaluate_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--data", required=True, metavar="ROOT", help="the data set, as for train")
    command.add_argument("--checkpoint", metavar="RUN", help=CHECKPOINT)
    command.add_argument("--device", help=DEVICE)
    command.add_argument("--out", metavar="CSV", help="write every clip's score")
    command.set_defaults(command=evaluate)


def _report_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("table", metavar="CSV", help="what evaluate --out wrote")
    command.set_defaults(command=report)


def _predict_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("paths", nargs="+", metavar="PATH", help="audio files, or folders of them")
    command.add_argument("--checkpoint", metavar="RUN", help=CHECKPOINT)
    command.add_argument("--device", help=DEVICE)
    command.add_argument(
        "--out", metavar="CSV", help="write path, score, label, reason, seconds, detector and error of each file"
    )
    command.add_argument("--resume", action="store_true", help="continue the CSV where an earlier call stopped")
    command.set_defaults(command=predict)


def _export_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--onnx", required=True, metavar="FILE", help="where the graph goes, FILE.onnx")
    command.add_argument("--checkpoint", metavar="RUN", help=CHECKPOINT)
    command.set_defaults(command=export)


def _vocode_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("root", metavar="ROOT", help="a data set, of which its training reals, or a folder of reals")
    command.add_argument("--out", required=True, metavar="FOLDER", help="where the reals and their copies go")
    command.add_argument("--vocoders", metavar="A,B", help="names, separated by commas (default: all)")
    command.add_argument("--versions", type=int, default=1, metavar="N", help="copies of each clip (default: 1)")
    command.add_argument("--seed", type=int, default=0)
    command.set_defaults(command=vocode)


def _toy_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("root", metavar="ROOT", help="the folder to make them in")
    command.add_argument("--size", default="lesson", help="fixture (88 clips) or lesson (600, the default)")
    command.add_argument(
        "--trap", help="level, silence or speakers: let this, and not only the vocoder, tell the class"
    )
    command.set_defaults(command=toy)


def _cache_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--clear", action="store_true", help="delete them; they are made anew when needed")
    command.set_defaults(command=cache)


def train(options) -> int:
    """`train`: fit a detector on ROOT and say where it lies."""
    from dfa_utils.train import fit

    manifest = _scan(options.data)
    config = replace(Config(learning_rate=options.learning_rate, seed=options.seed), **_sizes(options, manifest))
    run = fit(config, manifest, options.folder)
    best = run.epochs[run.best]
    _say(f"{run.folder}: epoch {best['epoch']} of {len(run.epochs)} is best, validation EER {best['eer']:.1%}")
    return 0


def _sizes(options, manifest) -> dict[str, int]:
    """Epochs and batch size: what was asked for, else what suits the training split."""
    fitting = Config().scaled_to(int((manifest.split == "training").sum()))
    asked = {"epochs": options.epochs, "batch_size": options.batch_size}
    return {name: getattr(fitting, name) if value is None else value for name, value in asked.items()}


def audit(options) -> int:
    """`audit`: the traps of a data set in plain words, then the figures behind them; exit status 1 if there is one."""
    from dfa_utils.datasets.audit import audit as examine

    found = examine(options.root)
    if options.out:
        table = found.clips.drop(columns="sketch")
        write_atomically(options.out, table.to_csv(index=False).encode(errors="backslashreplace"))
    print(found)
    return int(len(found.verdicts) > 0)


def evaluate(options) -> int:
    """`evaluate`: the figures of every split that holds both classes, at the checkpoint's own threshold."""
    from dfa_utils.analysis.report import as_text
    from dfa_utils.dataset import fingerprint
    from dfa_utils.evaluation import save_scores, score_clips

    detector, manifest = _load(options), _scan(options.data, splits=None)
    scores = score_clips(detector, manifest)
    if options.out and this_process().is_main_process:
        save_scores(options.out, scores, detector.threshold, detector.fingerprint, fingerprint(manifest))
    _say(as_text(scores, detector.threshold))
    return 0


def report(options) -> int:
    """`report`: every table of an evaluation, from its CSV alone."""
    from dfa_utils.analysis.report import as_text
    from dfa_utils.evaluation import load_scores

    print(as_text(*load_scores(options.table)))
    return 0


def predict(options) -> int:
    """`predict`: a line for each file, a row for each in the CSV; a file that fails is named and stops nothing."""
    from dfa_utils.datasets.walk import expand
    from dfa_utils.support.table import ScoreTable

    if options.resume and not options.out:
        raise ValueError("--resume continues a CSV: say which with --out")
    detector, paths, failed = _load(options), expand(options.paths), 0
    writes = options.out and this_process().is_main_process
    table = ScoreTable(options.out, paths, detector.fingerprint, options.resume) if writes else None
    results = share_between_processes(detector.predict_files, paths)
    for _, result in progress_bar(table.add(results) if table else results, disable=not sys.stderr.isatty()):
        failed += isinstance(result, AudioError)
        _say(result if isinstance(result, Prediction) else f"error: {result}")
    return int((table.failed if table else failed) > 0)


def export(options) -> int:
    """`export`: the detector as an ONNX file, which `predict --checkpoint FILE.onnx` and onnxruntime read."""
    from dfa_utils.analysis.export import export_onnx

    path = export_onnx(Detector.load(options.checkpoint), options.onnx)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB, waveform [B, T] -> score [B] = P(fake)")
    return 0


def vocode(options) -> int:
    """`vocode`: a training set of ROOT's reals and their copies; a second call makes what is missing."""
    from dfa_utils.datasets.copies import copy_synthesise, describe, real_clips

    names = options.vocoders.split(",") if options.vocoders else None
    with this_process().local_main_process_first():
        made = copy_synthesise(
            real_clips(options.root, options.out), options.out, names, options.versions, options.seed
        )
    _say(f"{options.out}: {describe(made)}")
    return 0


def toy(options) -> int:
    """`toy`: the toy data, with a trap if one is asked for."""
    from dfa_utils.datasets.toy import write

    root = write(options.root, options.size, options.trap)
    _say(
        f"{root}: {sum(1 for _ in root.rglob('*.wav'))} clips{f' with the trap {options.trap}' if options.trap else ''}"
    )
    return 0


def cache(options) -> int:
    """`cache`: where decoded clips are kept, and how much of them there is."""
    from dfa_utils.datasets.cache import describe

    print(describe(options.clear))
    return 0


def _load(options) -> Detector:
    """The detector on the device that is asked for; by default on a GPU if there is one, each process on its own."""
    exported = str(options.checkpoint).endswith(".onnx")
    if exported and options.device not in (None, "cpu"):
        raise ValueError(f"--device {options.device}: an exported detector is scored on the CPU; leave --device out")
    return Detector.load(options.checkpoint, "cpu" if exported else usable_device(options.device))


def _scan(root, **options):
    """The data set; of several processes on a machine the first checks it, and the others find all clips decoded."""
    from dfa_utils.dataset import scan

    with this_process().local_main_process_first():
        return scan(root, **options)


def _say(text) -> None:
    """Print, in one of several processes."""
    if this_process().is_main_process:
        print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
