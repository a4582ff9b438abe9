"""Maps against theory, and against networks whose reasons are known by construction."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import signal
from torch import nn
from torch.nn.functional import cross_entropy

from dfa_utils import explain, models
from dfa_utils.config import Config
from dfa_utils.features import standardise
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


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Several would wait for each other longer than they work on networks as small as these."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def back_ends(monkeypatch):
    for name, back_end in (("adder", Adder), ("averager", Averager)):
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


def test_grad_cam_points_into_the_band_that_tells(trained):
    rows = explain.grad_cam(trained, WAVES)[LABELS == 1].mean(dim=(0, 2))  # [n_mels]
    low, high = np.searchsorted(trained.front_end.hertz, BAND)
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


def test_the_model_stays_as_it_was():
    model = build_model(config=replace(SMALL, dropout=0.5)).train()
    model.back_end.stem.eval()
    model.back_end.head.weight.requires_grad_(False)

    def state():
        flags = [(p.requires_grad, p.grad) for p in model.parameters()]
        modes = [(m.training, len(m._forward_hooks), len(m._backward_hooks)) for m in model.modules()]
        return flags, modes, [value.clone() for value in model.state_dict().values()]

    (flags, modes, values), maps = state(), explain.grad_cam(model, WAVES)
    assert state()[:2] == (flags, modes)
    assert all(torch.equal(*pair) for pair in zip(state()[2], values, strict=True))
    assert not maps.requires_grad
    assert torch.equal(explain.grad_cam(model, WAVES), maps)  # no dropout, no statistics of the batch


def test_a_network_without_maps_is_refused():
    with pytest.raises(ValueError, match="Adder has no Conv2d"):
        explain.grad_cam(build_model("adder", SMALL), WAVES)


def test_the_released_detector_is_explained():
    model, wave = Detector.load().model, torch.nn.functional.pad(WAVES[:1], (0, 3 * RATE // 2))
    assert torch.isfinite(explain.grad_cam(model, wave)).all()
