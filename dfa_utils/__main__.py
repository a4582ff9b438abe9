"""The command line: `python -m dfa_utils`, or `dfa` where the package is installed.

Torch takes more than a second to import, and `--help` answers without it: the names of `dfa` load their modules when
they are first used, and each command imports the rest itself.
"""

import io
import json
import os
import sys
import warnings
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperGroup

import dfa_utils as dfa
from dfa_utils.config import Config
from dfa_utils.support import is_main_process, this_process, usable_device

FAILED, REFUSED, STOPPED, CLOSED = 1, 2, 130, 141  # exit statuses; 141: the reader of a pipe has gone (| head)
HELP = "Is a recording synthetic speech? Judge recordings, train a detector, measure how often it is wrong."
STATUS = """Exit status:
0: everything worked
1: some file failed, or the audit found a trap; everything else was done
2: the command could not start or continue; the last line on stderr says what to do
130: stopped by Ctrl+C; train and predict --resume continue where they stopped
Scores are P(fake), from 0 to 1: higher = more likely fake.
NO_COLOR=1 turns colours off, TQDM_DISABLE=1 progress bars."""
COLOURS = {"real": "bold #0072B2", "fake": "bold #D55E00", "uncertain": "bold"}
DATA = "a folder with training, validation, testing, each with real and fake; or a layout in data/README.md"

Data = Annotated[str, typer.Option(metavar="ROOT", help=DATA)]
Root = Annotated[str, typer.Argument(metavar="ROOT", help=DATA)]
FILES = "audio files, or folders of them; - is standard input"
RUN = "a run, a folder of runs (its newest), or a file (default: the released detector)"
Checkpoint = Annotated[str | None, typer.Option(metavar="RUN", help=RUN)]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps (default: a GPU if there is one)")]
Json = Annotated[bool, typer.Option("--json", help="print JSON instead of text")]


class Commands(TyperGroup):
    """The commands; each returns its exit status (None: 0), and an error becomes one line on stderr."""

    def invoke(self, context):
        """Run the chosen command and exit with its status."""
        try:
            status = super().invoke(context)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it ends
            status = CLOSED
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)
            status = STOPPED
        except (ValueError, OSError, ImportError) as error:  # it names the file and the cure
            print(f"error: {error}", file=sys.stderr)
            status = REFUSED
        finally:
            if "RANK" in os.environ:  # torchrun started this process
                this_process().destroy_process_group()
        raise typer.Exit(status or 0)


app = typer.Typer(cls=Commands, help=HELP, epilog=STATUS, no_args_is_help=True, pretty_exceptions_enable=False)


def _command(example: str):
    """Register a function as a command whose help ends with this example."""
    return app.command(epilog=f"Example: python -m dfa_utils {example}")


@_command("predict recordings/ --out scores.csv --resume")
def predict(
    paths: Annotated[list[str], typer.Argument(metavar="PATH", help=FILES)],
    checkpoint: Checkpoint = None,
    device: Device = None,
    out: Annotated[str | None, typer.Option(metavar="CSV", help="write one row per file, with score or error")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="continue the CSV of an earlier call")] = False,
    as_json: Json = False,
) -> int:
    """Judge files and folders.

    Each file gets a score, P(fake), and a verdict: real, fake, or uncertain where errors are frequent.
    A likelihood ratio says how many times more likely such a score is for synthetic than for genuine speech.
    With --json, each line is an object with the scores of all windows of a file.
    """
    from dfa_utils.layouts import expand
    from dfa_utils.support import ScoreTable, progress_bar, share_between_processes

    if resume and not out:
        raise ValueError("--resume continues a CSV: name it with --out")
    detector, failed = dfa.Detector.load(checkpoint, usable_device(device)), 0
    table = ScoreTable(out, detector.fingerprint, resume) if out and is_main_process() else None
    pipes = [path for path in paths if path == "-" or Path(path).is_fifo()]
    files = (path for path in expand(path for path in paths if path not in pipes) if table is None or path not in table)
    files = chain(map(_read_pipe, pipes if is_main_process() else []), files)
    results = share_between_processes(detector.predict_files, files)
    for path, result in progress_bar(results, disable=not sys.stderr.isatty()):
        failed += isinstance(result, dfa.AudioError)
        if table:
            table.add(path, result)
        _say_result(path, result, detector.fingerprint, as_json)
    return FAILED if failed or (table and table.failed) else 0


