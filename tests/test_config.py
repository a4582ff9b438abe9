import pytest

from dfa_utils.config import Config


def test_json_keeps_every_field():
    config = Config(n_mels=64, channels=(4, 8), seed=7, views=((128, 40, 20, 0.0, 4000.0),))
    assert Config.from_json(config.to_json()) == config


def test_unknown_fields_are_named():
    with pytest.raises(ValueError, match="n_bels"):
        Config.from_json('{"n_bels": 3}')


@pytest.mark.parametrize(
    "bad",
    [
        {"sample_rate": 0},
        {"f_max": 9000.0},
        {"batch_size": 7},
        {"learning_rate": float("nan")},
        {"channels": (8, -1)},
        {"channels": ()},
        {"channels": (8,) * 99},
        {"channels": (8, 2.5)},
        {"n_mels": 2**31},
        {"clip_seconds": 1e-30},
        {"n_fft": 512.5},
        {"epochs": True},
        {"scale": 3},
        {"views": ((128, 40, 20),)},
        {"scale": "bark"},
        {"centre": "frame"},
    ],
)
def test_a_value_that_cannot_work_is_named(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        Config(**bad)


def test_derived_numbers_follow_from_the_units():
    config = Config(sample_rate=8000, f_max=4000.0, clip_seconds=1.5, hop_seconds=0.5, hop_length=80)
    assert (config.clip_samples, config.hop_samples) == (12_000, 4_000)


def test_each_view_is_a_spectrogram_of_its_own_and_checked_as_such():
    config = Config(views=((128, 40, 20, 0.0, 4000.0),), f_min=100.0)
    first, second = config.spectrograms
    assert (first.n_fft, first.f_min, second.n_fft, second.f_min, second.views) == (512, 100.0, 128, 0.0, ())
    with pytest.raises(ValueError, match="f_max"):
        Config(views=((128, 40, 20, 0.0, 9000.0),))


def test_a_small_training_set_gets_more_epochs():
    assert Config().scaled_to(40).epochs > Config().scaled_to(2_000).epochs >= Config().scaled_to(70_000).epochs
