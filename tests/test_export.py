import json
import os
import subprocess
import sys
import sysconfig
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from conftest import RATE, ROOT, hiss, tone

from dfa_utils import Detector
from dfa_utils.__main__ import main
from dfa_utils.checkpoint import CheckpointError
from dfa_utils.export import export_onnx
from dfa_utils.models import Ensemble, build_model
from dfa_utils.speech import SpeechCheck
from web.onnx import OnnxScorer

onnx = pytest.importorskip("onnx")
TOY = sorted((ROOT / "data" / "toy").rglob("*.wav"))
rng = np.random.default_rng(0)
NEEDED = (
    "numpy",
    "typing_extensions",
    "soundfile",
    "_soundfile",
    "cffi",
    "_cffi_backend",
    "pycparser",
    "onnxruntime",
    "tqdm",
)


@pytest.fixture(scope="module")
def detector():
    return Detector.load()


@pytest.fixture(scope="module")
def file(detector, tmp_path_factory):
    return export_onnx(detector, tmp_path_factory.mktemp("onnx") / "detector.onnx")


@pytest.fixture(scope="module")
def exported(file):
    return Detector.load(file)


def test_it_says_what_torch_says(detector, exported, tmp_path):
    paths = [*TOY[::3], tmp_path / "long.wav", tmp_path / "short.wav", tmp_path / "noise.wav"]
    soundfile.write(paths[-3], np.tile(hiss(rng, 0.7) + tone(rng, 0.7), 14), 44_100)
    soundfile.write(paths[-2], tone(rng, 0.2), RATE)
    soundfile.write(paths[-1], hiss(rng, 2), RATE)
    for (_, ours), (_, theirs) in zip(detector.predict_files(paths), exported.predict_files(paths), strict=True):
        assert abs(ours.score - theirs.score) < 1e-4
        assert np.abs(ours.scores - theirs.scores).max() < 1e-4
        assert (ours.label, ours.reason, ours.seconds) == (theirs.label, theirs.reason, theirs.seconds)
        assert (ours.threshold, ours.uncertain) == (theirs.threshold, theirs.uncertain)


@pytest.mark.parametrize("shape", [(1, 3_000), (1, 32_000), (3, 20_001), (40, 16_000)])
def test_any_number_of_waveforms_of_any_length_goes_in(detector, exported, shape):
    waves = 0.1 * torch.randn(shape, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        logits = detector.model(waves).diff(dim=1)[:, 0]
    slope, offset = detector.calibration
    score, logit, measures = exported.model.session.run(None, {"waveform": waves.numpy()})
    assert logit == pytest.approx((slope * logits + offset).numpy(), abs=2e-3)
    assert score == pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-6)
    assert measures.shape == (shape[0], 3)


def test_the_file_tells_how_it_is_to_be_used(detector, file, exported):
    figures = json.loads(OnnxScorer(file).session.get_modelmeta().custom_metadata_map["dfa_utils"])
    assert figures["threshold"] == detector.threshold
    assert figures["uncertain"] == list(detector.uncertain)
    assert (figures["sample_rate"], figures["clip_samples"], figures["hop_samples"]) == (RATE, 2 * RATE, RATE)
    assert "research and education" in figures["licence"]
    assert exported.fingerprint == f"{detector.fingerprint}-onnx"
    assert exported.model.limit == detector.speech.limit
    assert file.stat().st_size < 6e6


@pytest.mark.parametrize("settings", [{}, {"centre": "band"}, {"scale": "linear"}, {"model": "statistics"}])
def test_a_detector_of_ones_own_is_exported_too(tiny_config, tmp_path, settings):
    config = replace(tiny_config, clip_seconds=1.0, **settings)
    models = [build_model(config=replace(config, seed=seed)) for seed in range(3)]
    for model in (models[0], Ensemble(models, [True, True, False])):
        ours = Detector(model, {"calibration": (2.0, 0.3)}, SpeechCheck.load())
        theirs = Detector.load(export_onnx(ours, tmp_path / "a.onnx"))
        waves = [tone(rng, 1.5), hiss(rng, 0.7)]
        for wave in waves:
            assert theirs.predict(wave).score == pytest.approx(ours.predict(wave).score, abs=1e-4)


