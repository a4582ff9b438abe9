"""Kinds of models compared: the runner on tiny models, and the two tables that are stored."""

import pandas as pd
import pytest
import torch

from dfa_utils import metrics
from dfa_utils.checkpoint import SHIPPED
from dfa_utils.evaluation import load_scores
from dfa_utils.models import build_model
from research import model_comparison as vision


def test_the_runner_trains_what_is_missing_and_nothing_twice(tiny_root, tiny_config, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(vision, "MODELS", {"CNN": tiny_config})
    monkeypatch.setattr(vision, "augmented", lambda config: config)
    monkeypatch.setenv("DFA_RUNS", str(tmp_path / "runs"))
    command = ["--data", str(tiny_root), "--out", str(tmp_path), "--models", "CNN", "--seeds"]
    assert vision.main([*command, "0"]) == 0
    first = pd.read_csv(tmp_path / "models.csv")
    monkeypatch.setattr(vision, "PLAIN", tiny_config)
    assert vision.main(["--speeds", "--out", str(tmp_path)]) == 0
    assert vision.main([*command, "0", "1"]) == 0
    costs, scores = (pd.read_csv(tmp_path / name) for name in ("models.csv", "model_scores.csv.gz"))
    ours = costs[costs.model == "CNN"]
    assert ours.seed.tolist() == [0, 1]
    assert ours.core_seconds.iloc[0] == first.core_seconds[0]
    assert list(scores.columns) == [*vision.CLIP, "CNN 0", "CNN 1"]
    assert len(scores) == 24
    assert costs[costs.model == vision.RELEASED].clips_per_second.item() > 0
    assert "core_seconds" in capsys.readouterr().out


def test_macs_of_a_convolution_are_counted_by_hand(tiny_config):
    class One(torch.nn.Module):
        config = tiny_config

        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Conv1d(1, 8, kernel_size=5, stride=5)

        def forward(self, x):
            return self.layer(x[:, None])

    assert vision.count_macs(One()) == 8 * 5 * (tiny_config.clip_samples // 5)
    assert vision.count_macs(build_model(config=tiny_config)) > 0


def test_the_stored_comparison_follows_from_its_scores():
    table = vision.comparison()
    assert set(table.index) == {*vision.MODELS, vision.RELEASED}
    for name in ("new", "testing"):
        assert ((table[f"{name}_low"] <= table[name]) & (table[name] <= table[f"{name}_high"])).all()
    scores, _ = load_scores(SHIPPED.parent / "scores.csv")
    testing = scores[scores.split == "testing"]
    assert table.testing[vision.RELEASED] == pytest.approx(metrics.eer_rate(testing.label, testing.score))
    ours = pd.read_csv(SHIPPED.parent / "model_scores.csv.gz", keep_default_na=False)
    ours = ours[ours.split == "testing"]
    rates = [metrics.eer_rate(ours.label, ours[f"CNN {seed}"]) for seed in range(int(table.seeds["CNN"]))]
    assert table.testing["CNN"] == pytest.approx(sum(rates) / len(rates))
    assert (table.sort_values("new").index == table.index).all()
