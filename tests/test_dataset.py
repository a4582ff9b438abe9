import shutil

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from conftest import ROOT, hiss, tone

from dfa_utils.audio import AudioError
from dfa_utils.config import Config
from dfa_utils.dataset import BalancedBatches, ClipDataset, find_unusable, fingerprint, make_loader, scan, set_epoch
from dfa_utils.layouts import DataError
from dfa_utils.windows import find_sounds

COUNTS = {("training", 0): 12, ("training", 1): 12, ("validation", 0): 6, ("validation", 1): 6, ("testing", 0): 6,
          ("testing", 1): 6}  # fmt: skip


def counts(manifest):
    return manifest.groupby(["split", "label"]).size().to_dict()


def test_the_folder_layout(tiny_manifest):
    assert counts(tiny_manifest) == COUNTS


def test_other_names_upper_case_and_a_folder_around(tiny_root, tmp_path):
    for split, name in (("training", "TRAIN"), ("validation", "Val"), ("testing", "test")):
        for label in ("real", "fake"):
            shutil.copytree(tiny_root / split / label, tmp_path / "for-rerecorded" / name / label.upper())
    assert counts(scan(tmp_path)) == COUNTS


def test_a_csv_with_systems_and_speakers(tiny_root, tmp_path):
    rows = [f"{p.relative_to(tiny_root)},{p.parts[-3]},{p.parts[-2]},s,v" for p in tiny_root.rglob("*.wav")]
    rows.append("elsewhere.wav,real_only,real,s,v")
    (tiny_root / "list.csv").write_text("path,split,label,system,speaker\n" + "\n".join(rows))
    with pytest.warns(UserWarning, match=r"left out 1 row with a split other than .*: real_only \(1\)"):
        manifest = scan(tiny_root / "list.csv")
    (tiny_root / "list.csv").unlink()
    assert counts(manifest) == COUNTS
    assert set(manifest.system) == {"s"}


