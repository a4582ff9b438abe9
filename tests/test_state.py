"""A full disk, and places that may not be written to: one sentence that names the file, and nothing half done."""

import os
import subprocess
import sys

import pandas as pd
import pytest
from conftest import ROOT

from dfa_utils.support import PART, WriteError, write_atomically

resource = pytest.importorskip("resource")  # not on Windows
TOY = ROOT / "data" / "toy"
COMMANDS = {
    "toy": (["toy", "out"], "out/", "wav"),
    "train": (["train", "--data", TOY, "--epochs", "2", "--folder", "out"], "out/", "safetensors"),
    "export": (["export", "--onnx", "out/a.onnx"], "out/a.onnx", "onnx"),
    "evaluate": (["evaluate", "--data", TOY, "--out", "out/a.csv"], "out/a.csv", "csv"),
    "audit": (["audit", TOY, "--out", "out/a.csv"], "out/a.csv", "csv"),
    "vocode": (["vocode", TOY, "--out", "out", "--vocoders", "image"], "out/", "wav"),
    "predict": (["predict", "--out", "out/a.csv", TOY], "out/a.csv", ""),
}


def run(arguments, folder, largest=None, **env):
    """One command in `folder`; no file may grow beyond `largest` bytes, as on a disk that is full."""
    limit = None if largest is None else lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
    command = [sys.executable, "-m", "dfa_utils", *map(str, arguments)]
    env = os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "DFA_CACHE": "off"} | env
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, preexec_fn=limit)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_full_disk_is_one_sentence_and_leaves_nothing_half_written(tmp_path, name):
    arguments, named, kind = COMMANDS[name]
    done = run(arguments, tmp_path, largest=1_000)
    said = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert said.startswith(f"error: {named}")
    assert "cannot be written (File too large); free some space there" in said
    assert not kind or not list(tmp_path.rglob(f"*.{kind}"))
    if name != "toy":  # which several processes make: when one fails, the others are killed
        assert not list(tmp_path.rglob(f"*{PART}"))


def test_a_table_that_ran_into_a_full_disk_is_continued(tmp_path):
    command = ["predict", "--out", "a.csv", "--resume", TOY / "testing"]
    assert run(command, tmp_path, largest=1_000).returncode == 2
    rows = (tmp_path / "a.csv").read_bytes().count(b"\r\n")
    assert 1 < rows < 20
    assert run(command, tmp_path).returncode == 0
    whole = run(["predict", "--out", "b.csv", TOY / "testing"], tmp_path)
    assert whole.returncode == 0
    continued, undisturbed = (pd.read_csv(tmp_path / name).drop(columns="score") for name in ("a.csv", "b.csv"))
    assert continued.equals(undisturbed)


def test_what_stands_in_the_way_is_named(tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(
        WriteError, match=r"file/a\.csv: cannot be written \((File exists|Not a directory)\); free some space there"
    ):
        write_atomically(tmp_path / "file" / "a.csv", b"new")
    (tmp_path / "folder" / "a.csv").mkdir(parents=True)
    with pytest.raises(WriteError, match=r"folder/a\.csv: cannot be written \(Is a directory\)"):
        write_atomically(tmp_path / "folder" / "a.csv", b"new")
    assert (tmp_path / "file").read_bytes() == b"old"
    assert not list(tmp_path.rglob(f"*{PART}"))


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_to_is_named(tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(WriteError, match=r"locked/a\.csv: cannot be written \(Permission denied\)"):
        write_atomically(tmp_path / "locked" / "a.csv", b"new")
