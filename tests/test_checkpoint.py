import json
import os
import struct
import time

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from dfa_utils.audio import AudioError
from dfa_utils.checkpoint import (
    CheckpointError,
    find_checkpoint,
    load_checkpoint,
    read_header,
    read_tensors,
    runs_folder,
    save_checkpoint,
)
from dfa_utils.config import Config
from dfa_utils.inference import Detector
from dfa_utils.models import build_model


@pytest.fixture
def saved(tmp_path, tiny_config):
    model = build_model(config=tiny_config)
    save_checkpoint(tmp_path / "run" / "best.safetensors", model, {"threshold": 0.25})
    return tmp_path / "run", model


def test_a_detector_comes_back_whole(saved, tiny_config):
    folder, model = saved
    loaded, info = load_checkpoint(folder)
    assert loaded.config == tiny_config
    assert info == {"threshold": 0.25}
    assert not loaded.training
    assert all(
        torch.equal(a, b) for a, b in zip(model.state_dict().values(), loaded.state_dict().values(), strict=True)
    )


def test_a_folder_of_runs_gives_the_newest(saved, tmp_path, tiny_config):
    save_checkpoint(tmp_path / "later" / "best.safetensors", build_model(config=tiny_config), {})
    os.utime(tmp_path / "later" / "best.safetensors", (time.time() + 60,) * 2)
    assert find_checkpoint(tmp_path).parent.name == "later"


def test_runs_are_where_the_environment_says_and_else_below_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for named, folder in (("", tmp_path / "runs"), (str(tmp_path / "mine"), tmp_path / "mine")):
        monkeypatch.setenv("DFA_RUNS", named)
        assert runs_folder() == folder


def test_no_file_is_left_beside_the_checkpoint(saved):
    assert [p.name for p in saved[0].iterdir()] == ["best.safetensors"]


def test_nothing_there_says_how_to_train(tmp_path):
    with pytest.raises(CheckpointError, match="dfa_utils train"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("damage", ["cut", "text", "foreign", "other config"])
def test_a_damaged_file_is_named(saved, tmp_path, damage, tiny_config):
    path = saved[0] / "best.safetensors"
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:2_000])
    elif damage == "text":
        path.write_text("not a checkpoint")
    elif damage == "foreign":
        save_file({"weight": torch.zeros(3)}, path)
    else:
        save_checkpoint(path, build_model(config=tiny_config), {}, {"stray": torch.zeros(1)})
    with pytest.raises(CheckpointError, match=r"best\.safetensors"):
        load_checkpoint(path)


@pytest.mark.parametrize("header", [{"info": "{"}, {"info": "[]"}, {"config": "[]"}, {"config": '{"n_mels": "a"}'}])
def test_a_header_that_says_nothing_is_named(saved, header):
    path = saved[0] / "best.safetensors"
    known, tensors = read_tensors(path)
    save_file(tensors, path, metadata=known | header)
    with pytest.raises(CheckpointError, match=r"best\.safetensors"):
        load_checkpoint(path)


def test_only_what_was_learnt_is_stored(saved):
    folder, model = saved
    stored = read_tensors(folder / "best.safetensors")[1]
    assert set(stored) == {name for name, _ in model.named_parameters()} | {
        name for name, _ in model.back_end.named_buffers(prefix="back_end")
    }


def mutants(content, count, rng):
    """A checkpoint's bytes, damaged in four ways: anywhere, in the header, cut off, and with other JSON values."""
    size = struct.unpack("<Q", content[:8])[0]
    odd = [None, True, -1, 0, 1e30, float("nan"), float("inf"), "x", "", [], {}, [[]], 10**30, [1, 2], [0.1] * 99]
    for i in range(count):
        damaged = bytearray(content)
        if i % 4 == 0:
            for place in rng.integers(len(content), size=4):
                damaged[place] = rng.integers(256)
        elif i % 4 == 1:
            for place in rng.integers(8, 8 + size, size=3):
                damaged[place] = rng.integers(32, 127)
        elif i % 4 == 2:
            del damaged[rng.integers(len(content)) :]
        else:
            header = json.loads(content[8 : 8 + size])
            name = ["config", "info"][rng.integers(2)]
            values = json.loads(header["__metadata__"][name])
            values[list(values)[rng.integers(len(values))]] = odd[rng.integers(len(odd))]
            header["__metadata__"][name] = json.dumps(values)
            text = json.dumps(header).encode()
            damaged = struct.pack("<Q", len(text)) + text + content[8 + size :]
        yield bytes(damaged)


def test_a_damaged_checkpoint_is_refused_or_judges(tmp_path):
    config = Config(clip_seconds=0.2, hop_seconds=0.2, channels=(4, 4), n_mels=16)
    info = {"threshold": 0.4, "calibration": [1.0, 0.1, 0.5], "uncertain": [0.2, 0.7], "evidence": [9, 9]}
    path, wave, judged = tmp_path / "a.safetensors", torch.sin(torch.arange(4_000) / 5), 0
    save_checkpoint(path, build_model(config=config), info)
    for content in mutants(path.read_bytes(), 400, np.random.default_rng(0)):
        path.write_bytes(content)
        try:
            detector = Detector.load(path)
        except CheckpointError:
            continue
        try:
            judged += 0 <= detector.predict(wave).score <= 1
        except AudioError as error:  # weights of 1e38 give no finite score
            judged += error.kind == "samples"
    assert 0 < judged < 300


@pytest.mark.parametrize(
    "info",
    [
        {"threshold": "x"},
        *({"calibration": value} for value in ([1], [1, 0, -1], [1, 0, "x"])),
        *({"uncertain": value} for value in ([0.7, 0.2], 1)),
        *({"evidence": value} for value in ([9], [0, 9], ["x", 9], 9)),
    ],
)
def test_figures_that_make_no_sense_are_refused(tmp_path, tiny_config, info):
    save_checkpoint(tmp_path / "a.safetensors", build_model(config=tiny_config), info)
    with pytest.raises(CheckpointError, match=r"a\.safetensors"):
        Detector.load(tmp_path / "a.safetensors")


def test_only_a_newer_format_is_called_newer(saved):
    path = saved[0] / "best.safetensors"
    header, tensors = read_tensors(path)
    current = int(header["format"])
    for version in range(current + 1):
        save_file(tensors, path, metadata=header | {"format": str(version)})
        assert read_header(path)["format"] == str(version)
        load_checkpoint(path)
    save_file(tensors, path, metadata=header | {"format": str(current + 1)})
    with pytest.raises(CheckpointError, match=r"best\.safetensors: written by a newer version of dfa_utils"):
        load_checkpoint(path)
