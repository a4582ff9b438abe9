"""What clips go through before training, the kept versions, the batches, and training itself."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import RATE, tone

from dfa_utils.audio import load_audio
from dfa_utils.checkpoint import load_checkpoint
from dfa_utils.features import LogMel
from dfa_utils.support import wav_bytes
from research import copies, debian_speech, received, training

KBIT = {"mp3": 64, "opus": 24, "aac": 64}


def voice(seconds=2.0, seed=0):
    """Bursts of a harmonic sound [T]: loud and quiet syllables with pauses of faint noise."""
    rng, t = np.random.default_rng(seed), np.arange(int(seconds * RATE)) / RATE
    sound = sum(np.sin(2 * np.pi * 140 * k * t) / k for k in range(1, 40))
    level = np.clip(np.sin(2 * np.pi * 2.5 * t), 0, 1) * np.where(t < seconds / 2, 0.1, 1.0)
    return (0.1 * level * sound + 1e-3 * rng.standard_normal(len(t))).astype(np.float32)


@pytest.mark.parametrize("codec", received.ENCODERS)
def test_an_encoder_keeps_level_and_place(codec):
    clip = voice()
    coded = received.encode(clip, np.random.default_rng(0), codec, KBIT.get(codec, 0))
    assert coded.shape == clip.shape
    assert 20 * np.log10(coded.std() / clip.std()) == pytest.approx(0, abs=1)
    size = 2 * len(clip)
    lag = np.argmax(np.fft.irfft(np.fft.rfft(coded, size) * np.conj(np.fft.rfft(clip, size))))
    assert min(lag, size - lag) <= 25  # 1.4 ms are the filters of G.722


@pytest.mark.parametrize("step", [step for step, _ in received.PRODUCTION], ids=lambda step: step.__name__)
def test_a_step_of_production_changes_a_clip_and_keeps_its_words(step):
    clip = voice()
    changed = step(clip, np.random.default_rng(1))
    assert changed.dtype == np.float32
    assert changed.shape == clip.shape
    assert not np.array_equal(changed, clip)
    assert np.corrcoef(changed, clip)[0, 1] > 0.6


def test_a_compressor_brings_loud_and_quiet_together_and_a_gate_parts_them():
    clip, half = voice(), RATE

    def contrast(sound):
        """Level in dB of the loud half above the quiet one."""
        return 20 * np.log10(sound[half:].std() / sound[:half].std())

    for seed in range(5):
        assert contrast(received.compress(clip, np.random.default_rng(seed))) < contrast(clip) - 1
        assert contrast(received.level_out(clip, np.random.default_rng(seed))) < contrast(clip) - 1
        assert contrast(received.gate(clip, np.random.default_rng(seed))) > contrast(clip) - 0.1


def test_what_people_receive_follows_from_the_generator():
    clip = voice()
    first, again, other = (received.received(clip, np.random.default_rng(seed), 1, 1) for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert np.array_equal(received.received(clip, np.random.default_rng(0), 0, 0), clip)


@pytest.fixture(scope="module")
def clips(tiny_manifest):
    """The tiny training clips as `training_clips` gives them, real ones from two pages of 3 and 9 clips."""
    rows = tiny_manifest[tiny_manifest.split == "training"].reset_index(drop=True)
    pages = np.where(rows.groupby("label").cumcount() < 3, "small", "large")
    return rows.assign(source="data", source_repo=pages)


@pytest.fixture(scope="module")
def config(tiny_config):
    return replace(tiny_config, f_max=7_500.0, mean_subtraction="band", batch_size=16, epochs=4)


@pytest.fixture(scope="module")
def kept(clips, config, tmp_path_factory):
    return training.keep_versions(clips.path.tolist(), tmp_path_factory.mktemp("kept"), config)


def test_kept_versions_do_not_depend_on_the_processes(clips, config, kept, tmp_path):
    paths = clips.path.tolist()
    again = training.keep_versions(paths, tmp_path, config, processes=2)
    assert np.array_equal(again, kept)
    clean = LogMel(config)(torch.stack([load_audio(paths[0], RATE)[800:7_200]]))[0, 0]
    assert kept[0, 0].astype(np.float32) == pytest.approx(clean.numpy(), abs=0.05)  # dB, in half precision
    assert np.isfinite(kept).all()
    with pytest.raises(ValueError, match="other clips"):
        training.keep_versions(paths[1:], tmp_path, config)


def test_batches_are_half_real_and_draw_pages_by_the_root_of_their_size(clips, kept, config):
    batches = training.Batches(clips, {"data": kept}, config.batch_size)
    drawn = list(batches.draw(5, np.random.default_rng(0)))
    assert all(labels.tolist() == [0] * 8 + [1] * 8 for _, labels in drawn)
    assert drawn[0][0].shape == (16, 1, config.n_mels, kept.shape[-1])
    places, chances = batches.pools[0, "data"]
    small = clips.source_repo[(clips.label == 0)].to_numpy() == "small"
    assert len(places) == 12
    assert chances[small].sum() == pytest.approx(3**0.5 / (3**0.5 + 9**0.5))


def test_copies_and_speech_have_their_shares(clips, kept, config):
    extra = clips.assign(source=np.where(clips.label == 1, "copies", "speech"))
    both = pd.concat([clips, extra], ignore_index=True)
    sources = {"data": kept, "copies": kept[:, 12:], "speech": kept[:, :12]}
    batches = training.Batches(both, sources, 200)
    draw = np.random.default_rng(0)
    counts = [sum(s == "copies" for s, _ in batches._choose(1, "copies", 0.2, 100, draw)) for _ in range(50)]
    assert np.mean(counts) == pytest.approx(20, abs=2)
    assert {s for s, _ in batches._choose(0, "speech", 0.5, 100, draw)} == {"data", "speech"}


def test_training_learns_and_continues_where_it_was_stopped(clips, kept, config, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "EPOCH", 160)
    monkeypatch.setattr(training, "bf16_is_faster", lambda *_: False)
    batches = training.Batches(clips, {"data": kept}, config.batch_size)
    whole = training.train(config, batches, tmp_path / "whole")

    class Stopped(Exception):
        """Raised in the third epoch."""

    epochs = iter(range(4))

    def stop_in_the_third_epoch(count, draw):
        if next(epochs) == 2:
            raise Stopped
        return batches.draw(count, draw)

    interrupted = training.Batches(clips, {"data": kept}, config.batch_size)
    monkeypatch.setattr(interrupted, "draw", stop_in_the_third_epoch)
    with pytest.raises(Stopped):
        training.train(config, interrupted, tmp_path / "parts")
    parts = training.train(config, batches, tmp_path / "parts")
    for name, value in load_checkpoint(whole)[0].state_dict().items():
        torch.testing.assert_close(value, load_checkpoint(parts)[0].state_dict()[name], rtol=0, atol=0)
    losses = pd.read_csv(tmp_path / "parts" / "history.csv").loss
    assert losses.iloc[-1] < 0.8 * losses.iloc[0]


def test_a_student_starts_with_given_weights_and_imitates(clips, kept, config, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "EPOCH", 32)
    monkeypatch.setattr(training, "bf16_is_faster", lambda *_: False)
    batches = training.Batches(clips, {"data": kept}, config.batch_size)
    files = [training.train(replace(config, seed=seed, epochs=1), batches, tmp_path / str(seed)) for seed in (0, 1)]
    teachers = [load_checkpoint(file)[0] for file in files]
    (x, _), *_ = batches.draw(1, np.random.default_rng(0))
    odds = [each.classify(x).diff(dim=1) for each in teachers]
    assert torch.allclose(training.taught(teachers, x)[:, 1:], torch.stack(odds).mean(dim=0).sigmoid(), atol=1e-5)
    still = replace(config, seed=2, epochs=1, learning_rate=1e-9)
    started = training.train(still, batches, tmp_path / "student", start=str(files[0]), teachers=teachers)
    head = load_checkpoint(started)[0].back_end.head.weight
    assert torch.allclose(head, teachers[0].back_end.head.weight, atol=1e-5)


def test_a_copy_has_the_length_and_the_peak_of_its_clip(tmp_path):
    path = tmp_path / "voice.wav"
    path.write_bytes(wav_bytes(voice(1.3), RATE))
    vocoders = dict.fromkeys(copies.SHARES, lambda real: -0.5 * real[:-100])
    copies.write_copy(str(path), tmp_path / "copies", vocoders)
    real, copy = (load_audio(each, RATE) for each in (path, copies.copy_of(str(path), tmp_path / "copies")))
    assert len(copy) == len(real)
    assert copy.abs().max().item() == pytest.approx(real.abs().max().item(), rel=0.01)


def test_training_never_hears_the_voices_that_are_held_out(tmp_path):
    sound = wav_bytes(tone(np.random.default_rng(0)), RATE)
    names = {
        "usr/share/ktuberling/sounds/fr/eye.wav": "training",
        "usr/share/ktuberling/sounds/sr@latin/eye.wav": "testing",
    }
    for name, split in names.items():
        [(path, found, label, speaker, *_)] = debian_speech.write_recording(tmp_path, "ktuberling-data", name, sound)
        assert (found, label) == (split, "real")
        assert (tmp_path / path).exists()
        assert speaker.startswith("ktuberling-data ")
    [(_, found, *_)] = debian_speech.write_recording(tmp_path, "warzone2100-data", "base.wz/a.ogg", sound)
    assert found == "testing"
    assert debian_speech.write_recording(tmp_path, "gcin-voice", "short.wav", wav_bytes(np.ones(100) / 2, RATE)) == []
