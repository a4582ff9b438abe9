"""Maps against theory, against networks whose reasons are known by construction, and the checks against cheats."""

from dataclasses import replace
from itertools import pairwise

import matplotlib as mpl
import numpy as np
import pytest
import torch
from scipy import signal
from scipy.stats import spearmanr
from torch import nn
from torch.nn.functional import cross_entropy

from dfa_utils import models, plots
from dfa_utils.analysis import explain
from dfa_utils.config import Config
from dfa_utils.features import standardise
from dfa_utils.models import build_model

mpl.use("agg")
RATE, BAND = 16_000, (2_000, 4_000)  # Hz
SMALL = Config(clip_seconds=0.5, channels=(8, 8, 16), dropout=0.0, n_mels=40)


class Adder(nn.Module):
    """Logits (0, sum of the spectrogram's cells times fixed weights): each cell's part in the score is known."""

    def __init__(self, config):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(config.n_mels, 1, generator=torch.Generator().manual_seed(1)) / 100)

    def forward(self, spectrogram):
        score = (spectrogram[:, 0] * self.weight).sum(dim=(1, 2))
        return torch.stack([0 * score, score], dim=1)


class Averager(nn.Module):
    """One convolution, the mean of its maps, a linear layer: for it Grad-CAM has a closed form."""

    def __init__(self, config):
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 6, 3, padding=1), nn.Linear(6, 2)

    def forward(self, spectrogram):
        return self.head(self.conv(spectrogram).mean(dim=(2, 3)))


class Deaf(nn.Module):
    """A convolution whose weights never differ: its map shows the clip and nothing else."""

    def __init__(self, config):
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, padding=1, bias=False)
        self.conv.weight.data.fill_(1 / 9)

    def forward(self, spectrogram):
        score = self.conv(spectrogram).square().mean(dim=(2, 3))
        return torch.cat([-score, score], dim=1)


@pytest.fixture(autouse=True)
def back_ends(monkeypatch):
    for name, back_end in (("adder", Adder), ("averager", Averager), ("deaf", Deaf)):
        monkeypatch.setitem(models.BACK_ENDS, name, back_end)


