from dataclasses import replace

import torch

from dfa_utils.audio import load_audio
from dfa_utils.dataset import scan
from research import copies


def test_a_share_of_the_fakes_becomes_copies_of_the_reals_with_their_level(tiny_manifest, tmp_path):
    training = tiny_manifest[tiny_manifest.split == "training"]
    mixed = copies.with_copies(training, tmp_path)
    made = mixed[mixed.system == "copy"]
    assert len(made) == round(copies.SHARE * (training.label == 1).sum())
    assert mixed.label.value_counts().to_dict() == training.label.value_counts().to_dict()
    for path in training.path[training.label == 0][:3]:
        real, copy = load_audio(path), load_audio(copies.write_copy(path, tmp_path))
        assert len(copy) == len(real)
        torch.testing.assert_close(copy.std(), real.std(), rtol=1e-2, atol=0)
        assert (copy - real).norm() > 0.01 * real.norm()


def test_the_command_prints_both_errors_of_each_fold(tiny_root, tiny_config, tmp_path, monkeypatch, capsys):
    named = scan(tiny_root, splits=("training", "validation"))
    place = named.groupby("label").cumcount()
    systems = [f"s{i % 4}" if label else "" for i, label in zip(place, named.label, strict=True)]
    named = named.assign(
        system=systems, speaker=[system or f"v{i % 6}" for system, i in zip(systems, place, strict=True)]
    )
    monkeypatch.setattr(copies, "scan", lambda *_, **__: named)
    monkeypatch.setattr(copies, "CONFIG", replace(tiny_config, epochs=1))
    assert copies.main(["--data", str(tiny_root), "--runs", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "with copies" in said
    assert said.count("%") == 2 * copies.FOLDS