@_command("train --data mine --folder runs/mine")
def train(
    data: Data,
    folder: Annotated[str | None, typer.Option(help="where checkpoints go (default: in $DFA_RUNS or runs/)")] = None,
    model: Annotated[str, typer.Option(metavar="NAME", help="cnn, or timm:NAME of a timm model")] = "cnn",
    batch_size: Annotated[int | None, typer.Option(help="clips per step (default: by the number of clips)")] = None,
    learning_rate: float = Config.learning_rate,
    seed: int = Config.seed,
):
    """Train a detector; a stopped run continues where it stopped.

    It learns on training, and the epoch with the lowest loss on validation is kept. testing is not used.
    """
    manifest = _scan(data, splits=("training", "validation"))
    config = Config(model=model, learning_rate=learning_rate, seed=seed)
    config = config.scaled_to(int((manifest.split == "training").sum()))
    run = dfa.fit(config if batch_size is None else replace(config, batch_size=batch_size), manifest, folder)
    best = run.epochs[run.best]
    _say(f"{run.folder}: epoch {best['epoch']} of {len(run.epochs)} is best, validation EER {best['eer']:.1%}")


@_command("evaluate --data mine --checkpoint runs/mine")
def evaluate(
    data: Data,
    checkpoint: Checkpoint = None,
    device: Device = None,
    out: Annotated[str | None, typer.Option(metavar="CSV", help="write the score of every clip")] = None,
    as_json: Json = False,
):
    """Measure accuracy, F1, EER and the confusion matrix of each split.

    The threshold is the checkpoint's own, fixed on validation. Rows of a confusion matrix are the truth: real, fake.
    """
    from dfa_utils.dataset import fingerprint
    from dfa_utils.evaluation import save_scores, score_clips

    detector, manifest = dfa.Detector.load(checkpoint, usable_device(device)), _scan(data, splits=None)
    scores = score_clips(detector, manifest)
    if out and is_main_process():
        save_scores(out, scores, detector.threshold, detector.fingerprint, fingerprint(manifest))
    _say_evaluation(scores, detector.threshold, as_json)


@_command("audit mine")
def audit(root: Root, as_json: Json = False) -> int:
    """Look for broken files, duplicates, and anything but the voice that separates real from fake.

    Loudness, silence, length or file format may differ between the classes; a detector then learns them, not voices.
    """
    found = dfa.audit(root)
    tables = {"problems": found.problems, "formats": found.formats, "probes": found.probes.rename_axis("cue")}
    _say({"verdicts": found.verdicts, **tables} if as_json else found)
    return FAILED if found.verdicts else 0


@_command("report runs/clips.csv --html runs/report.html")
def report(
    table: Annotated[str, typer.Argument(metavar="CSV", help="what evaluate --out wrote")],
    html: Annotated[str | None, typer.Option(metavar="FILE", help="write one page instead, ready for a thesis")] = None,
    as_json: Json = False,
):
    """Print the tables of an evaluation again from its CSV, or write them as one page with figures."""
    from dfa_utils import report as pages
    from dfa_utils.evaluation import load_scores

    scores, threshold = load_scores(table)
    if html:
        pages.write_html(html, scores, threshold)
        _say(html)
    else:
        _say_evaluation(scores, threshold, as_json)


@_command("export --checkpoint runs/mine --onnx mine.onnx")
def export(
    onnx: Annotated[str, typer.Option(metavar="FILE", help="the file to write; its name ends in .onnx")],
    checkpoint: Checkpoint = None,
):
    """Write a detector as one ONNX file, which onnxruntime scores without torch (web/without_torch.py)."""
    from dfa_utils.export import export_onnx

    path = export_onnx(dfa.Detector.load(checkpoint), onnx)
    _say(f"{path}: {path.stat().st_size / 1e6:.1f} MB, waveform [B, T] -> score [B] = P(fake)")