def without_torch(tmp_path, *arguments):
    """Run Python with no package at hand but those that an exported detector needs."""
    site, own = Path(sysconfig.get_paths()["purelib"]), tmp_path / "site"
    own.mkdir(exist_ok=True)
    for found in site.iterdir():
        if found.name.split(".")[0] in NEEDED or found.name.startswith(("_soundfile", "numpy", "_cffi")):
            (own / found.name).symlink_to(found)
    (own / "dfa_utils").symlink_to(ROOT / "dfa_utils")
    env = os.environ | {"PYTHONPATH": str(own)}
    return subprocess.run([sys.executable, "-S", *arguments], env=env, capture_output=True, text=True, cwd=tmp_path)


def test_it_works_where_there_is_no_torch(file, detector, tmp_path):
    soundfile.write(tmp_path / "b.mp3", np.tile(hiss(rng, 1), 3), 44_100)
    paths = [TOY[0], tmp_path / "b.mp3"]
    command = ["-m", "dfa_utils", "predict", "--checkpoint", file, "--out", tmp_path / "a.csv", *paths]
    done = without_torch(tmp_path, *command)
    assert done.returncode == 0, done.stderr
    said = [line.split(" (")[0] for line in done.stdout.splitlines()]
    assert said == [f"{path}: {detector.predict(path).label}" for path in paths]
    assert (tmp_path / "a.csv").read_text().count("-onnx") == 2


def test_without_torch_what_needs_it_says_so(tmp_path):
    done = without_torch(tmp_path, "-m", "dfa_utils", "predict", TOY[0])
    assert done.returncode == 2
    assert "No module named 'torch'; see README.md, or give an exported detector" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_command_line_exports_and_predicts(tmp_path, capsys):
    assert main(["export", "--onnx", str(tmp_path / "a.onnx")]) == 0
    assert "a.onnx: 5.0 MB" in capsys.readouterr().out
    assert main(["predict", "--checkpoint", str(tmp_path / "a.onnx"), str(TOY[0])]) == 0
    assert f"{TOY[0]}: " in capsys.readouterr().out
    assert main(["predict", "--checkpoint", str(tmp_path / "a.onnx"), "--device", "cuda", str(TOY[0])]) == 2
    assert "an exported detector is scored on the CPU" in capsys.readouterr().err
    assert main(["export", "--onnx", str(tmp_path / "a.pt")]) == 2
    assert "must end in .onnx" in capsys.readouterr().err
    assert main(["export", "--onnx", str(tmp_path / "b.onnx"), "--checkpoint", str(tmp_path / "a.onnx")]) == 2
    assert "was exported already" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.onnx"]


def foreign(path, **metadata):
    """A valid graph that passes its input on, with these metadata."""
    helper = onnx.helper
    names = ["waveform", "score"]
    values = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["B", "T"]) for name in names]
    graph = helper.make_graph([helper.make_node("Identity", names[:1], names[1:])], "g", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, metadata)
    path.write_bytes(model.SerializeToString())


FIGURES = {"format": 1, "sample_rate": 16_000, "clip_samples": 100, "hop_samples": 50, "limit": 0.0, "fingerprint": "a"}


@pytest.mark.parametrize(
    "figures",
    [
        None,
        [],
        {},
        FIGURES,
        FIGURES | {"format": 2},
        FIGURES | {"sample_rate": 0},
        FIGURES | {"clip_samples": 1e300},
        FIGURES | {"hop_samples": "50"},
        FIGURES | {"threshold": "high"},
        FIGURES | {"uncertain": [0.5, 0.2]},
        FIGURES | {"limit": None},
        FIGURES | {"limit": float("nan")},
        FIGURES | {"hop_samples": 10**7},
    ],
)
def test_a_file_that_is_not_ours_is_named_with_the_cure(tmp_path, figures):
    foreign(tmp_path / "a.onnx", **({} if figures is None else {"dfa_utils": json.dumps(figures)}))
    with pytest.raises(CheckpointError, match=r"a\.onnx: not exported by this version of dfa_utils; export it again"):
        Detector.load(tmp_path / "a.onnx")


def test_a_damaged_or_missing_file_is_named_with_the_cure(file, tmp_path):
    content = file.read_bytes()
    for damaged in (b"", b"no graph", content[: len(content) // 2], bytes(1_000)):
        (tmp_path / "a.onnx").write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"a\.onnx: .*export it again"):
            Detector.load(tmp_path / "a.onnx")
    with pytest.raises(CheckpointError, match=r"gone\.onnx: cannot be read .*check the path"):
        Detector.load(tmp_path / "gone.onnx")
