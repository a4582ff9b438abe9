"""The conditions that only research needs: a clip played in a room and recorded again, an offset, silence in front."""

import math

import numpy as np
import pytest
import torch
from conftest import RATE

from dfa_utils.inference import Detector
from dfa_utils.models import build_model
from research import conditions
from research.conditions import CLEAN, degrade, score_conditions


def generator(seed=0):
    return np.random.default_rng(seed)


def white(samples=RATE, seed=9):
    return torch.from_numpy(generator(seed).standard_normal(samples, dtype=np.float32)) / 10


def reverberation_time(response, rate, lowest=-25):
    """RT60 in s by Schroeder's backward integral: the line through its decay from -5 dB to `lowest`, drawn to -60."""
    decay = np.cumsum(np.square(np.asarray(response, dtype=float))[::-1])[::-1]
    level = 10 * np.log10(decay / decay[0])
    part = np.flatnonzero((level < -5) & (level > lowest))
    return -60 / np.polyfit(part / rate, level[part], 1)[0]


@pytest.mark.parametrize("rate", [8_000, RATE])
def test_every_room_rings_about_as_long_as_asked(rate):
    for rt60 in (0.3, 0.6):
        for room in range(conditions.ROOMS):
            response, delay = conditions.shoebox_response(rt60, rate, room)
            assert reverberation_time(response[delay:], rate) == pytest.approx(rt60, rel=0.3), room
            metres = (delay - 40) / rate * 343  # 40 samples: half of pyroomacoustics' kernel
            assert 0.4 - 343 / rate < metres < 0.8 + 343 / rate, room


def test_the_direct_sound_of_a_rerecording_keeps_its_place():
    hiss = white()  # the phases of a voice are changed
    for seed in range(6):
        after = degrade(hiss, "rerecording", 0.6, RATE, generator(seed))
        cross = torch.fft.irfft(torch.fft.rfft(after, 2 * RATE) * torch.fft.rfft(hiss, 2 * RATE).conj())
        assert int(cross.argmax()) in (0, 1, 2 * RATE - 1)


def test_rerecordings_use_all_rooms_and_devices_of_their_own(monkeypatch):
    click, rooms, gains = torch.eye(1, RATE)[0], [], []

    def no_room(rt60, rate, room):
        rooms.append(room)
        return torch.ones(1), 0

    monkeypatch.setattr(conditions, "shoebox_response", no_room)
    for seed in range(16):
        spectrum = torch.fft.rfft(degrade(click, "rerecording", 0.3, RATE, generator(seed))).abs()  # 1 Hz a bin
        gains.append(20 * torch.log10(spectrum / spectrum[1_000]))
    assert set(rooms) == set(range(conditions.ROOMS))
    assert 1 < torch.stack(gains)[:, 300:3_000].std(dim=0).mean() < 4  # dB from one device to another


def test_a_loudspeaker_plays_150_hz_to_7_khz():
    click = torch.eye(1, RATE)[0]
    for seed in range(6):
        played = conditions._through_loudspeaker(click, RATE, generator(seed))
        response = 20 * torch.log10(torch.fft.rfft(played).abs())
        assert response[75] == pytest.approx(-12, abs=2)  # 12 dB an octave
        assert response[300:5_000].abs().max() < 8


def test_the_noise_of_a_rerecording_is_25_db_below():
    burst = torch.cat([white(), torch.zeros(RATE)])
    after = degrade(burst, "rerecording", 0.3, RATE, generator())
    snr = 10 * math.log10(burst.square().mean() / after[-RATE // 4 :].square().mean())
    assert snr == pytest.approx(25, abs=0.3)


def test_offset_silence_and_the_degradations_of_the_package():
    wave = white()
    torch.testing.assert_close(degrade(wave, "offset", 0.1, RATE, generator()) - wave, torch.full_like(wave, 0.1))
    after = degrade(wave, "silence", 1.0, RATE, generator())
    assert not after[:RATE].any()
    assert torch.equal(after[RATE:], wave)
    assert torch.equal(degrade(wave, "gain", -20, RATE, generator()), wave * 0.1)
    with pytest.raises(ValueError, match="telephone"):
        degrade(wave, "fog", 1, RATE, generator())


def test_leading_silence_changes_no_score(tiny_manifest, tiny_config):
    detector = Detector(build_model(config=tiny_config), {})
    clean, later, muted = score_conditions(detector, tiny_manifest.path[:6], [CLEAN, ("silence", 1.0), ("gain", -500)])
    assert later == pytest.approx(clean, abs=1e-6)
    assert muted.tolist() == [conditions.UNDECIDED] * 6