def clips(count, seed):
    """Noise; in the second half (fake) it pulses 12 times a second from 2 to 4 kHz: [count, T], labels [count]."""
    rng, time = np.random.default_rng(seed), np.arange(RATE // 2) / RATE
    noise = rng.standard_normal((count, RATE // 2))
    band = signal.sosfilt(signal.butter(6, BAND, "band", fs=RATE, output="sos"), rng.standard_normal(noise.shape))
    labels = np.repeat([0, 1], count // 2)
    pulses = 10 ** (0.6 * labels[:, None] * np.sin(2 * np.pi * (12 * time + rng.uniform(size=(count, 1)))))  # 12 dB
    rest = signal.sosfilt(signal.butter(6, BAND, "bandstop", fs=RATE, output="sos"), noise)
    return torch.from_numpy((rest + pulses * band).astype("float32")), torch.from_numpy(labels)


WAVES, LABELS = clips(12, seed=1)


@pytest.fixture(scope="module")
def trained():
    """A small network after a few steps on the clips; it tells unseen ones apart."""
    model, (waves, labels) = build_model(config=SMALL), clips(16, seed=2)
    for norm in (module for module in model.modules() if isinstance(module, nn.BatchNorm2d)):
        norm.momentum = 0.5  # at the usual 0.1 its running statistics would lag behind so short a training
    spectrograms = standardise(model.front_end(waves), SMALL.db_scale)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(25):
        optimizer.zero_grad()
        cross_entropy(model.back_end(spectrograms), labels).backward()
        optimizer.step()
    model.zero_grad()
    assert torch.equal(model.predict_proba(WAVES).argmax(dim=1), LABELS)
    return model.eval()


def seen(model):
    """The spectrogram [B, n_mels, frames] that the back end gets."""
    return standardise(model.front_end(WAVES), model.config.db_scale)[:, 0]


def test_the_band_that_tells_is_the_one_found(trained):
    falls = explain.occlusion_by_band(trained, WAVES[LABELS == 1]).mean(dim=0)
    edges = explain.band_edges(SMALL)
    inside = (edges[1:] > BAND[0]) & (edges[:-1] < BAND[1])
    assert inside[int(falls.argmax())]
    assert falls[inside].sum() > falls[~inside].abs().sum()


def test_grad_cam_points_into_the_band_that_tells(trained):
    rows = explain.mean_maps(trained, WAVES, LABELS.tolist())[1].mean(dim=1)  # [n_mels]
    low, high = np.searchsorted(explain.band_edges(SMALL, SMALL.n_mels), BAND)
    assert low <= int(rows.argmax()) <= high
    assert rows[low:high].mean() > 2 * torch.cat([rows[:low], rows[high:]]).mean()


def test_grad_cam_of_a_network_that_averages_is_its_class_activation_map():
    model = build_model("averager", SMALL)
    maps, back_end = explain.grad_cam(model, WAVES), model.back_end
    with torch.no_grad():
        weights = back_end.head.weight.diff(dim=0)[0] / maps[0].numel()
        expected = torch.einsum("c,bcft->bft", weights, back_end.conv(seen(model)[:, None]))
        score = model(WAVES).diff(dim=1)[:, 0] - back_end.head.bias.diff()
    assert torch.allclose(maps, expected, atol=1e-6)
    assert torch.allclose(maps.sum(dim=(1, 2)), score, atol=1e-4)  # the map accounts for the whole of the score


def test_a_bands_part_in_a_sum_is_what_it_adds():
    model = build_model("adder", replace(SMALL, n_mels=42))  # 8 bands of 5 or 6 rows
    model.back_end.weight.data[:5] = 0
    falls = explain.occlusion_by_band(model, WAVES)
    parts = (seen(model) * model.back_end.weight).sum(dim=2).detach()  # [B, n_mels]
    starts = [42 * k // 8 for k in range(9)]
    expected = torch.stack([parts[:, a:b].sum(dim=1) for a, b in pairwise(starts)], dim=1)
    assert torch.allclose(falls, expected, atol=1e-3)
    assert falls[:, 0].abs().max() == 0  # a band without weights has no part
    assert falls[:, 1:].abs().min() > 0


def test_a_tone_lies_between_the_edges_of_the_band_that_holds_it():
    edges = explain.band_edges(SMALL)
    assert edges[[0, -1]] == pytest.approx([SMALL.f_min, SMALL.f_max])
    for hertz in (100, 900, 3_000, 7_000):
        wave = torch.sin(2 * torch.pi * hertz * torch.arange(RATE)[None] / RATE)
        row = int(build_model(config=SMALL).front_end(wave)[0, 0].mean(dim=1).argmax())
        assert np.searchsorted(edges, hertz) - 1 == row * 8 // SMALL.n_mels


def test_maps_do_not_depend_on_gain_batch_or_frozen_weights(trained):
    maps = explain.grad_cam(trained, WAVES)
    assert maps.shape == (12, SMALL.n_mels, SMALL.frames)
    assert torch.allclose(explain.grad_cam(trained, WAVES * 10), maps, atol=1e-4)
    assert torch.allclose(explain.grad_cam(trained, WAVES.repeat(4, 1))[36:], maps, atol=1e-5)
    frozen = build_model(config=SMALL).requires_grad_(False)
    frozen.load_state_dict(trained.state_dict())
    with torch.no_grad():
        assert torch.allclose(explain.grad_cam(frozen, WAVES), maps, atol=1e-5)


def test_the_last_maps_are_taken_unless_others_are_named(trained):
    maps = explain.grad_cam(trained, WAVES)
    assert torch.equal(explain.grad_cam(trained, WAVES, trained.back_end.blocks[-1]), maps)
    assert not torch.allclose(explain.grad_cam(trained, WAVES, trained.back_end.stem), maps)


def test_mean_maps_are_means_of_each_group(trained):
    groups = ["a", "b", "b"] * 4
    maps, means = explain.grad_cam(trained, WAVES), explain.mean_maps(trained, WAVES, groups)
    assert list(means) == ["a", "b"]
    assert torch.allclose(means["a"], maps[::3].mean(dim=0))
    assert torch.allclose(4 * means["a"] + 8 * means["b"], maps.sum(dim=0), atol=1e-4)


def test_random_weights_destroy_the_maps(trained):
    correlations = [explain.randomisation_check(trained, WAVES, seed) for seed in range(4)]
    assert abs(np.mean(correlations)) < 0.5
    assert len(set(correlations)) == 4
    assert explain.randomisation_check(trained, WAVES, 0) == correlations[0]


def test_a_map_that_the_weights_do_not_shape_is_found_out():
    assert explain.randomisation_check(build_model("deaf", SMALL), WAVES) > 0.99


def test_the_random_model_is_not_the_one_that_training_began_with():
    assert explain.randomisation_check(build_model(config=SMALL), WAVES, seed=SMALL.seed) < 0.9


def test_rank_correlation_is_spearmans():
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 9, (2, 3, 4, 5)).astype("float32")  # with ties
    expected = [spearmanr(a.ravel(), b.ravel()).statistic for a, b in zip(first, second, strict=True)]
    first, second = torch.from_numpy(first), torch.from_numpy(second)
    assert explain.rank_correlation(first, second).tolist() == pytest.approx(expected)
    assert explain.rank_correlation(first, -first.exp()).tolist() == pytest.approx([-1] * 3)
    assert explain.rank_correlation(first, torch.ones(3, 4, 5)).tolist() == [0] * 3


def test_no_order_deletes_a_sum_faster_than_its_own_parts():
    model = build_model("adder", SMALL)
    planted = (seen(model) * model.back_end.weight).detach()
    shares, best = explain.deletion_curve(model, WAVES, planted)
    assert shares == pytest.approx(np.arange(11) / 10)
    assert best[0] == pytest.approx(float(model.predict_proba(WAVES).amax(dim=1).mean()), abs=1e-5)
    assert best[-1] == pytest.approx(0.5)  # nothing is left: the sum is 0
    generator = torch.Generator().manual_seed(0)
    others = [explain.moved(planted), -planted, torch.rand(planted.shape, generator=generator)]
    for other in others:
        assert (best <= explain.deletion_curve(model, WAVES, other)[1] + 1e-6).all()
    assert explain.faithfulness(model, WAVES, planted) > 0.1
    assert explain.faithfulness(model, WAVES, -planted) < -0.1


def test_a_moved_map_has_the_same_values_elsewhere():
    maps = torch.arange(60.0).view(2, 5, 6)
    elsewhere = explain.moved(maps, seed=3)
    assert torch.equal(elsewhere.flatten(1).sort(dim=1).values, maps.flatten(1))
    assert not torch.equal(elsewhere, maps)
    assert torch.equal(elsewhere, explain.moved(maps, seed=3))


def test_the_model_stays_as_it_was():
    model = build_model(config=replace(SMALL, dropout=0.5)).train()
    model.back_end.stem.eval()
    model.back_end.head.weight.requires_grad_(False)

    def state():
        flags = [(p.requires_grad, p.grad) for p in model.parameters()]
        modes = [(m.training, len(m._forward_hooks), len(m._backward_hooks)) for m in model.modules()]
        return flags, modes, [value.clone() for value in model.state_dict().values()]

    (flags, modes, values), maps = state(), explain.grad_cam(model, WAVES)
    explain.occlusion_by_band(model, WAVES)
    explain.randomisation_check(model, WAVES)
    explain.deletion_curve(model, WAVES, maps)
    with pytest.raises(ValueError, match="do not fit"):
        explain.deletion_curve(model, WAVES, maps[:, 1:])
    assert state()[:2] == (flags, modes)
    assert all(torch.equal(*pair) for pair in zip(state()[2], values, strict=True))
    assert not maps.requires_grad
    assert torch.equal(explain.grad_cam(model, WAVES), maps)  # no dropout, no statistics of the batch


def test_what_cannot_be_explained_is_refused(trained):
    with pytest.raises(ValueError, match="Adder has no Conv2d"):
        explain.grad_cam(build_model("adder", SMALL), WAVES)
    for bands in (0, 41):
        with pytest.raises(ValueError, match="bands must be 1 to 40"):
            explain.occlusion_by_band(trained, WAVES, bands)
    with pytest.raises(ValueError, match="3 groups for 12 clips"):
        explain.mean_maps(trained, WAVES, [0, 1, 1])
    with pytest.raises(ValueError, match="steps"):
        explain.deletion_curve(trained, WAVES, explain.grad_cam(trained, WAVES), steps=0)


def test_figures_of_maps_and_of_deletion_say_what_they_show():
    figure, (left, right) = mpl.pyplot.subplots(1, 2)
    db, evidence = np.random.default_rng(0).standard_normal((2, 40, 51))
    assert plots.plot_map(db, evidence, 0.01, left) is left
    assert left.images[1].get_extent() == left.images[0].get_extent()  # the map lies on what it explains
    assert left.images[1].norm(0.0) == 0.5  # no evidence is the middle of the colours
    assert plots.plot_deletion([0, 0.5, 1], [1, 0.5, 0.5], [1, 1, 0.5], right) is right
    texts = [text.get_text() for text in right.get_legend().get_texts()]
    assert [text[-5:] for text in texts] == ["0.625", "0.875", "hance"]
    assert all(ax.get_xlabel() and ax.get_ylabel() for ax in (left, right))
    figure.canvas.draw()
    mpl.pyplot.close(figure)
