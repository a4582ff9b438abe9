import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from dfa_utils.config import Config
from dfa_utils.features import standardise
from dfa_utils.models import build_model, count_parameters, fuse_for_scoring

generator = torch.Generator().manual_seed(0)


@pytest.fixture(scope="module")
def model():
    return build_model().eval()


def test_size(model):
    assert 100_000 <= count_parameters(model) <= 500_000


@pytest.mark.parametrize("samples", [1, 400, 8_000, 32_000, 100_000])
def test_any_length_gives_two_logits(model, samples):
    assert model(torch.randn(2, samples, generator=generator)).shape == (2, 2)


def test_gain_and_offset_do_not_change_the_verdict(model):
    wave = torch.randn(2, 16_000, generator=generator) * 0.05
    expected = model(wave)
    for changed in (wave * 10, wave * 0.1, wave + 0.1):
        assert torch.allclose(model(changed), expected, atol=1e-3)


def test_gradients_reach_every_parameter():
    model = build_model()
    cross_entropy(model(torch.randn(4, 16_000, generator=generator)), torch.tensor([0, 1, 0, 1])).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_one_batch_can_be_learnt_by_heart():
    model = build_model(config=Config(dropout=0.0))
    waves, labels = torch.randn(8, 8_000, generator=generator), torch.tensor([0, 1] * 4)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(40):
        optimizer.zero_grad()
        loss = cross_entropy(model(waves), labels)
        loss.backward()
        optimizer.step()
    assert loss < 0.05


def test_building_a_model_leaves_the_global_generator_alone():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    build_model()
    assert torch.equal(torch.rand(2), expected)


def test_one_seed_one_model():
    first, second, other = (build_model(config=Config(seed=s)).back_end.head.weight for s in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_unknown_names_list_the_known():
    with pytest.raises(ValueError, match="known: cnn, timm:NAME"):
        build_model("transformer")


def test_batch_norm_folds_into_the_convolutions_without_a_change():
    model = build_model()
    waves = torch.randn(8, 16_000, generator=generator)
    model(waves)  # moves the running means
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fused = fuse_for_scoring(model)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fused.modules())
    assert torch.allclose(fused(waves), model.eval()(waves), atol=1e-4)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_convolutions_lie_channels_last(model):
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    assert all(module.weight.is_contiguous(memory_format=torch.channels_last) for module in convolutions)
    assert model.back_end.blocks(torch.zeros(2, 24, 40, 50)).is_contiguous(memory_format=torch.channels_last)


def test_the_network_sees_the_standardised_spectrogram():
    model, seen = build_model(config=Config(mean_subtraction="band")).eval(), []
    model.back_end.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    waves = torch.randn(2, 8_000, generator=generator)
    model(waves)
    assert torch.equal(seen[0], standardise(model.front_end(waves), "band"))


def test_masks_hide_something_in_training_alone():
    model = build_model(config=Config(mask_bands=10, mask_frames=20))
    waves = torch.randn(4, 16_000, generator=generator)
    hidden, seen = model.mask(torch.ones(4, 1, 80, 101)), model.eval().mask(torch.ones(4, 1, 80, 101))
    assert 0 < (hidden == 0).float().mean() < 0.6
    assert (seen == 1).all()
    assert torch.equal(model(waves), model(waves))
