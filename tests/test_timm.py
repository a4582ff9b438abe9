"""Vision models of timm on the spectrogram, small and with random weights."""

import subprocess
import sys
from dataclasses import replace

import onnxruntime
import pytest
import torch
from conftest import RATE
from safetensors.torch import save_file

from dfa_utils import Config, Detector, build_model
from dfa_utils.checkpoint import load_checkpoint, save_checkpoint
from dfa_utils.explain import grad_cam
from dfa_utils.export import export_onnx

SMALL = Config(model="timm:mobilenetv3_small_050", n_mels=32, dropout=0.0)
VIT = "timm:vit_tiny_patch16_224"


def waveforms(clips=4, seconds=0.5, seed=0):
    return torch.randn(clips, int(seconds * RATE), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", [SMALL.model, VIT, "timm:convnext_atto"])
def test_any_length_gives_two_finite_logits(name):
    model = build_model(name, SMALL).eval()
    for seconds in (0.1, 0.5, 2.0, 3.3):
        logits = model(waveforms(2, seconds))
        assert logits.shape == (2, 2)
        assert logits.isfinite().all()


def test_an_unknown_name_lists_similar_ones():
    with pytest.raises(ValueError, match="mobilenetv3_small_050"):
        build_model("timm:mobilenetv3_huge")


def test_a_missing_package_gives_the_line_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ImportError, match="pip install timm"):
        build_model(config=SMALL)


def test_missing_weights_give_the_line_that_fetches_them(tmp_path):
    for pretrained in ("nobody/nothing", str(tmp_path)):
        with pytest.raises(ValueError, match=r"no .*weights there.*hf download timm/mobilenetv3_small_050"):
            build_model(config=replace(SMALL, pretrained=pretrained))


def test_weights_come_from_a_file_and_a_checkpoint_needs_it_no_more(tmp_path):
    source = build_model(config=replace(SMALL, seed=1)).back_end.network
    save_file(source.state_dict(), tmp_path / "model.safetensors")
    for pretrained in (tmp_path, tmp_path / "model.safetensors"):
        model = build_model(config=replace(SMALL, seed=2, pretrained=str(pretrained))).eval()
        torch.testing.assert_close(model.back_end.network.conv_stem.weight, source.conv_stem.weight)
    save_checkpoint(tmp_path / "a.safetensors", model, {})
    (tmp_path / "model.safetensors").unlink()
    torch.testing.assert_close(load_checkpoint(tmp_path / "a.safetensors")[0](waveforms()), model(waveforms()))


WITHOUT = """
import sys
sys.modules.update(timm=None, transformers=None, torchvision=None)
from dfa_utils import Detector
for path in sys.argv[2:]:
    try:
        print(Detector.load(path).predict(sys.argv[1]))
    except ImportError as error:
        print(error)
"""


def test_elsewhere_a_checkpoint_needs_no_package_that_its_model_does_not(tiny_root, tmp_path):
    paths = []
    for name in ("cnn", SMALL.model):
        paths.append(tmp_path / f"{name[:4]}.safetensors")
        save_checkpoint(paths[-1], build_model(name, replace(SMALL, channels=(4, 8))), {})
    file = str(tiny_root / "testing" / "fake" / "0.wav")
    command = [sys.executable, "-c", WITHOUT, file, *map(str, paths)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert [line.startswith(f"{file}: ") for line in said] == [True, False]
    assert said[1] == f"{paths[1]}: the model {SMALL.model!r} needs timm: pip install timm"


def test_a_vision_model_is_exported_and_explained(tmp_path):
    detector, waves = Detector(build_model(config=SMALL), {}, Detector.load().speech), waveforms(2, 2.0)
    session = onnxruntime.InferenceSession(export_onnx(detector, tmp_path / "a.onnx"))
    with torch.inference_mode():
        logits = detector.model(waves).diff(dim=1)[:, 0]
    assert session.run(["logit"], {"waveform": waves.numpy()})[0] == pytest.approx(logits.numpy(), abs=1e-4)
    assert grad_cam(detector.model, waves).isfinite().all()


def test_what_onnx_cannot_express_is_refused(tmp_path):
    detector = Detector(build_model(VIT, SMALL), {}, Detector.load().speech)
    with pytest.raises(ValueError, match=r"ONNX cannot express this model: .*upsample_bicubic"):
        export_onnx(detector, tmp_path / "a.onnx")
