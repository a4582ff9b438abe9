"""What the commands do: each takes the parsed options and returns the exit status. See `cli.parser` for the options."""

import sys
from dataclasses import replace

from dfa_utils.audio import AudioError
from dfa_utils.cli.terminal import as_object, on_terminal, say, say_json, say_tables
from dfa_utils.config import Config
from dfa_utils.inference import Detector, Prediction
from dfa_utils.support import progress_bar, share_between_processes, this_process, usable_device, write_atomically


def predict(options) -> int:
    """`predict`: a line for each file, a row for each in the CSV; a file that fails is named and stops nothing."""
    from dfa_utils.layouts import expand
    from dfa_utils.support import ScoreTable

    if options.resume and not options.out:
        raise ValueError("--resume continues a CSV: say which with --out")
    detector, paths, failed = _load(options), expand(options.paths), 0
    writes = options.out and this_process().is_main_process
    table = ScoreTable(options.out, paths, detector.fingerprint, options.resume) if writes else None
    results = share_between_processes(detector.predict_files, paths)
    for path, result in progress_bar(table.add(results) if table else results, disable=not sys.stderr.isatty()):
        failed += isinstance(result, AudioError)
        if options.json:
            say_json(as_object(path, result, detector.fingerprint))
        else:
            say(result if isinstance(result, Prediction) else f"error: {result}")
    return int((table.failed if table else failed) > 0)


def audit(options) -> int:
    """`audit`: the traps of a data set in plain words, then the figures behind them; exit status 1 if there is one."""
    from dfa_utils.auditing import audit as examine

    found = examine(options.root)
    if options.out:
        table = found.clips.drop(columns="sketch")
        write_atomically(options.out, table.to_csv(index=False).encode(errors="backslashreplace"))
    if options.json:
        tables = {"problems": found.problems, "formats": found.formats, "probes": found.probes.rename_axis("cue")}
        say_json({"verdicts": found.verdicts, **tables})
    else:
        say(found)
    return int(len(found.verdicts) > 0)


def train(options) -> int:
    """`train`: fit a detector on ROOT and say where it lies."""
    from dfa_utils.train import fit

    manifest = _scan(options.data, splits=("training", "validation"))
    config = Config(model=options.model, learning_rate=options.learning_rate, seed=options.seed)
    config = replace(config, **_sizes(options, manifest))
    run = fit(config, manifest, options.folder)
    best = run.epochs[run.best]
    say(f"{run.folder}: epoch {best['epoch']} of {len(run.epochs)} is best, validation EER {best['eer']:.1%}")
    return 0


def _sizes(options, manifest) -> dict[str, int]:
    """Epochs and batch size: what was asked for, else what suits the training split."""
    fitting = Config().scaled_to(int((manifest.split == "training").sum()))
    asked = {"epochs": options.epochs, "batch_size": options.batch_size}
    return {name: getattr(fitting, name) if value is None else value for name, value in asked.items()}


def evaluate(options) -> int:
    """`evaluate`: the figures of every split that holds both classes, at the checkpoint's own threshold."""
    from dfa_utils.dataset import fingerprint
    from dfa_utils.evaluation import save_scores, score_clips

    detector, manifest = _load(options), _scan(options.data, splits=None)
    scores = score_clips(detector, manifest)
    if options.out and this_process().is_main_process:
        save_scores(options.out, scores, detector.threshold, detector.fingerprint, fingerprint(manifest))
    _say_evaluation(options, scores, detector.threshold)
    return 0


def report(options) -> int:
    """`report`: every table of an evaluation, from its CSV alone; with --html a page instead."""
    from dfa_utils.evaluation import load_scores

    scores, threshold = load_scores(options.table)
    if options.html:
        from dfa_utils.report import write_html

        write_html(options.html, scores, threshold)
        say(options.html)
    else:
        _say_evaluation(options, scores, threshold)
    return 0


def _say_evaluation(options, scores, threshold: float) -> None:
    from dfa_utils.evaluation import confusions, summarise
    from dfa_utils.report import as_text, tables

    if options.json:
        figures, counts = summarise(scores, threshold).to_dict("index"), confusions(scores, threshold)
        splits = {split: row | {"confusion": counts[split]} for split, row in figures.items()}
        say_json({"threshold": threshold, "splits": splits})
    elif on_terminal():
        say_tables(tables(scores, threshold))
    else:
        say(as_text(scores, threshold))


def export(options) -> int:
    """`export`: the detector as an ONNX file, which `predict --checkpoint FILE.onnx` and onnxruntime read."""
    from dfa_utils.export import export_onnx

    path = export_onnx(Detector.load(options.checkpoint), options.onnx)
    say(f"{path}: {path.stat().st_size / 1e6:.1f} MB, waveform [B, T] -> score [B] = P(fake)")
    return 0


def app(options) -> int:
    """`app`: serve the page until it is stopped."""
    from web.page import serve

    say(f"open http://{options.host}:{options.port} in a browser; Ctrl+C stops it")
    serve(options.checkpoint, options.host, options.port)
    return 0


def vocode(options) -> int:
    """`vocode`: a training set of ROOT's reals and their copies; a second call makes what is missing."""
    from research.copies import copy_synthesise, describe, real_clips

    names = options.vocoders.split(",") if options.vocoders else None
    with this_process().local_main_process_first():
        made = copy_synthesise(
            real_clips(options.root, options.out), options.out, names, options.versions, options.seed
        )
    say(f"{options.out}: {describe(made)}")
    return 0


def toy(options) -> int:
    """`toy`: the toy data, with a trap if one is asked for."""
    from dfa_utils.toy import write

    root = write(options.root, options.size, options.trap)
    trapped = f" with the trap {options.trap}" if options.trap else ""
    say(f"{root}: {sum(1 for _ in root.rglob('*.wav'))} clips{trapped}")
    return 0


def cache(options) -> int:
    """`cache`: where decoded clips are kept, and how much of them there is."""
    from dfa_utils.cache import describe

    say(describe(options.clear))
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
