"""The command line: what each command does, how it speaks, and its exit status."""

import csv
import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import soundfile
from conftest import ROOT, hiss, tone
from joblib import parallel_config
from typer.main import get_command

from dfa_utils import Config, Detector, Prediction, __main__, build_model, toy
from dfa_utils.checkpoint import save_checkpoint
from dfa_utils.dataset import scan
from dfa_utils.evaluation import confusions, score_clips, summarise

COMMANDS = get_command(__main__.app).commands
MODULE = [sys.executable, "-m", "dfa_utils"]
WORDS = ("training", "validation", "testing", "accuracy", "F1", "EER", "called fake")


@pytest.fixture(scope="module")
def run(tiny_config, tmp_path_factory):
    """A detector that was not trained: it answers something, in the same way as any other."""
    path = tmp_path_factory.mktemp("run") / "best.safetensors"
    save_checkpoint(path, build_model(config=tiny_config), {"threshold": 0.5})
    return str(path.parent)


@pytest.fixture
def recording(tmp_path):
    path = tmp_path / "[red]a voice.wav"
    soundfile.write(path, tone(np.random.default_rng(0)), 16_000)
    return str(path)


@pytest.fixture
def folder(tmp_path):
    rng, inside = np.random.default_rng(0), tmp_path / "in"
    inside.mkdir()
    soundfile.write(inside / "a.wav", tone(rng), 16_000)
    soundfile.write(inside / "b.mp3", np.stack([hiss(rng, 1)] * 2, axis=1), 44_100)
    (inside / "c.wav").touch()
    soundfile.write(inside / "d.wav", np.zeros(8_000), 16_000)
    (inside / "notes.txt").write_text("left alone")
    return inside


def call(*arguments):
    """The exit status of a command."""
    return __main__.main([str(argument) for argument in arguments])


