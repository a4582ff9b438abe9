import pytest

from dfa_utils.config import Config


def test_json_keeps_every_field():
    config = Config(n_mels=64, channels=(4, 8), seed=7, augment=(("noise", 0.5),))
    assert Config.from_json(config.to_json()) == config


def test_unknown_fields_are_named():
    with pytest.raises(ValueError, match="n_bels"):
        Config.from_json('{"n_bels": 3}')


@pytest.mark.parametrize(
    "bad",
    [
        {"sample_rate": 0},
        {"sample_rate": (16_000, 16_000)},
        {"f_max": 9000.0},
        {"batch_size": 7},
        {"learning_rate": float("nan")},
        {"channels": (8, -1)},
        {"channels": ()},
        {"channels": (8,) * 99},
        {"channels": (8, 2.5)},
        {"channels": (1_024,) * 16},
        {"n_mels": 2**31},
        {"n_fft": 65_536, "n_mels": 1_024},
        {"clip_seconds": 1e-30},
        {"n_fft": 512.5},
        {"epochs": True},
        {"model": 3},
        {"frequency_scale": 3},
        {"frequency_scale": "bark"},
        {"mean_subtraction": "frame"},
        {"augment": (("noise", 1.5),)},
        {"augment": (("noise", float("nan")),)},
    ],
)
def test_a_value_that_cannot_work_is_named(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        Config(**bad)


def test_derived_numbers_follow_from_the_units():
    config = Config(sample_rate=8000, f_max=4000.0, clip_seconds=1.5, hop_seconds=0.5, hop_length=80)
    assert (config.clip_samples, config.hop_samples) == (12_000, 4_000)
    assert Config(sample_rate=1_000, f_max=500.0, clip_seconds=0.001, hop_seconds=0.001).hop_samples == 1


def test_a_small_training_set_gets_more_epochs():
    assert Config().scaled_to(40).epochs > Config().scaled_to(2_000).epochs >= Config().scaled_to(70_000).epochs
