"""A full disk, and places that are not writable: one sentence that names the file, and nothing half written."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from conftest import ROOT

from dfa_utils import build_model
from dfa_utils.__main__ import main
from dfa_utils.checkpoint import save_checkpoint
from dfa_utils.support import PART, WriteError, write_atomically

pytest.importorskip("resource")  # not on Windows
NAMES = ["toy", "train", "export", "evaluate", "report", "predict"]
FULL = """
import os, resource, sys
from joblib import parallel_config
from dfa_utils import build_model
from dfa_utils.__main__ import main
from dfa_utils.checkpoint import save_checkpoint
os.environ["DFA_CACHE"] = "off"
data, scores, run = sys.argv[1:]
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, 1_000))  # no file may grow beyond, as on a disk that is full
for command in (
    ["toy", "toy", "--size", "fixture"],
    ["train", "--data", data, "--folder", "train"],
    ["export", "--checkpoint", run, "--onnx", "export/a.onnx"],
    ["evaluate", "--checkpoint", run, "--data", data, "--out", "evaluate/a.csv"],
    ["report", scores, "--html", "report/a.html"],
    ["predict", "--checkpoint", run, "--out", "predict/a.csv", data],
):
    with parallel_config(backend="sequential"):
        assert main(command) == 2
"""


def test_a_full_disk_is_one_sentence_and_leaves_nothing_half_written(tiny_root, tiny_config, tmp_path):
    full, data, scores, run = tmp_path / "full", str(tiny_root), str(tmp_path / "scores.csv"), str(tmp_path / "run")
    full.mkdir()
    save_checkpoint(tmp_path / "run" / "best.safetensors", build_model(config=tiny_config), {"threshold": 0.5})
    assert main(["evaluate", "--checkpoint", run, "--data", data, "--out", scores]) == 0
    command, env = [sys.executable, "-c", FULL, data, scores, run], os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=full, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    for name, line in zip(NAMES, said, strict=True):
        assert line.startswith(f"error: {name}/")
        assert "cannot be written (File too large); free some space there" in line
    assert "Traceback" not in done.stderr
    assert [path.relative_to(full) for path in full.rglob("*") if path.is_file()] == [Path("predict", "a.csv")]
    table = full / "predict" / "a.csv"
    assert 2 < table.read_bytes().count(b"\n") < 48
    assert main(["predict", "--checkpoint", run, "--resume", "--out", str(table), data]) == 0
    assert pd.read_csv(table).path.tolist() == sorted(pd.read_csv(scores).path)


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