def colourless(text):
    return re.sub(r"\x1b\[[\d;]*m", "", text)


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_an_example_that_can_be_typed(name, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")  # it stays on one line
    assert call(name, "--help") == 0
    (example,) = re.findall(rf"Example: python -m dfa_utils {name} (.+)", colourless(capsys.readouterr().out))
    assert COMMANDS[name].make_context(name, shlex.split(example)).command is COMMANDS[name]


def test_help_tells_commands_and_exit_statuses_without_torch():
    code = "import sys; from dfa_utils.__main__ import main; main(['--help']); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0
    words = [*COMMANDS, "Exit status", "130: stopped", "--show-completion"]
    assert all(word in colourless(done.stdout) for word in words)


def test_the_console_script_is_the_module():
    (script,) = metadata.entry_points(group="console_scripts", name="dfa")
    assert script.load() is __main__.main


@pytest.mark.parametrize("arguments", [["fly"], ["predict"], ["predict", "a.wav", "--fly"], ["train", "--seed", "x"]])
def test_wrong_usage_has_status_2(arguments, capsys):
    assert call(*arguments) == 2
    assert "Usage:" in capsys.readouterr().err


def test_train_needs_no_testing_split_and_says_where_the_run_is(tiny_root, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Config, "scaled_to", lambda config, clips: replace(config, epochs=1, clip_seconds=0.4))
    (tmp_path / "data").mkdir()
    for split in ("training", "validation"):
        (tmp_path / "data" / split).symlink_to(tiny_root / split)
    options = ["--model", "timm:mobilenetv3_small_050", "--seed", 1, "--batch-size", 4, "--learning-rate", 5e-4]
    assert call("train", "--data", tmp_path / "data", "--folder", tmp_path / "r", *options) == 0
    assert f"{tmp_path / 'r'}: epoch 1 of 1 is best, validation EER" in capsys.readouterr().out
    config = Detector.load(tmp_path / "r").model.config
    found = config.model, config.seed, config.batch_size, config.learning_rate
    assert found == ("timm:mobilenetv3_small_050", 1, 4, 5e-4)


@pytest.mark.parametrize(
    ("option", "value", "cure"),
    [("--batch-size", 0, "batch_size"), ("--model", "timm:mobilenetv3_huge", "timm has no model called")],
)
def test_a_training_that_cannot_start_leaves_no_folder(option, value, cure, tiny_root, tmp_path, capsys):
    assert call("train", "--data", tiny_root, "--folder", tmp_path / "r", option, value) == 2
    assert cure in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


def test_evaluate_and_report_print_the_same_tables(run, tiny_root, tmp_path, capsys):
    assert call("evaluate", "--data", tiny_root, "--checkpoint", run, "--out", tmp_path / "s.csv") == 0
    evaluated = capsys.readouterr().out
    assert all(word in evaluated for word in WORDS)
    assert len(rows_of(tmp_path / "s.csv")) == 48
    assert call("report", tmp_path / "s.csv") == 0
    assert capsys.readouterr().out == evaluated
    assert call("report", tmp_path / "s.csv", "--html", tmp_path / "page.html") == 0
    assert all(word in (tmp_path / "page.html").read_text() for word in WORDS)


def test_evaluate_and_report_give_the_figures_as_json(run, tiny_root, tmp_path, capsys):
    table = tmp_path / "s.csv"
    assert call("evaluate", "--json", "--data", tiny_root, "--checkpoint", run, "--out", table) == 0
    assert call("report", "--json", table) == 0
    scores = score_clips(Detector.load(run), scan(tiny_root))
    for found in map(json.loads, capsys.readouterr().out.splitlines()):
        assert found["threshold"] == 0.5
        for split, row in summarise(scores, 0.5).iterrows():
            assert found["splits"][split]["eer"] == pytest.approx(row.eer)
            assert found["splits"][split]["confusion"] == confusions(scores, 0.5)[split].tolist()


def test_audit_tells_its_findings_in_words_and_as_json(tiny_root, capsys):
    assert call("audit", tiny_root) == 1
    assert "RMS level" in capsys.readouterr().out
    assert call("audit", "--json", tiny_root) == 1
    found = json.loads(capsys.readouterr().out)
    assert any("RMS level" in verdict for verdict in found["verdicts"])
    assert sum(row["clips"] for row in found["problems"]) == 48
    assert {row["cue"] for row in found["probes"]} >= {"rms_db", "seconds"}


def test_what_is_not_finite_is_null_in_json(capsys):
    table = pd.DataFrame({("a", "b"): [1.5, np.nan], ("c", ""): [7, 2]}, index=pd.Index([7, 8], name="n"))
    content = {"table": table, "array": np.arange(2), "number": np.float32(0.5)}
    rows = [{"n": 7, "a/b": 1.5, "c": 7}, {"n": 8, "a/b": None, "c": 2}]
    __main__._say(content)
    assert json.loads(capsys.readouterr().out) == {"table": rows, "array": [0, 1], "number": 0.5}


def test_predict_writes_a_row_for_every_file_and_reports_failures(run, folder, tmp_path, capsys):
    assert call("predict", "--checkpoint", run, "--out", tmp_path / "o.csv", "--", folder) == 1
    rows = rows_of(tmp_path / "o.csv")
    assert [row["path"].rsplit("/")[-1] for row in rows] == ["a.wav", "b.mp3", "c.wav", "d.wav"]
    for row in rows[:2]:
        assert re.fullmatch(r"[01]\.\d{9}", row["score"])
        assert (row["label"], row["reason"] != "", row["error"]) == ("uncertain", True, "")  # a tone and a hiss
    assert float(rows[0]["seconds"]) == 0.5
    assert "empty" in rows[2]["error"]
    assert "silent" in rows[3]["error"]
    assert [line.startswith("error: ") for line in capsys.readouterr().out.splitlines()] == [False, False, True, True]


def test_predict_gives_a_json_object_per_line(run, recording, tmp_path, capsys):
    assert call("predict", "--json", "--checkpoint", run, recording, tmp_path / "none.wav") == 1
    judged, failed = map(json.loads, capsys.readouterr().out.splitlines())
    truth = Detector.load(run).predict(recording)
    assert (judged["score"], judged["label"], judged["reason"]) == (truth.score, truth.label, truth.reason)
    assert (judged["scores"], judged["times"]) == (list(truth.scores), list(truth.times))
    assert (judged["likelihood_ratio"], judged["support"]) == (truth.likelihood_ratio, truth.support)
    assert judged["suspicious"] == truth.suspicious
    assert judged["path"] == recording
    assert "check the path" in failed["error"]
    assert judged["detector"] == failed["detector"] == Detector.load(run).fingerprint


def test_predict_resumes_and_counts_earlier_failures(run, folder, tmp_path, capsys):
    assert call("predict", "--resume", folder) == 2
    assert "--out" in capsys.readouterr().err
    arguments = ["predict", "--checkpoint", run, "--out", tmp_path / "o.csv", "--resume"]
    assert call(*arguments, folder / "a.wav", folder / "c.wav") == 1
    assert call(*arguments, folder / "a.wav", folder / "b.mp3") == 1
    assert [row["path"][-5:] for row in rows_of(tmp_path / "o.csv")] == ["a.wav", "c.wav", "b.mp3"]


def test_standard_input_is_judged_as_any_file(run, recording, tmp_path):
    truth = Detector.load(run).predict(recording)
    command = [*MODULE, "predict", "--checkpoint", run, "--out", tmp_path / "o.csv", "-", recording]
    with open(recording, "rb") as file:
        done = subprocess.run(command, stdin=file, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    rows = rows_of(tmp_path / "o.csv")
    assert [row["path"] for row in rows] == ["<stdin>", recording]
    assert [float(row["score"]) for row in rows] == pytest.approx([truth.score] * 2, abs=1e-6)


@pytest.mark.skipif(not os.path.exists("/dev/stdin"), reason="only where pipes have paths")
def test_a_pipe_has_a_path_that_can_be_judged(run, recording):
    command = shlex.join([*MODULE, "predict", "--checkpoint", run])
    for call in (f"cat {shlex.quote(recording)} | {command} /dev/stdin", f"{command} <(cat {shlex.quote(recording)})"):
        done = subprocess.run(["bash", "-c", call], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        assert "0.50 s" in done.stdout


def test_standard_input_without_a_file_is_refused(run, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
    assert call("predict", "--checkpoint", run, "-") == 2
    assert "predict - < FILE" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: False, buffer=io.BytesIO()))
    assert call("predict", "--checkpoint", run, "-") == 1
    assert capsys.readouterr().out.startswith("error: <stdin>: ")


@pytest.mark.skipif(sys.platform != "linux", reason="only here may a name be any bytes")
def test_names_of_any_bytes_are_judged_once(run, recording, tmp_path, capsys):
    shutil.copyfile(recording, os.fsencode(tmp_path) + b"/caf\xe9.wav")
    for _ in range(2):
        assert call("predict", "--checkpoint", run, "--out", tmp_path / "o.csv", "--resume", tmp_path) == 0
    assert [Path(row["path"]).name for row in rows_of(tmp_path / "o.csv")] == ["[red]a voice.wav", r"caf\udce9.wav"]


@pytest.mark.parametrize("path", ["nowhere.wav", "empty_folder"])
def test_a_path_with_nothing_in_it_is_a_failed_file(run, path, tmp_path, capsys):
    (tmp_path / "empty_folder").mkdir()
    assert call("predict", "--checkpoint", run, tmp_path / path) == 1
    assert path in capsys.readouterr().out


def test_what_cannot_start_is_one_line_on_stderr(run, recording, tmp_path, monkeypatch, capsys):
    assert call("evaluate", "--data", tmp_path / "nowhere", "--checkpoint", run) == 2
    assert call("predict", "--checkpoint", tmp_path / "nowhere", recording) == 2
    assert call("predict", "--device", "nonsense", "--checkpoint", run, recording) == 2
    monkeypatch.setattr("dfa_utils.inference.RELEASED", tmp_path / "none")
    assert call("predict", recording) == 2
    errors = capsys.readouterr().err.splitlines()
    cures = ["no such folder", "dfa_utils train --data ROOT", "--device cpu", "dfa_utils train --data ROOT"]
    assert len(errors) == 4
    assert all(line.startswith("error: ") and cure in line for line, cure in zip(errors, cures, strict=True))


def test_toy_makes_a_data_set(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(toy.SIZES, "fixture", (0, {"training": 1, "validation": 1, "testing": 1}))
    with parallel_config(backend="sequential"):
        assert call("toy", tmp_path / "toy", "--size", "fixture", "--trap", "level") == 0
    clips = len(pd.read_csv(tmp_path / "toy" / "manifest.csv"))
    assert capsys.readouterr().out == f"{tmp_path / 'toy'}: {clips} clips with the trap level\n"


@pytest.mark.parametrize(
    ("settings", "start"), [({}, ""), ({"FORCE_COLOR": "1"}, "\x1b[1;38;2;213;94;0m"), ({"NO_COLOR": "1"}, "\x1b[1m")]
)
def test_verdicts_are_coloured_on_terminals(settings, start, monkeypatch, capsys):
    for name in ("FORCE_COLOR", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    terminal = {"TERM": "xterm", "COLORTERM": "truecolor"} | ({"FORCE_COLOR": "1"} if settings else {})
    for name, value in (settings | terminal).items():
        monkeypatch.setenv(name, value)
    found = Prediction("[red]a voice.wav", 0.9, 0.5, 1.0, 1.0, *np.array([[0.0], [1.0], [0.9]]))  # no markup
    __main__._say_result(found.path, found, "fingerprint", False)
    end = "\x1b[0m" if start else ""
    assert capsys.readouterr().out == f"[red]a voice.wav: {start}fake{end} (score 0.9000 >= threshold 0.5000, 1.00 s)\n"


@pytest.fixture
def busy(run, recording):
    """A command that has printed its first verdict, and cannot end before its output, more than a pipe holds, is read.

    It was started with SIGINT ignored, as shells start what runs in the background, tests too.
    """
    foreground = lambda: signal.signal(signal.SIGINT, signal.default_int_handler)  # noqa: E731
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    command, pipe = [*MODULE, "predict", "--checkpoint", run, *[recording] * 2_000], subprocess.PIPE
    try:
        process = subprocess.Popen(command, stdout=pipe, stderr=pipe, preexec_fn=foreground)
    finally:
        signal.signal(signal.SIGINT, before)
    with process:
        assert process.stdout.readline()
        yield process


def test_a_reader_that_leaves_is_no_error(busy):
    busy.stdout.close()
    assert busy.stderr.read() == b""
    assert busy.wait() == 141


def test_ctrl_c_ends_with_a_word(busy):
    busy.send_signal(signal.SIGINT)
    assert busy.communicate()[1].decode().splitlines() == ["stopped"]
    assert busy.returncode == 130


BROKEN_TORCHAUDIO = """
import builtins, sys
import dfa_utils
from dfa_utils.__main__ import main
for error in (ModuleNotFoundError("x", name="torchaudio"), ImportError("x"), OSError("x.so"), RuntimeError("CUDA")):
    builtins.error = error
    for use in ("from dfa_utils import Detector", "import dfa_utils.colab"):
        try:
            exec(use)
        except ImportError as clear:
            print(clear)
    assert main(["report", "scores.csv"]) == 2
"""


def test_a_torchaudio_that_does_not_fit_is_one_line_with_the_cure(tmp_path):
    (tmp_path / "torchaudio.py").write_text("raise error")
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    done = subprocess.run([sys.executable, "-c", BROKEN_TORCHAUDIO], capture_output=True, text=True, env=env)
    said, errors = done.stdout.splitlines(), done.stderr.splitlines()
    assert (done.returncode, len(said), len(errors)) == (0, 8, 4), done.stderr
    assert all(line.startswith("error: ") for line in errors)
    assert all("torchaudio is not installed for" in line for line in said[:2] + errors[:1])
    cure = 'pip install torch==2.11.0 torchaudio==2.11.0 "torchcodec==0.11.*"'
    assert all(cure in line for line in said[2:] + errors[1:])
