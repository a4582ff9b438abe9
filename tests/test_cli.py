"""How the command line speaks: help, JSON, colours, completion, exit status. tests/test_main.py has what it does."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from importlib import metadata

import numpy as np
import pandas as pd
import pytest
import soundfile
from conftest import tone

from dfa_utils import Detector
from dfa_utils.__main__ import main, parser
from dfa_utils.cli.terminal import plain
from dfa_utils.dataset import scan
from dfa_utils.evaluation import confusions, score_clips, summarise
from dfa_utils.train import fit

MODULE = [sys.executable, "-m", "dfa_utils"]


@pytest.fixture(scope="module")
def run(tiny_config, tiny_root, tmp_path_factory):
    return str(fit(tiny_config, scan(tiny_root), tmp_path_factory.mktemp("cli") / "a").folder)


@pytest.fixture
def recording(tmp_path):
    path = tmp_path / "[red]a voice.wav"
    soundfile.write(path, tone(np.random.default_rng(0)), 16_000)
    return path


def commands():
    """The parser of each command, by its name."""
    (choices,) = [action.choices for action in parser()._actions if isinstance(action.choices, dict)]
    return choices


@pytest.mark.parametrize("name", list(commands()))
def test_help_shows_examples_that_can_be_typed(name):
    text = commands()[name].format_help()
    examples = re.findall(r"^  \S+ -m \S+ (.+)$|^  dfa (.+)$", re.sub(r"\x1b\[[\d;]*m", "", text), re.MULTILINE)
    assert examples
    for example in examples:
        options = parser().parse_args(shlex.split("".join(example)))
        assert options.command.__name__ == name


def test_the_console_script_is_the_module():
    (script,) = metadata.entry_points(group="console_scripts", name="dfa")
    assert script.load() is main


def test_predict_gives_a_json_object_a_line(run, recording, tmp_path, capsys):
    assert main(["predict", "--json", "--checkpoint", run, str(recording), str(tmp_path / "none.wav")]) == 1
    judged, failed = map(json.loads, capsys.readouterr().out.splitlines())
    truth = Detector.load(run).predict(recording)
    assert judged["score"] == truth.score
    assert judged["scores"] == list(truth.scores)
    assert judged["times"] == list(truth.times)
    assert (judged["label"], judged["reason"], judged["path"]) == (truth.label, truth.reason, str(recording))
    assert "check the path" in failed["error"]


def test_evaluate_and_report_give_the_figures_as_json(run, tiny_root, tmp_path, capsys):
    table = str(tmp_path / "s.csv")
    assert main(["evaluate", "--json", "--data", str(tiny_root), "--checkpoint", run, "--out", table]) == 0
    assert main(["report", "--json", table]) == 0
    evaluated, reported = map(json.loads, capsys.readouterr().out.splitlines())
    detector = Detector.load(run)
    scores = score_clips(detector, scan(tiny_root))
    for found in (evaluated, reported):
        assert found["threshold"] == pytest.approx(detector.threshold)
        for split, row in summarise(scores, detector.threshold).iterrows():
            assert found["splits"][split]["eer"] == pytest.approx(row.eer)
            assert found["splits"][split]["confusion"] == confusions(scores, detector.threshold)[split].tolist()


def test_audit_gives_its_findings_as_json(tiny_root, capsys):
    assert main(["audit", "--json", str(tiny_root)]) == 1
    found = json.loads(capsys.readouterr().out)
    assert any("RMS level" in verdict for verdict in found["verdicts"])
    assert sum(row["clips"] for row in found["problems"]) == 48
    assert {row["cue"] for row in found["probes"]} >= {"rms_db", "seconds"}


def test_what_is_not_finite_is_null_in_json():
    table = pd.DataFrame({("a", "b"): [1.5, np.nan], ("c", ""): [np.inf, 2.0]}, index=pd.Index([7, 8], name="n"))
    assert plain(table) == [{"n": 7, "a/b": 1.5, "c": None}, {"n": 8, "a/b": None, "c": 2.0}]
    assert json.dumps(plain({"x": np.float32(0.5), "y": np.arange(2), "z": (True, None)}), allow_nan=False)


@pytest.mark.parametrize(
    ("setting", "coloured"), [({}, False), ({"FORCE_COLOR": "1"}, True), ({"NO_COLOR": "1"}, False)]
)
def test_colours_are_for_terminals(run, recording, setting, coloured):
    env = {name: value for name, value in os.environ.items() if name not in ("FORCE_COLOR", "NO_COLOR")} | setting
    done = subprocess.run([*MODULE, "predict", "--checkpoint", run, str(recording)], capture_output=True, env=env)
    assert done.returncode == 0
    text = done.stdout.decode()
    assert ("\x1b[" in text) == coloured
    assert f"{recording}: " in text  # brackets in a name are no markup


def test_an_evaluation_is_drawn_as_tables_on_a_terminal(run, tiny_root, tmp_path):
    table, env = str(tmp_path / "s.csv"), os.environ | {"FORCE_COLOR": "1", "COLUMNS": "120"}
    assert main(["evaluate", "--data", str(tiny_root), "--checkpoint", run, "--out", table]) == 0
    drawn = subprocess.run([*MODULE, "report", table], capture_output=True, env=env).stdout.decode()
    plain_text = subprocess.run([*MODULE, "report", table], capture_output=True).stdout.decode()
    assert "┃" in drawn
    assert "┃" not in plain_text
    rates = re.findall(r"EER +(\d+\.\d%)", plain_text)
    assert len(rates) == 3
    assert all(rate in drawn for rate in rates)


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_a_shell_can_complete_commands_and_options(shell, capsys):
    with pytest.raises(SystemExit) as done:
        main(["--print-completion", shell])
    assert done.value.code == 0
    script = capsys.readouterr().out
    assert all(word in script for word in ("predict", "--checkpoint", "evaluate", "--json"))


def test_a_reader_that_leaves_is_no_error(run, recording):
    command = [*MODULE, "predict", "--checkpoint", run, *[str(recording)] * 2_000]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 141


def test_ctrl_c_ends_with_a_word(run, recording):
    command = [*MODULE, "predict", "--checkpoint", run, *[str(recording)] * 5_000]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline()
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate()
        assert said.decode().splitlines() == ["stopped"]
        assert process.returncode == 130
