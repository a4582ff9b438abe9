import json
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from dfa_utils import checkpoint, metrics, train
from dfa_utils.checkpoint import CheckpointError, load_checkpoint, newest_run, read_tensors
from dfa_utils.dataset import fingerprint
from dfa_utils.evaluation import score_clips
from dfa_utils.features import standardise
from dfa_utils.inference import Detector
from dfa_utils.train import Trainer, fit

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
    trainer = Trainer(tiny_config, tiny_manifest, tmp_path / "a", "data")
    trainer.do_epoch()
    convolution, norm = trainer.model.back_end.stem[:2]
    pictures = [standardise(trainer.model.front_end(w), tiny_config.db_scale) for w, _ in trainer.loader]
    means = [convolution(picture).mean(dim=(0, 2, 3)) for picture in pictures]
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


def test_augmentation_is_resumed_like_all_else(run, tiny_config, tiny_manifest, tmp_path):
    config = replace(tiny_config, augment=(("noise", 0.5), ("band", 0.5)))
    whole = fit(config, tiny_manifest, tmp_path / "whole")
    Trainer(config, tiny_manifest, tmp_path / "parts", fingerprint(tiny_manifest)).do_epoch()
    assert same(tensors(whole.folder), tensors(fit(config, tiny_manifest, tmp_path / "parts").folder))
    assert not same(tensors(whole.folder), tensors(run.folder))
    with pytest.raises(ValueError, match="another augment"):
        fit(tiny_config, tiny_manifest, whole.folder)


def test_a_run_keeps_the_precision_it_began_with_and_says_so(tiny_config, tiny_manifest, tmp_path, monkeypatch):
    def train_on(can_bf16):
        monkeypatch.setattr(train, "_has_bf16", lambda device: can_bf16)
        Trainer(tiny_config, tiny_manifest, tmp_path / "a", fingerprint(tiny_manifest)).do_epoch()
        return json.loads(read_tensors(tmp_path / "a" / "last.safetensors")[0]["info"])["precision"]

    assert train_on(True) == "bf16"
    with pytest.warns(UserWarning, match="begun in bf16"):
        assert train_on(False) == "bf16"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert train_on(True) == "bf16"


def test_bf16_takes_a_processor_with_matrix_units(monkeypatch):
    for able, expected in (({"avx512_bf16": True}, False), ({"avx512_bf16": True, "amx_bf16": True}, True)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda able=able: able, raising=False)
        assert train._has_bf16(torch.device("cpu")) == expected


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
    save_file({name: state[name] for name in list(state)[1:]}, folder / "last.safetensors", metadata=header)
    with pytest.raises(CheckpointError, match=r"last\.safetensors: cannot be continued.*train anew"):
        fit(tiny_config, tiny_manifest, folder)
    (folder / "best.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"best\.safetensors is gone.*train anew"):
        fit(tiny_config, tiny_manifest, folder)


def test_patience_ends_a_run_that_gets_no_better(tiny_config, tiny_manifest, tmp_path):
    config = replace(tiny_config, epochs=30, patience=2, learning_rate=1e-12)
    run = fit(config, tiny_manifest, tmp_path / "a")
    assert len(run.epochs) == max(run.best, 9) + 3 < 30  # the learning rate rises for 9 epochs


def test_the_newest_run_on_these_data_is_found(run, tiny_manifest):
    assert newest_run(fingerprint(tiny_manifest), run.folder.parent) == run.folder
    assert newest_run("other", run.folder.parent) is None
    damaged = run.folder.parent / "damaged" / "best.safetensors"
    damaged.parent.mkdir()
    damaged.write_text("no checkpoint")
    assert newest_run(fingerprint(tiny_manifest), run.folder.parent) == run.folder


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


def test_training_figures_count_every_clip_drawn(tiny_manifest, tiny_config, tmp_path):
    fakes = tiny_manifest[(tiny_manifest.split == "training") & (tiny_manifest.label == 1)]
    trainer = Trainer(tiny_config, tiny_manifest.drop(fakes.index[:9]), tmp_path / "a", "data")
    sizes = [len(trainer._learn(waveforms, labels, step=True)[1]) for waveforms, labels in trainer.batches]
    assert sum(sizes) == 24  # 12 reals, and 3 fakes drawn 4 times each


def test_a_loss_that_is_no_number_stops_the_run(tiny_manifest, tiny_config, tmp_path):
    with pytest.raises(ValueError, match="lower learning rate"):
        fit(replace(tiny_config, learning_rate=1e30, gradient_norm=1e30), tiny_manifest, tmp_path / "a")


def test_the_stored_threshold_is_that_of_the_stored_scores(run, tiny_manifest):
    model, info = load_checkpoint(run.folder)
    scores = score_clips(Detector(model, {}), tiny_manifest[tiny_manifest.split == "validation"])
    assert info["threshold"] == pytest.approx(metrics.eer(scores.label, scores.score)[1], abs=1e-6)