def test_what_is_missing_is_named(tiny_root, tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        scan(tmp_path / "nowhere")
    with pytest.raises(DataError, match="no folder called training"):
        scan(tmp_path)
    shutil.copytree(tiny_root, tmp_path / "a")
    shutil.rmtree(tmp_path / "a" / "validation" / "fake")
    with pytest.raises(DataError, match="no usable fake clip for validation"):
        scan(tmp_path / "a")
    (tmp_path / "a" / "training" / "real").rename(tmp_path / "a" / "training" / "human")
    named = r"training/fake \(12\).*; found folders testing/fake, .* training/human"
    with (
        pytest.warns(UserWarning, match=r"left out 12 audio files .*: training/human \(12\)"),
        pytest.raises(DataError, match=f"no usable real clip for training; found clips: {named}"),
    ):
        scan(tmp_path / "a")


def test_classes_around_the_splits_are_refused_with_the_cure(tiny_root, tmp_path):
    for label in ("real", "fake"):
        for split in ("training", "validation", "testing"):
            shutil.copytree(tiny_root / split / label, tmp_path / label / split / label)
    with pytest.raises(DataError, match="put real and fake into each split"):
        scan(tmp_path)


def test_unusable_files_are_left_out_and_named(tiny_root, tmp_path):
    shutil.copytree(tiny_root, tmp_path / "a")
    folder = tmp_path / "a" / "training" / "real"
    (folder / "empty.wav").touch()
    (folder / "text.wav").write_text("no audio")
    soundfile.write(folder / "silent.wav", np.zeros(8_000), 16_000)
    with pytest.warns(UserWarning, match="left out 3 of 51 clips") as caught:
        manifest = scan(tmp_path / "a")
    assert all(name in str(caught[0].message) for name in ("empty.wav", "text.wav", "silent.wav"))
    assert counts(manifest) == COUNTS
    assert len(find_unusable(manifest.path)) == 0


def test_unknown_labels_are_refused(tmp_path):
    (tmp_path / "manifest.csv").write_text("path,split,label\na.wav,training,maybe\n")
    with pytest.raises(DataError, match="maybe"):
        scan(tmp_path)


def test_the_fingerprint_follows_from_the_data_and_not_from_the_place(tiny_root, tiny_manifest, tmp_path):
    shutil.copytree(tiny_root, tmp_path / "b")
    assert fingerprint(scan(tmp_path / "b")) == fingerprint(tiny_manifest)
    assert fingerprint(tiny_manifest[1:]) != fingerprint(tiny_manifest)
    assert fingerprint(tiny_manifest.assign(label=1)) != fingerprint(tiny_manifest)
    changed = tmp_path / "b" / "training" / "real" / "0.wav"
    changed.write_bytes(changed.read_bytes()[:-2] + b"\x01\x02")
    assert fingerprint(scan(tmp_path / "b")) != fingerprint(tiny_manifest)


def test_the_fingerprint_sees_all_of_a_long_clip(tmp_path):
    """Once it read the first 64 KiB, so that `fit` returned the finished run of other recordings."""
    silence = np.zeros(44_100, "float32")
    manifest = pd.DataFrame({"path": [str(tmp_path / "a.wav")], "split": ["training"], "label": [0]})
    found = set()
    for place in (0, 44_100, 2 * 44_100):
        sound = np.roll(np.concatenate([hiss(np.random.default_rng(0), 0.5), *[silence] * 2]), place)
        soundfile.write(tmp_path / "a.wav", np.concatenate([silence, sound]), 44_100)
        found.add(fingerprint(manifest))
    assert len(found) == 3


def test_the_fingerprint_of_short_clips_stays(tmp_path):
    """Released weights and tables name the data that they were made with."""
    assert fingerprint(scan(ROOT / "data" / "toy", check=False)) == "85b1168cc53a"


def test_the_dataset_cuts_and_repeats(tiny_manifest):
    for seconds in (0.25, 1.0):
        config = Config(clip_seconds=seconds)
        wave, label = ClipDataset(tiny_manifest, config)[0]
        assert wave.shape == (config.clip_samples,)
        assert label == tiny_manifest.label[0]


def test_digital_silence_around_a_clip_is_not_trained_on(tmp_path, tiny_config):
    sound, size = tone(np.random.default_rng(0), seconds=0.1), tiny_config.clip_samples
    silence = np.zeros((size - len(sound)) // 2)
    for name, samples in (("a.wav", sound), ("b.wav", np.concatenate([silence, sound, silence]))):
        soundfile.write(tmp_path / name, samples, 16_000)
    manifest = pd.DataFrame({"path": [str(tmp_path / name) for name in ("a.wav", "b.wav")], "label": [0, 0]})
    bare, padded = (wave for wave, _ in ClipDataset(manifest, tiny_config, train=True))
    assert bare.any()
    assert torch.equal(bare, padded)


def crops(path, config, epochs=200):
    """What training would cut from one file in many epochs: [epochs, clip_samples]."""
    dataset = ClipDataset(pd.DataFrame({"path": [str(path)], "label": [0]}), config, train=True)
    cut = []
    for dataset.epoch in range(epochs):
        cut.append(dataset[0][0])
    return torch.stack(cut)


def test_with_leading_silence_no_crop_is_a_loop_with_a_seam(tmp_path, tiny_config):
    sound, size = tone(np.random.default_rng(0), seconds=1.0), tiny_config.clip_samples
    soundfile.write(tmp_path / "a.wav", np.concatenate([np.zeros(16_000), sound]), 16_000, subtype="FLOAT")
    wave = torch.from_numpy(sound)
    places = {wave[start : start + size].numpy().tobytes() for start in range(len(wave) - size + 1)}
    cut = crops(tmp_path / "a.wav", tiny_config)
    assert all(crop.numpy().tobytes() in places for crop in cut)
    assert len(cut.unique(dim=0)) > 150  # all places are equally likely


def test_with_a_long_pause_no_crop_is_silent_and_both_sounds_are_drawn(tmp_path, tiny_config):
    rng, size = np.random.default_rng(0), tiny_config.clip_samples
    pauses = [np.zeros(samples, "float32") for samples in (48_000, 9_000)]
    parts = [tone(rng, 0.9, hz=250), pauses[0], hiss(rng, 0.6), pauses[1], tone(rng, 0.1)]
    soundfile.write(tmp_path / "a.wav", np.concatenate(parts), 16_000, subtype="FLOAT")
    cut = crops(tmp_path / "a.wav", tiny_config)
    assert (cut.unfold(1, 160, 160).amax(dim=2) - cut.unfold(1, 160, 160).amin(dim=2)).min() > 1e-3
    sounds = find_sounds(torch.from_numpy(np.concatenate(parts)), size)
    assert [end - start for start, end in sounds] == [14_400, 9_600, 1_600]
    hissing = (cut.diff(dim=1).abs().mean(dim=1) > 0.04).float().mean()
    assert 0.2 < hissing < 0.5  # 3,201 of 8,001 + 3,201 + 1 places


def test_a_silent_clip_is_refused_in_training(tmp_path, tiny_config):
    soundfile.write(tmp_path / "silent.wav", np.full(9_000, 0.1), 16_000)
    with pytest.raises(AudioError, match=r"silent\.wav") as error:
        crops(tmp_path / "silent.wav", tiny_config, 1)
    assert error.value.kind == "silent"


def test_crops_follow_from_seed_epoch_and_index(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(np.random.default_rng(0), seconds=3), 16_000)
    manifest = pd.DataFrame({"path": [str(tmp_path / "a.wav")], "label": [0]})
    dataset, twin = (ClipDataset(manifest, Config(clip_seconds=1.0), train=True) for _ in range(2))
    assert torch.equal(dataset[0][0], twin[0][0])
    twin.epoch = 1
    assert not torch.equal(dataset[0][0], twin[0][0])


def test_batches_are_balanced_and_use_every_clip_of_the_larger_class():
    labels = [0] * 10 + [1] * 3
    batches = list(BalancedBatches(labels, batch_size=4, seed=0))
    assert len(batches) == len(BalancedBatches(labels, batch_size=4, seed=0)) == 5
    assert all(sum(labels[i] for i in batch) * 2 == len(batch) for batch in batches)
    assert {i for batch in batches for i in batch} == set(range(13))


def test_a_loader_repeats_exactly_and_shuffles_each_epoch(tiny_manifest, tiny_config):
    training = tiny_manifest[tiny_manifest.split == "training"]
    first, second = (make_loader(ClipDataset(training, tiny_config, train=True)) for _ in range(2))
    pairs = zip(first, second, strict=True)
    assert all(torch.equal(a, b) and torch.equal(x, y) for (a, x), (b, y) in pairs)
    set_epoch(second, 1)
    assert not torch.equal(next(iter(first))[0], next(iter(second))[0])
