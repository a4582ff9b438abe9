import csv
import shutil
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from conftest import hiss, tone

from dfa_utils.__main__ import main
from dfa_utils.cache import open_clip
from dfa_utils.dataset import scan
from dfa_utils.inference import Detector
from dfa_utils.train import fit


@pytest.fixture(scope="module")
def run(tiny_config, tiny_root, tmp_path_factory):
    return str(fit(tiny_config, scan(tiny_root), tmp_path_factory.mktemp("cli") / "a").folder)


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "in").mkdir()
    soundfile.write(tmp_path / "in" / "a.wav", tone(rng), 16_000)
    soundfile.write(tmp_path / "in" / "b.mp3", np.stack([hiss(rng, 1)] * 2, axis=1), 44_100)
    (tmp_path / "in" / "c.wav").touch()
    soundfile.write(tmp_path / "in" / "d.wav", np.zeros(8_000), 16_000)
    (tmp_path / "in" / "notes.txt").write_text("left alone")
    return tmp_path / "in"


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_train_writes_a_run_and_says_where(tiny_root, tmp_path, capsys):
    assert main(["train", "--data", str(tiny_root), "--folder", str(tmp_path / "r"), "--epochs", "1"]) == 0
    assert str(tmp_path / "r") in capsys.readouterr().out
    assert (tmp_path / "r" / "best.safetensors").exists()


def test_train_needs_no_testing_split(tiny_root, tmp_path):
    for split in ("training", "validation"):
        shutil.copytree(tiny_root / split, tmp_path / "data" / split)
    assert main(["train", "--data", str(tmp_path / "data"), "--folder", str(tmp_path / "r"), "--epochs", "1"]) == 0


def test_train_takes_another_model(tiny_root, tmp_path, capsys):
    folder = tmp_path / "r"
    assert main(["train", "--data", str(tiny_root), "--folder", str(folder), "--epochs", "1", "--model", "ast"]) == 0
    assert Detector.load(folder).model.config.model == "ast"
    assert main(["train", "--data", str(tiny_root), "--model", "timm:mobilenetv3_huge"]) == 2
    assert "timm has no model called 'mobilenetv3_huge'" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--epochs", "--batch-size"])
def test_nothing_to_do_is_refused(tiny_root, tmp_path, capsys, option):
    assert main(["train", "--data", str(tiny_root), "--folder", str(tmp_path / "r"), option, "0"]) == 2
    assert option[2:].replace("-", "_") in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


def test_evaluate_prints_the_figures_of_every_split_and_writes_scores(run, tiny_root, tmp_path, capsys):
    assert main(["evaluate", "--data", str(tiny_root), "--checkpoint", run, "--out", str(tmp_path / "s.csv")]) == 0
    text = capsys.readouterr().out
    assert all(word in text for word in ("training", "validation", "testing", "accuracy", "F1", "EER", "called fake"))
    assert len(rows_of(tmp_path / "s.csv")) == 48


def test_report_makes_the_same_tables_from_the_csv(run, tiny_root, tmp_path, capsys):
    main(["evaluate", "--data", str(tiny_root), "--checkpoint", run, "--out", str(tmp_path / "s.csv")])
    first = capsys.readouterr().out
    assert main(["report", str(tmp_path / "s.csv")]) == 0
    assert capsys.readouterr().out == first


def test_audit_prints_its_verdicts_and_writes_its_measurements(tiny_root, tmp_path, capsys):
    assert main(["audit", str(tiny_root), "--out", str(tmp_path / "m.csv")]) == 1
    assert "RMS level" in capsys.readouterr().out
    assert len(rows_of(tmp_path / "m.csv")) == 48


def test_predict_writes_a_row_for_every_file_and_reports_failures(run, folder, tmp_path, capsys):
    assert main(["predict", "--checkpoint", run, "--out", str(tmp_path / "o.csv"), "--", str(folder)]) == 1
    rows = rows_of(tmp_path / "o.csv")
    assert list(rows[0]) == ["path", "score", "label", "reason", "seconds", "detector", "error"]
    assert [row["path"].rsplit("/")[-1] for row in rows] == ["a.wav", "b.mp3", "c.wav", "d.wav"]
    for row in rows[:2]:
        assert len(row["score"].split(".")[1]) == 9
        assert 0 <= float(row["score"]) <= 1
        assert (row["label"], row["reason"] != "") == ("uncertain", True)  # a tone and a hiss
        assert not row["error"]
    assert float(rows[0]["seconds"]) == 0.5
    assert "empty" in rows[2]["error"]
    assert "silent" in rows[3]["error"]
    assert "a.wav: " in capsys.readouterr().out


def test_predict_succeeds_when_every_file_does(run, folder):
    assert main(["predict", str(folder / "a.wav"), "--checkpoint", run]) == 0


@pytest.mark.parametrize("path", ["nowhere.wav", "empty_folder"])
def test_a_path_with_nothing_in_it_is_a_failed_row(run, path, tmp_path, capsys):
    (tmp_path / "empty_folder").mkdir()
    assert main(["predict", "--checkpoint", run, str(tmp_path / path)]) == 1
    assert path in capsys.readouterr().out


def test_what_cannot_start_is_one_line_on_stderr(tmp_path, capsys):
    assert main(["evaluate", "--data", str(tmp_path / "nowhere"), "--checkpoint", str(tmp_path)]) == 2
    assert main(["train", "--data", str(tmp_path / "nowhere")]) == 2
    errors = capsys.readouterr().err.strip().splitlines()
    assert len(errors) == 2
    assert all(line.startswith("error: ") for line in errors)


def test_without_weights_predict_says_how_to_train(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("dfa_utils.checkpoint.SHIPPED", tmp_path / "none")
    assert main(["predict", "a.wav"]) == 2
    assert "dfa_utils train --data ROOT" in capsys.readouterr().err


def test_a_device_that_is_not_there_is_one_line(run, folder, capsys):
    assert main(["predict", "--device", "nonsense", "--checkpoint", run, str(folder)]) == 2
    assert "--device cpu" in capsys.readouterr().err


def test_the_cache_is_told_and_cleared(folder, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("DFA_CACHE", str(tmp_path / "cache"))
    open_clip(folder / "b.mp3", 16_000)
    assert main(["cache"]) == 0
    assert main(["cache", "--clear"]) == 0
    monkeypatch.setenv("DFA_CACHE", "off")
    assert main(["cache"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [": 1 decoded" in lines[0], ": 0 decoded" in lines[1], "off" in lines[2]] == [True] * 3


def test_it_runs_as_a_module():
    done = subprocess.run([sys.executable, "-m", "dfa_utils", "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    assert "predict" in done.stdout
