"""Models that read tokens, and models that others designed: from timm and transformers, on tiny random weights."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch.nn.functional import cross_entropy

from dfa_utils import Config, Detector, build_model, fit
from dfa_utils.checkpoint import CheckpointError, fingerprint_of, load_checkpoint, save_checkpoint
from dfa_utils.explain import occlusion_by_band
from dfa_utils.export import export_onnx
from dfa_utils.models import frozen_tensors, groups_by_layer, hash_of

RATE = 16_000
SMALL = {"channels": (4, 8), "width": 16, "depth": 2, "heads": 2, "dropout": 0.0, "n_mels": 32}
TIMM = "timm:mobilenetv3_small_050"
TOKENS = ["ast", "conformer"]
VISION = [TIMM, "timm:vit_tiny_patch16_224", "timm:convnext_atto"]
ENCODER = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "conv_dim": (8, 8),
    "conv_kernel": (10, 8),
    "conv_stride": (5, 4),
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
}
KINDS = {"wav2vec2": "Wav2Vec2", "hubert": "Hubert", "wavlm": "WavLM"}


def keep(network, folder):
    """The folder in which the network of transformers lies now."""
    network.save_pretrained(folder, safe_serialization=True)
    return str(folder)


@pytest.fixture(scope="module")
def speech_folders(tmp_path_factory):
    """Where a tiny model of each kind lies, as their authors publish large ones."""
    folders = {}
    for name, prefix in KINDS.items():
        torch.manual_seed(0)
        network = getattr(transformers, f"{prefix}Model")(getattr(transformers, f"{prefix}Config")(**ENCODER))
        folders[name] = keep(network, tmp_path_factory.mktemp(name))
    return folders


@pytest.fixture(scope="module")
def ast_folder(tmp_path_factory):
    torch.manual_seed(0)
    theirs = transformers.ASTConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        num_mel_bins=32,
        max_length=128,
    )
    return keep(transformers.ASTModel(theirs), tmp_path_factory.mktemp("ast"))


def waveforms(clips=4, seconds=0.5, seed=0):
    return torch.randn(clips, int(seconds * RATE), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", TOKENS + VISION)
def test_any_length_gives_two_finite_logits(name):
    model = build_model(name, Config(**SMALL)).eval()
    for seconds in (0.1, 0.5, 2.0, 3.3):
        logits = model(waveforms(2, seconds))
        assert logits.shape == (2, 2)
        assert logits.isfinite().all()


@pytest.mark.parametrize("name", TOKENS)
def test_gradients_reach_every_weight_and_a_batch_can_be_learnt(name):
    model = build_model(name, Config(**SMALL))
    x, labels = waveforms(8), torch.tensor([0, 1] * 4)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    for _ in range(120):
        optimizer.zero_grad()
        loss = cross_entropy(model(x), labels)
        loss.backward()
        optimizer.step()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())
    assert loss < 0.05


@pytest.mark.parametrize("name", TOKENS)
def test_recomputing_changes_no_gradient(name):
    gradients = []
    for recompute in (False, True):
        model = build_model(name, Config(**SMALL, recompute=recompute)).train()
        cross_entropy(model(waveforms()), torch.tensor([0, 1, 0, 1])).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    assert gradients[0].abs().max() > 0
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("name", TOKENS)
def test_where_a_sound_lies_matters_to_a_reader_of_tokens(name):
    model = build_model(name, Config(**SMALL)).eval()
    wave = waveforms(1, 1.0) * torch.linspace(0, 1, RATE)
    assert not torch.allclose(model(wave), model(wave.flip(1)), atol=1e-4)


def test_an_unknown_name_lists_what_is_like_it():
    with pytest.raises(ValueError, match="mobilenetv3_small_050"):
        build_model("timm:mobilenetv3_huge")
    with pytest.raises(ValueError, match=r"conformer.*timm:NAME.*wav2vec2"):
        build_model("transformer")


@pytest.mark.parametrize(("name", "package"), [(TIMM, "timm"), ("wavlm", "transformers")])
def test_a_missing_package_gives_the_line_that_installs_it(name, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=f"pip install {package}"):
        build_model(name, Config(borrowed="somewhere"))


@pytest.mark.parametrize("name", [TIMM, "wavlm", "ast"])
def test_missing_weights_give_the_line_that_fetches_them(name):
    with pytest.raises(ValueError, match=r"no .*weights.* there.*hf download"):
        build_model(name, Config(borrowed="nobody/nothing"))


def test_a_model_of_speech_does_not_start_from_nothing():
    with pytest.raises(ValueError, match="set borrowed to a folder"):
        build_model("hubert")


def test_weights_of_a_vision_model_come_from_a_file(tmp_path):
    source = build_model(TIMM, Config(**SMALL, seed=1)).back_end.network
    save_file(source.state_dict(), tmp_path / "model.safetensors")
    for borrowed in (tmp_path, tmp_path / "model.safetensors"):
        model = build_model(TIMM, Config(**SMALL, seed=2, borrowed=str(borrowed)))
        torch.testing.assert_close(model.back_end.network.conv_stem.weight, source.conv_stem.weight)


@pytest.mark.parametrize("name", list(KINDS))
def test_a_model_of_speech_is_borrowed_and_judges_any_length(name, speech_folders):
    config = Config(model=name, borrowed=speech_folders[name])
    model = build_model(config=config).eval()
    theirs = load_file(f"{speech_folders[name]}/model.safetensors")
    mine = model.back_end.network.state_dict()
    assert any(value.shape == mine[key].shape and torch.equal(value, mine[key]) for key, value in theirs.items())
    for seconds in (0.1, 0.5, 2.0):
        assert model(waveforms(2, seconds)).isfinite().all()
    torch.testing.assert_close(model(waveforms() * 0.1 + 0.01), model(waveforms()), atol=1e-4, rtol=0)


def test_a_spectrogram_transformer_is_borrowed_with_its_places(ast_folder):
    config = Config(model="ast", borrowed=ast_folder, n_mels=32, clip_seconds=0.5)
    model = build_model(config=config).eval()
    theirs = load_file(f"{ast_folder}/model.safetensors")["embeddings.position_embeddings"]
    mine = model.back_end.network.embeddings.position_embeddings
    torch.testing.assert_close(mine[:, :5], theirs[:, :5])  # two that are no patches, and the lowest row's first three
    for seconds in (0.2, 0.5, 1.0):
        assert model(waveforms(2, seconds)).isfinite().all()
    with pytest.raises(ValueError, match="32 bands"):
        build_model(config=replace(config, n_mels=80))


def test_layers_further_down_learn_more_slowly(speech_folders):
    model = build_model(config=Config(model="wavlm", borrowed=speech_folders["wavlm"], frozen_layers=1))
    groups = groups_by_layer(model, 1e-3, 0.5)
    assert [group["lr"] for group in groups] == pytest.approx([1.25e-4, 2.5e-4, 5e-4, 1e-3])
    grouped = {id(p) for group in groups for p in group["params"]}
    assert grouped == {id(p) for p in model.parameters() if p.requires_grad}
    assert all(p.requires_grad for group in groups for p in group["params"])
    assert id(model.back_end.head.weight) in {id(p) for p in groups[-1]["params"]}


def test_our_own_models_learn_in_one_group():
    model = build_model()
    (group,) = groups_by_layer(model, 1e-3, 0.5)
    assert [id(p) for p in group["params"]] == [id(p) for p in model.parameters()]
    with pytest.raises(ValueError, match="CNN borrows nothing"):
        build_model(config=Config(frozen_layers=1))


def test_a_frozen_model_trains_stays_small_on_disk_and_comes_back(speech_folders, tiny_manifest, tiny_config, tmp_path):
    config = replace(tiny_config, model="wav2vec2", borrowed=speech_folders["wav2vec2"], frozen_layers=99, epochs=2)
    run = fit(config, tiny_manifest, tmp_path / "a")
    stored = load_file(run.folder / "best.safetensors")
    assert set(stored) == {"back_end.weights", "back_end.head.weight", "back_end.head.bias"}
    model, _ = load_checkpoint(run.folder)
    theirs = load_file(f"{config.borrowed}/model.safetensors")["feature_projection.projection.weight"]
    torch.testing.assert_close(model.back_end.network.feature_projection.projection.weight, theirs)
    x = waveforms()
    torch.testing.assert_close(load_checkpoint(run.folder)[0](x), model(x))
    assert Detector.load(run.folder).predict(x[0].numpy(), RATE).score == pytest.approx(0.5, abs=0.5)


def test_a_partly_frozen_run_that_is_stopped_goes_on(speech_folders, tiny_manifest, tiny_config, tmp_path, monkeypatch):
    config = replace(tiny_config, model="hubert", borrowed=speech_folders["hubert"], frozen_layers=2, layer_decay=0.5)
    config = replace(config, epochs=3, accumulate=2)
    whole = fit(config, tiny_manifest, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr("dfa_utils.train.Run.is_finished", lambda run, config: len(run.epochs) == 1)
        fit(config, tiny_manifest, tmp_path / "stopped")
    again = fit(config, tiny_manifest, tmp_path / "stopped")
    assert [row["loss"] for row in again.epochs] == [row["loss"] for row in whole.epochs]


def test_other_weights_under_the_same_name_are_noticed(speech_folders, tmp_path):
    folder = tmp_path / "theirs"
    network = transformers.WavLMModel.from_pretrained(speech_folders["wavlm"])
    config = Config(model="wavlm", borrowed=keep(network, folder), frozen_layers=99)
    model = build_model(config=config)
    save_checkpoint(tmp_path / "a.safetensors", model, {})
    before, print_before = hash_of(frozen_tensors(model)), fingerprint_of(model, ())
    with torch.no_grad():
        network.encoder.layers[0].final_layer_norm.bias[0] += 1
    keep(network, folder)
    other = build_model(config=config)
    assert hash_of(frozen_tensors(other)) != before
    assert fingerprint_of(other, ()) != print_before
    with pytest.raises(CheckpointError, match="not those it was trained on"):
        load_checkpoint(tmp_path / "a.safetensors")


def test_a_checkpoint_with_all_weights_needs_those_it_began_with_no_more(tmp_path):
    source = build_model(TIMM, Config(**SMALL, seed=1))
    save_file(source.back_end.network.state_dict(), tmp_path / "model.safetensors")
    config = Config(model=TIMM, **SMALL, borrowed=str(tmp_path / "model.safetensors"))
    model = build_model(config=config).eval()
    save_checkpoint(tmp_path / "a.safetensors", model, {})
    (tmp_path / "model.safetensors").unlink()
    torch.testing.assert_close(load_checkpoint(tmp_path / "a.safetensors")[0](waveforms()), model(waveforms()))


WITHOUT = """
import sys
sys.modules.update(timm=None, transformers=None, torchvision=None)
from dfa_utils.__main__ import main
sys.exit(main(["predict", "--checkpoint", *sys.argv[1:]]))
"""


@pytest.mark.parametrize("name", ["cnn", "statistics", "ast", "conformer", TIMM])
def test_elsewhere_a_checkpoint_needs_no_package_that_its_model_does_not(name, tiny_root, tmp_path):
    save_checkpoint(tmp_path / "a.safetensors", build_model(name, Config(**SMALL)), {})
    file = tiny_root / "testing" / "fake" / "0.wav"
    command = [sys.executable, "-c", WITHOUT, str(tmp_path / "a.safetensors"), str(file)]
    done = subprocess.run(command, capture_output=True, text=True)
    if name == TIMM:
        assert done.returncode == 2
        assert f"a.safetensors: the model {TIMM!r} needs timm: pip install timm" in done.stderr
    else:
        assert done.returncode == 0, done.stderr
        assert f"{file}: " in done.stdout


@pytest.mark.parametrize("name", [*TOKENS, TIMM])
def test_an_exported_model_says_the_same(name, tmp_path):
    save_checkpoint(tmp_path / "a.safetensors", build_model(name, Config(**SMALL)), {})
    detector, wave = Detector.load(tmp_path / "a.safetensors"), waveforms(1, 3.5)[0].numpy()
    exported = Detector.load(export_onnx(detector, tmp_path / "a.onnx"))
    assert exported.predict(wave, RATE).scores == pytest.approx(detector.predict(wave, RATE).scores, abs=1e-5)


def test_what_cannot_be_exported_or_explained_says_so(speech_folders, tmp_path):
    stretching = Detector(build_model("timm:vit_tiny_patch16_224", Config(**SMALL)), {}, Detector.load().speech)
    with pytest.raises(ValueError, match=r"ONNX lacks what this model does: .*upsample_bicubic"):
        export_onnx(stretching, tmp_path / "a.onnx")
    listening = build_model("wav2vec2", Config(borrowed=speech_folders["wav2vec2"]))
    with pytest.raises(ValueError, match="wav2vec2 reads waveforms"):
        export_onnx(Detector(listening, {}, Detector.load().speech), tmp_path / "a.onnx")
    with pytest.raises(ValueError, match="wav2vec2 reads waveforms"):
        occlusion_by_band(listening, waveforms())


def test_accumulated_batches_step_as_one(tiny_manifest, tiny_config, tmp_path):
    config = replace(tiny_config, model="ast", width=16, depth=1, heads=2, epochs=1, dropout=0.0)
    states = []
    for accumulate, batch_size in ((1, 24), (3, 8)):
        run = fit(
            replace(config, accumulate=accumulate, batch_size=batch_size), tiny_manifest, tmp_path / str(accumulate)
        )
        states.append(
            torch.cat(
                [v.flatten() for k, v in sorted(load_file(run.folder / "last.safetensors").items()) if "step" in k]
            )
        )
    assert states[0].max() == states[1].max() == 1  # of 24 clips one step, at once or in three parts
