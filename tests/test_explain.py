"""Maps against theory, against networks whose reasons are known by construction, and the checks against cheats."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import signal
from scipy.stats import ConstantInputWarning
from torch import nn
from torch.nn.functional import cross_entropy

from dfa_utils import explain, models
from dfa_utils.config import Config
from dfa_utils.features import LogMel, standardise
from dfa_utils.inference import Detector
from dfa_utils.models import build_model

RATE, BAND = 16_000, (2_000, 4_000)  # Hz
SMALL = Config(clip_seconds=0.5, channels=(8, 8, 16), dropout=0.0, n_mels=40)
FRAMES = 1 + SMALL.clip_samples // SMALL.hop_length


class Adder(nn.Module):
    """Logits (0, sum of the spectrogram's cells times fixed weights): each cell's part in the score is known."""

    def __init__(self, config):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(config.n_mels, 1, generator=torch.Generator().manual_seed(1)) / 100)

    def forward(self, spectrogram):
        score = (spectrogram[:, 0] * self.weight).sum(dim=(1, 2))
        return torch.stack([0 * score, score], dim=1)


class Averager(nn.Module):
    """One convolution, the mean of its maps, a linear layer of 1x1: for it Grad-CAM has a closed form."""

    def __init__(self, config):
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(6, 2, 1)

    def forward(self, spectrogram):
        return self.head(self.conv(spectrogram).mean(dim=(2, 3), keepdim=True)).flatten(1)


class Fixed(nn.Module):
    """A convolution whose weights never differ: its map shows the clip and nothing else."""

    def __init__(self, config):
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, padding=1, bias=False)
        self.conv.weight.data.fill_(1 / 9)

    def forward(self, spectrogram):
        score = self.conv(spectrogram).square().mean(dim=(2, 3))
        return torch.cat([-score, score], dim=1)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Several would wait for each other longer than they work on networks as small as these."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def back_ends(monkeypatch):
    for name, back_end in (("adder", Adder), ("averager", Averager), ("fixed", Fixed)):
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
    spectrograms = standardise(model.front_end(waves))
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(25):
        optimizer.zero_grad()
        cross_entropy(model.back_end(spectrograms), labels).backward()
        optimizer.step()
    model.zero_grad()
    assert torch.equal(model.eval()(WAVES).argmax(dim=1), LABELS)
    return model


def seen(model):
    """The spectrogram [B, n_mels, frames] that the back end gets."""
    return standardise(model.front_end(WAVES))[:, 0]


def test_the_band_that_tells_is_the_one_found(trained):
    falls = explain.occlusion_by_band(trained, WAVES[LABELS == 1]).mean(dim=0)
    edges = explain.band_edges(SMALL)
    inside = (edges[1:] > BAND[0]) & (edges[:-1] < BAND[1])
    assert inside[int(falls.argmax())]
    assert falls[inside].sum() > falls[~inside].abs().sum()


def test_grad_cam_points_into_the_band_that_tells(trained):
    rows = explain.grad_cam(trained, WAVES)[LABELS == 1].mean(dim=(0, 2))  # [n_mels]
    low, high = np.searchsorted(explain.band_edges(SMALL, SMALL.n_mels), BAND)
    assert low <= int(rows.argmax()) <= high
    assert rows[low:high].mean() > 2 * torch.cat([rows[:low], rows[high:]]).mean()


def test_grad_cam_of_a_network_that_averages_is_its_class_activation_map():
    model = build_model("averager", SMALL)
    maps, back_end = explain.grad_cam(model, WAVES), model.back_end
    with torch.no_grad():
        weights = back_end.head.weight.diff(dim=0).flatten() / maps[0].numel()
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


@pytest.mark.parametrize("scale", ["mel", "linear"])
def test_bands_end_where_the_filters_of_the_front_end_hand_over(scale):
    config = Config(frequency_scale=scale, n_mels=42, n_fft=2**15)  # a bin each half hertz
    bank = LogMel(config).mel.mel_scale.fb.numpy()  # [bins, n_mels]
    loudest = (bank / bank.max(axis=0)).argmax(axis=1)  # the filter that weighs each bin most
    inside = np.flatnonzero(bank.any(axis=1))
    band = np.searchsorted([42 * k // 8 for k in range(1, 8)], loudest[inside], side="right")
    turns = inside[1:][np.diff(band) > 0]
    hertz = np.array([inside[0], *turns, inside[-1]]) * RATE / config.n_fft
    assert explain.band_edges(config) == pytest.approx(hertz, abs=1.5)


def test_maps_do_not_depend_on_gain_batch_or_frozen_weights(trained):
    maps = explain.grad_cam(trained, WAVES)
    assert maps.shape == (12, SMALL.n_mels, FRAMES)
    assert torch.allclose(explain.grad_cam(trained, WAVES * 10), maps, atol=1e-4)
    assert torch.allclose(explain.grad_cam(trained, WAVES.repeat(4, 1))[36:], maps, atol=1e-5)
    frozen = build_model(config=SMALL).requires_grad_(False)
    frozen.load_state_dict(trained.state_dict())
    with torch.no_grad():
        assert torch.allclose(explain.grad_cam(frozen, WAVES), maps, atol=1e-5)


def test_the_maps_that_are_weighed_are_the_last(trained):
    """Grad-CAM by hand: the maps of the last block, weighed by the mean gradients of the score."""
    maps = trained.back_end.blocks(trained.back_end.stem(seen(trained)[:, None])).detach().requires_grad_()
    pooled = torch.cat([maps.mean(dim=2).mean(dim=2), maps.mean(dim=2).amax(dim=2)], dim=1)
    trained.back_end.head(pooled).diff(dim=1).sum().backward(inputs=[maps])
    expected = (maps * maps.grad.mean(dim=(2, 3), keepdim=True)).sum(dim=1, keepdim=True)
    expected = torch.nn.functional.interpolate(expected, (SMALL.n_mels, FRAMES), mode="bilinear")
    assert torch.allclose(explain.grad_cam(trained, WAVES), expected.squeeze(1), atol=1e-5)


def test_random_weights_destroy_the_maps(trained):
    correlations = [explain.randomisation_check(trained, WAVES, seed) for seed in range(4)]
    assert abs(np.mean(correlations)) < 0.5
    assert len(set(correlations)) == 4
    assert explain.randomisation_check(trained, WAVES, 0) == correlations[0]


def test_a_map_that_the_weights_do_not_shape_is_found_out():
    assert explain.randomisation_check(build_model("fixed", SMALL), WAVES) > 0.99


def test_the_random_model_is_not_the_one_that_training_began_with():
    assert explain.randomisation_check(build_model(config=SMALL), WAVES, seed=SMALL.seed) < 0.9


def test_a_map_without_contrast_correlates_with_nothing():
    constant = build_model("fixed", SMALL)
    constant.back_end.conv.weight.data.zero_()
    with pytest.warns(ConstantInputWarning):
        assert explain.randomisation_check(constant, WAVES) == 0


def test_no_order_deletes_a_sum_faster_than_its_own_parts():
    model = build_model("adder", SMALL)
    planted = (seen(model) * model.back_end.weight).detach()
    best = explain.deletion_curve(model, WAVES, planted)
    assert best[0] == pytest.approx(model(WAVES).softmax(dim=1).amax(dim=1).mean().item(), abs=1e-5)
    assert best[-1] == pytest.approx(0.5)  # nothing is left: the sum is 0
    halves = explain.deletion_curve(model, WAVES, planted, steps=2)
    assert halves == pytest.approx(best[[0, 5, 10]])
    generator = torch.Generator().manual_seed(0)
    others = [explain.moved(planted), -planted, torch.rand(planted.shape, generator=generator)]
    for other in others:
        assert (best <= explain.deletion_curve(model, WAVES, other) + 1e-6).all()
    gap = explain.deletion_curve(model, WAVES, explain.moved(planted)) - best
    area = (gap[1:] + gap[:-1]).sum() / 20
    assert explain.faithfulness(model, WAVES, planted) == pytest.approx(area)
    assert area > 0.1
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
    with pytest.raises(ValueError, match="steps"):
        explain.deletion_curve(trained, WAVES, explain.grad_cam(trained, WAVES), steps=0)


def test_the_released_detector_is_explained():
    model, wave = Detector.load().model, torch.nn.functional.pad(WAVES[:1], (0, 3 * RATE // 2))
    assert torch.isfinite(explain.grad_cam(model, wave)).all()
    assert explain.occlusion_by_band(model, wave).shape == (1, 8)
