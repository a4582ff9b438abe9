import json
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from safetensors.torch import save_file

from dfa_utils import checkpoint, metrics, train
from dfa_utils.calibrate import calibrated
from dfa_utils.checkpoint import CheckpointError, load_checkpoint, newest_run, read_tensors
from dfa_utils.dataset import ClipDataset, fingerprint, make_loader, set_epoch
from dfa_utils.evaluation import score_clips
from dfa_utils.features import standardise
from dfa_utils.inference import Detector
from dfa_utils.train import Run, fit

SCRIPT = "import sys; from dfa_utils import Config, fit, scan; " \
         "fit(Config.from_json(sys.argv[1]), scan(sys.argv[2]), sys.argv[3])"  # fmt: skip


@pytest.fixture(scope="module")
def run(tiny_manifest, tiny_config, tmp_path_factory):
    return fit(tiny_config, tiny_manifest, tmp_path_factory.mktemp("runs") / "first")


def tensors(folder, name="last"):
    return read_tensors(folder / f"{name}.safetensors")[1]


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def test_it_learns_what_is_easy(tiny_manifest, tiny_config, tmp_path):
    history = fit(replace(tiny_config, epochs=8), tiny_manifest, tmp_path / "a").history
    assert history.eer.min() == 0
    assert history.loss.iloc[-1] < history.loss.iloc[0]


def test_a_run_leaves_its_checkpoints_and_its_history(run, tiny_manifest):
    assert sorted(p.name for p in run.folder.iterdir()) == ["best.safetensors", "history.csv", "last.safetensors"]
    assert len((run.folder / "history.csv").read_text(encoding="utf-8").splitlines()) == 1 + len(run.epochs)
    info = load_checkpoint(run.folder)[1]
    assert info["data"] == fingerprint(tiny_manifest)
    assert 0 < Detector.load(run.folder).threshold < 1


def test_the_best_checkpoint_is_the_best_epochs(run):
    info = json.loads(read_tensors(run.folder / "best.safetensors")[0]["info"])
    assert info["epoch"] == run.best + 1


def test_one_seed_one_result(run, tiny_config, tiny_manifest, tmp_path):
    again = fit(tiny_config, tiny_manifest, tmp_path / "again")
    other = fit(replace(tiny_config, seed=1), tiny_manifest, tmp_path / "other")
    assert same(tensors(run.folder), tensors(again.folder))
    assert not same(tensors(run.folder), tensors(other.folder))


def test_batch_norm_knows_the_weights_as_they_are(tiny_config, tiny_manifest, tmp_path):
    run = fit(replace(tiny_config, epochs=1), tiny_manifest, tmp_path / "a")
    model = load_checkpoint(run.folder / "last.safetensors")[0]
    loader = make_loader(ClipDataset(tiny_manifest[tiny_manifest.split == "training"], tiny_config, train=True))
    set_epoch(loader, 0)
    convolution, norm = model.back_end.stem[:2]
    means = [convolution(standardise(model.front_end(waves))).mean(dim=(0, 2, 3)) for waves, _ in loader]
    torch.testing.assert_close(norm.running_mean, torch.stack(means).mean(dim=0), atol=1e-5, rtol=1e-4)


def test_training_leaves_the_global_generator_alone(tiny_config, tiny_manifest, tmp_path):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    fit(replace(tiny_config, epochs=1), tiny_manifest, tmp_path / "a")
    assert torch.equal(torch.rand(2), expected)


def test_a_killed_run_ends_with_the_same_weights(run, tiny_root, tiny_config, tmp_path):
    folder = tmp_path / "killed"
    command = [sys.executable, "-c", SCRIPT, tiny_config.to_json(), str(tiny_root), str(folder)]
    process = subprocess.Popen(command)
    deadline = time.monotonic() + 120
    while not (folder / "last.safetensors").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert len(json.loads(read_tensors(folder / "last.safetensors")[0]["info"])["epochs"]) < tiny_config.epochs
    subprocess.run(command, check=True)
    assert same(tensors(run.folder), tensors(folder))
    assert same(tensors(run.folder, "best"), tensors(folder, "best"))


def stop_after_one_epoch(config, manifest, folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "is_finished", lambda run, config: len(run.epochs) == 1)
        return fit(config, manifest, folder)


