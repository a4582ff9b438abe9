"""Kinds of models compared: the runner on tiny models, and the two tables that are stored."""

import pandas as pd
import torch

from dfa_utils.models import build_model
from research import model_comparison
from research.tables import RESULTS, read_table


def test_the_runner_trains_what_is_missing_and_nothing_twice(tiny_root, tiny_config, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(model_comparison, "MODELS", {"CNN": tiny_config})
    monkeypatch.setattr(model_comparison, "augmented", lambda config: config)
    monkeypatch.setenv("DFA_RUNS", str(tmp_path / "runs"))
    command = ["--data", str(tiny_root), "--out", str(tmp_path), "--models", "CNN", "--seeds"]
    assert model_comparison.main([*command, "0"]) == 0
    first = pd.read_csv(tmp_path / "model_costs.csv")
    monkeypatch.setattr(model_comparison, "PLAIN", tiny_config)
    assert model_comparison.main(["--speeds", "--out", str(tmp_path)]) == 0
    assert model_comparison.main([*command, "0", "1"]) == 0
    costs, scores = (pd.read_csv(tmp_path / name) for name in ("model_costs.csv", "model_scores.csv.gz"))
    ours = costs[costs.model == "CNN"]
    assert ours.seed.tolist() == [0, 1]
    assert ours.core_seconds.iloc[0] == first.core_seconds[0]
    assert list(scores.columns) == [*model_comparison.CLIP, "CNN 0", "CNN 1"]
    assert len(scores) == 24
    assert (ours.clips_per_second.dropna() > 0).all()
    assert "core_seconds" in capsys.readouterr().out
    table = pd.read_csv(tmp_path / "models.csv", index_col="model")
    assert table.seeds["CNN"] == 1


def test_macs_of_a_convolution_are_counted_by_hand(tiny_config):
    class One(torch.nn.Module):
        config = tiny_config

        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Conv1d(1, 8, kernel_size=5, stride=5)

        def forward(self, x):
            return self.layer(x[:, None])

    assert model_comparison.count_macs(One()) == 8 * 5 * (tiny_config.clip_samples // 5)
    assert model_comparison.count_macs(build_model(config=tiny_config)) > 0


def test_the_stored_comparison_follows_from_its_scores(monkeypatch):
    monkeypatch.setattr(model_comparison, "interval", lambda *_, **__: (0, 1))  # which takes long
    costs, scores = (read_table(RESULTS / name) for name in ("model_costs.csv", "model_scores.csv.gz"))
    stored = pd.read_csv(RESULTS / "models.csv", index_col="model")
    exact = [name for name in stored if not name.endswith(("_low", "_high"))]
    table = model_comparison.comparison(costs, scores)
    pd.testing.assert_frame_equal(stored[exact], table[exact], atol=1e-4)
    assert set(model_comparison.MODELS) <= set(stored.index)
    for name in ("new", "testing"):
        assert ((stored[f"{name}_low"] <= stored[name]) & (stored[name] <= stored[f"{name}_high"])).all()