@_command("toy runs/trapped --size fixture --trap level")
def toy(
    root: Annotated[str, typer.Argument(metavar="ROOT", help="the folder to write to")],
    size: Annotated[str, typer.Option(help="fixture (88 clips) or lesson (600)")] = "lesson",
    trap: Annotated[str | None, typer.Option(help="level, silence or speakers: this tells the class as well")] = None,
):
    """Make the toy data: simulated voices, and the same voices vocoded."""
    from dfa_utils import toy as voices

    folder = voices.write(root, size, trap)
    _say(f"{folder}: {sum(1 for _ in folder.rglob('*.wav'))} clips" + (f" with the trap {trap}" if trap else ""))


def _scan(root: str, **options):
    """The data set; the first process on a machine checks it, so that the others find its clips decoded."""
    with this_process().local_main_process_first():
        return dfa.scan(root, **options)


def _read_pipe(path: str) -> io.BytesIO:
    """The file that comes through a pipe, or for "-" on standard input, as a whole, since it cannot be read twice."""
    if path == "-" and sys.stdin.isatty():
        raise ValueError("- is standard input, but no file is sent there; write predict - < FILE, or name the file")
    file = io.BytesIO(sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes())
    file.name = "<stdin>" if path == "-" else path
    return file


def _say(content) -> None:
    """Print a line, or a dict as JSON, in one of several processes."""
    if isinstance(content, dict):
        content = json.dumps(content, default=_plain, allow_nan=False)
    if is_main_process():
        print(content, flush=True)


def _say_result(path: str, result, detector: str, as_json: bool) -> None:
    """Print a verdict, in its colour on a terminal, or the error of a file."""
    from rich.console import Console
    from rich.text import Text

    failed = isinstance(result, Exception)
    if as_json:
        derived = () if failed else ("label", "likelihood_ratio", "support", "suspicious")
        found = {"path": path, "error": str(result)} if failed else asdict(result)
        _say(found | {name: getattr(result, name) for name in derived} | {"detector": detector})
    elif failed or not (console := Console()).is_terminal:
        _say(f"error: {result}" if failed else result)
    else:
        line = Text(str(result))
        line.stylize(COLOURS[result.label], len(f"{path}: "), len(f"{path}: {result.label}"))
        console.print(line, soft_wrap=True)


def _say_evaluation(scores, threshold: float, as_json: bool) -> None:
    """Print the tables of an evaluation, or its figures as JSON."""
    from dfa_utils.evaluation import confusions, find_notes, summarise
    from dfa_utils.report import tables

    if as_json:
        figures = summarise(scores, threshold).assign(confusion=confusions(scores, threshold))
        splits = figures.astype(object).where(figures.notna(), None).to_dict("index")
        _say({"threshold": threshold, "splits": splits, "notes": find_notes(scores)})
    else:
        found = {title: table.rename_axis(None) for title, table in tables(scores, threshold).items()}
        _say("\n\n".join(f"{title}\n{table.to_string()}" for title, table in found.items()))


def _plain(value):
    """A table as a list of rows, with None for NaN; an array or a number of NumPy as Python's own."""
    if not hasattr(value, "reset_index"):
        return value.tolist()
    table = value.reset_index()
    table.columns = ["/".join(map(str, name)).strip("/") if isinstance(name, tuple) else name for name in table]
    return table.astype(object).where(table.notna(), None).to_dict("records")


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns its exit status."""
    warnings.formatwarning = lambda message, *rest: f"note: {message}\n"  # one line, without the place in the code
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file name may hold letters that the terminal lacks
    try:
        app(arguments)
    except SystemExit as end:
        return end.code


if __name__ == "__main__":
    sys.exit(main())