def test_augmentation_is_resumed_like_all_else(run, tiny_config, tiny_manifest, tmp_path):
    config = replace(tiny_config, augment=(("noise", 0.5), ("band", 0.5)), mask_bands=4)
    whole = fit(config, tiny_manifest, tmp_path / "whole")
    stop_after_one_epoch(config, tiny_manifest, tmp_path / "parts")
    assert same(tensors(whole.folder), tensors(fit(config, tiny_manifest, tmp_path / "parts").folder))
    assert not same(tensors(whole.folder), tensors(run.folder))
    with pytest.raises(ValueError, match="another augment"):
        fit(tiny_config, tiny_manifest, whole.folder)


def test_a_run_keeps_the_precision_it_began_with_and_says_so(tiny_config, tiny_manifest, tmp_path, monkeypatch):
    def stored(epochs):
        info = json.loads(read_tensors(tmp_path / "a" / "last.safetensors")[0]["info"])
        assert len(info["epochs"]) == epochs
        return info["precision"]

    monkeypatch.setattr(train, "_fast_precision", lambda device: "bf16")
    stop_after_one_epoch(tiny_config, tiny_manifest, tmp_path / "a")
    assert stored(1) == "bf16"
    monkeypatch.setattr(train, "_fast_precision", lambda device: "fp32")
    with pytest.warns(UserWarning, match="begun in bf16 and continues in it"):
        fit(tiny_config, tiny_manifest, tmp_path / "a")
    assert stored(3) == "bf16"
    monkeypatch.setattr(train, "_fast_precision", lambda device: "bf16")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(tiny_config, tiny_manifest, tmp_path / "a")


def test_bf16_takes_a_processor_with_matrix_units(monkeypatch):
    for able, expected in (({"avx512_bf16": True}, "fp32"), ({"avx512_bf16": True, "amx_bf16": True}, "bf16")):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda able=able: able, raising=False)
        assert train._fast_precision(torch.device("cpu")) == expected


def test_a_finished_run_is_returned_as_it_is(run, tiny_config, tiny_manifest):
    before = (run.folder / "last.safetensors").stat().st_mtime_ns
    assert fit(tiny_config, tiny_manifest, run.folder).epochs == run.epochs
    assert (run.folder / "last.safetensors").stat().st_mtime_ns == before


def test_another_configuration_or_other_data_are_refused(run, tiny_config, tiny_manifest):
    with pytest.raises(ValueError, match="another learning_rate; give the same, or choose another folder"):
        fit(replace(tiny_config, learning_rate=1e-4), tiny_manifest, run.folder)
    with pytest.raises(ValueError, match="another data; give the same, or choose another folder"):
        fit(tiny_config, tiny_manifest[1:], run.folder)


