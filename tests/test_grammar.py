"""Files that people write or that strangers send: any content gives a table or one error of ours, never a bare one."""

import json
import re
import tokenize
import warnings
from itertools import pairwise

import pandas as pd
import pytest
from conftest import ROOT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from dfa_utils.checkpoint import FORMAT, CheckpointError, load_checkpoint, read_tensors, save_checkpoint
from dfa_utils.config import Config
from dfa_utils.evaluation import load_scores
from dfa_utils.layouts import DataError, read
from dfa_utils.models import build_model
from dfa_utils.support import HEADER, ScoreTable, TableError

FEW = settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
NAMES = ["path", "split", "label", "score", "threshold", "system", "speaker", "real", "fake", "training", "testing"]
ODD = ["spoof", "a.wav", "../a.wav", "0", "1", "0.5", "-", "", " ", '"', "nan", "inf", "1e999", "é\udc80", "\0", "\t"]
WORDS = st.sampled_from([*NAMES, *ODD])
CELLS = st.one_of(WORDS, st.text(max_size=8))
TABLES = st.lists(st.lists(CELLS, max_size=6).map(",".join), max_size=8).map("\n".join)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=8,
)
SETTINGS = st.dictionaries(st.sampled_from([*Config.__dataclass_fields__, "unknown"]), JSON, max_size=4)


def put(path, text):
    """The text as bytes, lone surrogates and all."""
    path.write_bytes(text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text)
    return path


def attempt(kinds, function, *arguments):
    """What function(*arguments) gives, and the text of an error of these kinds; any other error is raised."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return function(*arguments), ""
    except kinds as error:
        return None, str(error)


@FEW
@given(st.one_of(TABLES, st.binary(max_size=60)))
def test_a_manifest_gives_a_table_or_a_data_error(tmp_path, text):
    put(tmp_path / "a.wav", "x")
    table, error = attempt(DataError, read, put(tmp_path / "manifest.csv", text))
    assert str(tmp_path) in error if table is None else set(table.label) <= {0, 1}


@FEW
@given(st.one_of(TABLES, st.binary(max_size=60)))
def test_a_table_of_scores_is_read_or_refused_by_name(tmp_path, text):
    path = put(tmp_path / "scores.csv", text)
    found, error = attempt(ValueError, load_scores, path)
    assert str(path) in error if found is None else len(found[0]) > 0 and isinstance(found[1], float)


@FEW
@given(st.one_of(TABLES, st.binary(max_size=60)), st.booleans())
def test_a_table_is_continued_or_refused_by_name(tmp_path, text, ours):
    content = text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")
    before = HEADER * ours + content
    path = put(tmp_path / "a.csv", before)
    table, error = attempt(TableError, ScoreTable, path, "abc", True)
    if table is None:
        assert str(path) in error
        assert path.read_bytes() == before
    else:
        assert path.read_bytes() in (HEADER, before[: before.rfind(b"\n") + 1])


@FEW
@given(st.one_of(SETTINGS.map(json.dumps), st.text(max_size=20), JSON.map(json.dumps)))
def test_settings_make_a_config_or_a_value_error(text):
    config, _ = attempt((ValueError, TypeError), Config.from_json, text)  # `load_checkpoint` names the file for these
    assert config is None or Config.from_json(config.to_json()) == config


@FEW
@given(SETTINGS, st.dictionaries(st.sampled_from(["threshold", "calibration", "uncertain", "x"]), JSON), st.data())
def test_a_checkpoints_header_makes_a_detector_or_a_checkpoint_error(tmp_path, tiny_config, changes, info, data):
    model = build_model(config=tiny_config)
    save_checkpoint(tmp_path / "a.safetensors", model, {})
    header, tensors = read_tensors(tmp_path / "a.safetensors")
    header["config"] = json.dumps(json.loads(header["config"]) | changes)
    header["info"] = json.dumps(info)
    if data.draw(st.booleans(), "something else in a field"):
        header[data.draw(st.sampled_from([*header]))] = data.draw(st.one_of(JSON.map(json.dumps), st.text()))
    save_file(
        tensors, tmp_path / "b.safetensors", {k: v.encode("utf-8", "replace").decode() for k, v in header.items()}
    )
    loaded, error = attempt(CheckpointError, load_checkpoint, tmp_path / "b.safetensors")
    assert loaded is not None or str(tmp_path / "b.safetensors") in error


def test_a_newer_checkpoint_says_what_to_do(tmp_path, tiny_config):
    save_checkpoint(tmp_path / "a.safetensors", build_model(config=tiny_config), {})
    header, tensors = read_tensors(tmp_path / "a.safetensors")
    assert header["format"] == str(FORMAT)
    save_file(tensors, tmp_path / "b.safetensors", header | {"format": str(FORMAT + 1)})
    with pytest.raises(CheckpointError, match=r"b\.safetensors: written by a newer version .*update the package"):
        load_checkpoint(tmp_path / "b.safetensors")
    save_file(tensors, tmp_path / "b.safetensors", {k: v for k, v in header.items() if k != "format"})
    load_checkpoint(tmp_path / "b.safetensors")  # as the first versions wrote them


class Planted:
    """What does harm when it is unpickled."""

    def __reduce__(self):
        return (open, ("harm", "w"))


@pytest.mark.parametrize("name", ["a.safetensors", "a.pt", "a.onnx"])
def test_a_planted_pickle_is_refused_and_never_run(tmp_path, monkeypatch, name):
    import pickle

    import torch

    from dfa_utils.inference import Detector

    monkeypatch.chdir(tmp_path)
    for write in (lambda path: path.write_bytes(pickle.dumps(Planted())), lambda path: torch.save(Planted(), path)):
        write(tmp_path / name)
        with pytest.raises(CheckpointError, match=re.escape(name)):
            Detector.load(tmp_path / name)
    assert not (tmp_path / "harm").exists()


def test_nothing_in_the_package_can_unpickle():
    forbidden = {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal", "allow_pickle", "weights_only"}
    for path in (ROOT / "dfa_utils").rglob("*.py"):
        with open(path, "rb") as file:
            names = [token.string for token in tokenize.tokenize(file.readline) if token.type == tokenize.NAME]
        assert not forbidden & set(names), path
        loads = [a for a, b in pairwise(names) if b == "load"]
        assert not {"torch", "joblib", "pd"} & set(loads), path


def test_scores_that_are_written_are_read_again(tmp_path):
    table = pd.DataFrame({"path": ["a"], "split": ["testing"], "label": [1], "score": [0.5], "threshold": [0.4]})
    table.to_csv(tmp_path / "a.csv", index=False)
    assert load_scores(tmp_path / "a.csv")[1] == 0.4