def test_a_run_that_cannot_be_continued_is_named_with_the_cure(run, tiny_config, tiny_manifest, tmp_path):
    folder = Path(shutil.copytree(run.folder, tmp_path / "a"))
    header, state = read_tensors(folder / "last.safetensors")
    del state["back_end.head.weight"]
    save_file(state, folder / "last.safetensors", metadata=header)
    with pytest.raises(CheckpointError, match=r"last\.safetensors: cannot be continued.*train again"):
        fit(tiny_config, tiny_manifest, folder)
    (folder / "best.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"best\.safetensors is gone.*train again"):
        fit(tiny_config, tiny_manifest, folder)


def test_patience_ends_a_run_that_gets_no_better(tiny_config, tiny_manifest, tmp_path):
    config = replace(tiny_config, epochs=30, patience=2, learning_rate=1e-12)
    run = fit(config, tiny_manifest, tmp_path / "a")
    assert len(run.epochs) == max(run.best, 9) + 3 < 30  # the learning rate rises for 9 epochs


def test_the_newest_run_on_these_data_is_found(run, tiny_manifest):
    assert newest_run(fingerprint(tiny_manifest), "cnn", run.folder.parent) == run.folder
    assert newest_run("other", "cnn", run.folder.parent) is None
    damaged = run.folder.parent / "damaged" / "best.safetensors"
    damaged.parent.mkdir()
    damaged.write_text("no checkpoint")
    assert newest_run(fingerprint(tiny_manifest), "cnn", run.folder.parent) == run.folder


def test_two_processes_train_one_model(tiny_root, tiny_manifest, tiny_config, tmp_path):
    lines = [
        "from accelerate import Accelerator",
        "a = Accelerator()",
        "assert a.num_processes == 2",
        *SCRIPT.split("; "),
    ]
    (tmp_path / "script.py").write_text("\n".join([*lines, "a.end_training()"]))
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command = [*launch, tmp_path / "script.py", tiny_config.to_json(), tiny_root, tmp_path / "run"]
    subprocess.run(command, check=True, env=os.environ | {"ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1"})
    model, info = load_checkpoint(tmp_path / "run" / "last.safetensors")
    scores = score_clips(Detector(model, {}), tiny_manifest[tiny_manifest.split == "validation"])
    assert len(info["epochs"]) == tiny_config.epochs
    assert info["loss"] == pytest.approx(metrics.log_loss(scores.label, scores.score), abs=1e-5)  # each clip once


@pytest.mark.parametrize("writes", [1, 2, 3, 4, 5])
def test_a_stop_before_any_write_is_mended(run, tiny_manifest, tiny_config, tmp_path, monkeypatch, writes):
    original, left = checkpoint.write_atomically, iter(range(writes))

    def stop_after(path, content):
        if next(left, None) is None:
            raise KeyboardInterrupt
        original(path, content)

    with monkeypatch.context() as patch:
        for module in (checkpoint, train):
            patch.setattr(module, "write_atomically", stop_after)
        with pytest.raises(KeyboardInterrupt):
            fit(tiny_config, tiny_manifest, tmp_path / "a")
    assert fit(tiny_config, tiny_manifest, tmp_path / "a").epochs == run.epochs
    assert same(tensors(run.folder), tensors(tmp_path / "a"))
    assert same(tensors(run.folder, "best"), tensors(tmp_path / "a", "best"))
    assert (tmp_path / "a" / "history.csv").read_bytes() == (run.folder / "history.csv").read_bytes()


def test_training_figures_count_every_clip_drawn(tiny_manifest, tiny_config, tmp_path, monkeypatch):
    fakes = tiny_manifest[(tiny_manifest.split == "training") & (tiny_manifest.label == 1)]
    sizes, loss_of = [], train.cross_entropy
    monkeypatch.setattr(
        train, "cross_entropy", lambda logits, labels: sizes.append(len(labels)) or loss_of(logits, labels)
    )
    fit(replace(tiny_config, epochs=1), tiny_manifest.drop(fakes.index[:9]), tmp_path / "a")
    assert sizes == [8, 8, 8, 24]  # 12 reals, and 3 fakes drawn 4 times each; then all of the epoch


def test_a_loss_that_is_no_number_stops_the_run(tiny_manifest, tiny_config, tmp_path):
    with pytest.raises(ValueError, match="lower learning rate"):
        fit(replace(tiny_config, learning_rate=1e6, weight_decay=1e6), tiny_manifest, tmp_path / "a")


def test_the_stored_threshold_is_that_of_the_stored_scores(run, tiny_manifest):
    model, info = load_checkpoint(run.folder)
    scores = score_clips(Detector(model, {}), tiny_manifest[tiny_manifest.split == "validation"])
    assert info["threshold"] == pytest.approx(metrics.eer(scores.label, scores.score)[1], abs=1e-6)


@pytest.fixture(scope="module")
def more_validation(tiny_manifest):
    """12 clips of each class to validate on, one of each with the wrong label, so that the scores overlap."""
    manifest = tiny_manifest.replace({"split": {"testing": "validation"}})
    rows = [manifest[(manifest.split == "validation") & (manifest.label == label)].index[0] for label in (0, 1)]
    manifest.loc[rows, "label"] = 1 - manifest.loc[rows, "label"]
    return manifest


def test_a_detector_of_ones_own_has_a_probability_and_can_abstain(more_validation, tiny_config, tmp_path):
    run = fit(replace(tiny_config, epochs=8, patience=2), more_validation, tmp_path / "a")
    assert run.best < len(run.epochs) - 1  # what is kept is not the last epoch
    validation = more_validation[more_validation.split == "validation"]
    model, info = load_checkpoint(run.folder)
    scores = score_clips(Detector(model, {}), validation)
    assert info["loss"] == pytest.approx(metrics.log_loss(scores.label, scores.score), abs=1e-6)
    expected = calibrated(Detector(model, {}), scores.label, scores.score)
    assert {name: info[name] for name in expected} == {name: pytest.approx(expected[name]) for name in expected}
    detector = Detector(model, info)
    labels = [detector.predict(path).label for path in validation.path]
    assert {"uncertain"} < set(labels)
    better = score_clips(detector, validation)
    assert metrics.cllr(better.label, better.score) < metrics.cllr(scores.label, scores.score)


def test_a_run_that_is_resumed_is_calibrated_the_same(more_validation, tiny_config, tmp_path):
    whole = fit(tiny_config, more_validation, tmp_path / "whole")
    stop_after_one_epoch(tiny_config, more_validation, tmp_path / "parts")
    parts = fit(tiny_config, more_validation, tmp_path / "parts")
    for name in ("best", "last"):
        infos = [json.loads(read_tensors(run.folder / f"{name}.safetensors")[0]["info"]) for run in (whole, parts)]
        assert infos[0] == infos[1]
        assert {"calibration", "uncertain"} <= infos[0].keys()


@pytest.mark.parametrize("scores", ["few", "reversed"])
def test_what_cannot_be_calibrated_is_kept_with_a_threshold_alone(
    tiny_manifest, more_validation, tiny_config, tmp_path, scores
):
    manifest = tiny_manifest if scores == "few" else more_validation.copy()
    if scores == "reversed":
        rows = manifest.split == "validation"
        manifest.loc[rows, "label"] = 1 - manifest.loc[rows, "label"]
    run = fit(tiny_config, manifest, tmp_path / "a")
    info = load_checkpoint(run.folder)[1]
    assert "threshold" in info
    assert not {"calibration", "uncertain"} & info.keys()


@pytest.mark.parametrize("split", ["training", "validation"])
@pytest.mark.parametrize(("label", "name"), [(0, "real"), (1, "fake")])
def test_a_missing_class_is_named_before_anything_is_trained(tiny_manifest, tiny_config, tmp_path, split, label, name):
    manifest = tiny_manifest[(tiny_manifest.split != split) | (tiny_manifest.label != label)]
    for part in (manifest, tiny_manifest[tiny_manifest.split != split]):
        with pytest.raises(ValueError, match=f"no (real|{name}) clip for {split}; both splits need clips of both"):
            fit(tiny_config, part, tmp_path / "a")
    assert not (tmp_path / "a").exists()


def long_clips(folder, seed):
    """A manifest of four stereo clips of 3 s whose first second is silent whatever the seed."""
    rng, rows = np.random.default_rng(seed), []
    for i, (split, label) in enumerate(product(("training", "validation"), (0, 1))):
        wave = np.concatenate([np.zeros((44_100, 2)), rng.normal(0, 0.1, (2 * 44_100, 2))])
        soundfile.write(folder / f"{i}.wav", wave, 44_100)
        rows.append({"path": str(folder / f"{i}.wav"), "split": split, "label": label})
    return pd.DataFrame(rows)


def test_other_recordings_in_the_same_place_are_not_taken_for_those_of_the_run(tiny_config, tmp_path):
    config = replace(tiny_config, epochs=1)
    run = fit(config, long_clips(tmp_path, seed=0), tmp_path / "run")
    assert fit(config, long_clips(tmp_path, seed=0), tmp_path / "run").epochs == run.epochs
    with pytest.raises(ValueError, match="another data"):
        fit(config, long_clips(tmp_path, seed=1), tmp_path / "run")


def test_the_folder_of_a_vision_model_has_a_name_that_every_system_takes(
    tiny_config, tiny_manifest, tmp_path, monkeypatch
):
    monkeypatch.setenv("DFA_RUNS", str(tmp_path))
    run = fit(replace(tiny_config, model="timm:mobilenetv3_small_050", epochs=1), tiny_manifest)
    assert run.folder.parent == tmp_path
    assert run.folder.name.startswith("timm-mobilenetv3_small_050-")
    assert not set(run.folder.name) & set('<>:"/\\|?*')


def test_the_newest_run_is_that_of_the_model_asked_for(run, tiny_manifest, tiny_config, tmp_path, monkeypatch):
    data, later = fingerprint(tiny_manifest), tmp_path / "later"
    shutil.copytree(run.folder, tmp_path / "first")
    fit(replace(tiny_config, model="timm:mobilenetv3_small_050", epochs=1), tiny_manifest, later)
    os.utime(later / "best.safetensors", (time.time() + 60,) * 2)
    monkeypatch.setattr(checkpoint, "read_tensors", None)  # headers are enough
    assert newest_run(data, folder=tmp_path) == tmp_path / "first"
    assert newest_run(data, "timm:mobilenetv3_small_050", tmp_path) == later
    assert newest_run(data, "timm:vit_tiny_patch16_224", tmp_path) is None
