import numpy as np
import pytest
import torch

from dfa_utils import windows as module
from dfa_utils.windows import CONSTANT, RUN, Windows, find_sounds, is_silent

STEP = 1 / 32768  # of 16 bits
SIZE, HOP = 400, 160


def noise(samples, seed=0):
    return 0.1 * torch.randn(samples, generator=torch.Generator().manual_seed(seed)) + 0.2


@pytest.mark.parametrize("length", [1, 200, 399, 400, 401, 1_000])
@pytest.mark.parametrize("block", [3, 70, 10_000])
@pytest.mark.parametrize("hop", [100, 400, 430])
def test_windows_cover_everything_in_any_blocks(length, block, hop):
    wave = noise(length)
    cut = list(Windows(wave.split(block), SIZE, hop))
    assert all(len(w) == SIZE for _, w in cut)
    if length < SIZE:
        assert [start for start, _ in cut] == [0]
        assert cut[0][1].tolist() == (wave.tolist() * SIZE)[:SIZE]
        return
    assert all(np.array_equal(w, wave[start : start + SIZE]) for start, w in cut)
    assert [start for start, _ in cut][: 1 + (length - SIZE) // hop] == list(range(0, length - SIZE + 1, hop))
    assert cut[-1][0] == length - SIZE


@pytest.mark.parametrize("length", [200, 400, 1_333])
@pytest.mark.parametrize("block", [3, 70, 10_000])
@pytest.mark.parametrize("silence", [1, 130, 1_000])
def test_digital_silence_around_a_sound_moves_its_windows_and_changes_none(length, block, silence):
    wave, nothing = noise(length), torch.full((silence,), STEP)
    cut = list(Windows([wave], SIZE, HOP))
    padded = list(Windows(torch.cat([nothing, wave, nothing]).split(block), SIZE, HOP))
    assert [start for start, _ in padded] == [silence + start for start, _ in cut]
    assert all(np.array_equal(w, v) for (_, w), (_, v) in zip(padded, cut, strict=True))


@pytest.mark.parametrize("block", [3, 70, 10_000])
def test_a_pause_as_long_as_a_window_parts_two_sounds_and_a_shorter_one_does_not(block):
    wave = noise(500)
    for pause, starts in (
        (SIZE - 1, [0, 160, 320, 480, 640, 800, 960, 999]),
        (SIZE, [0, 100, 900, 1_000]),
        (5_000, [0, 100, 5_500, 5_600]),
    ):
        blocks = torch.cat([wave, torch.zeros(pause), wave]).split(block)
        assert [start for start, _ in Windows(blocks, SIZE, HOP)] == starts
    assert list(Windows(torch.zeros(1_000).split(block), SIZE, HOP)) == []


def test_an_offset_moves_no_window():
    """Before, an offset of 0.01 made silence around speech count as sound."""
    wave = torch.cat([torch.zeros(777), noise(900) - 0.2, torch.zeros(500), noise(450) - 0.2, torch.zeros(300)])
    expected = [start for start, _ in Windows([wave], SIZE, HOP)]
    assert expected[0] == 777
    for offset in (0.01, -0.3):
        assert [start for start, _ in Windows([wave + offset], SIZE, HOP)] == expected
        assert find_sounds(wave + offset, SIZE) == find_sounds(wave, SIZE) == [(777, 1_677), (2_177, 2_627)]


def test_sounds_are_what_is_not_constant_for_long_enough():
    """Against the definition, sample by sample: a sample is silent if some run of RUN constant ones holds it."""
    rng = np.random.default_rng(0)
    plan = ((300, True), (90, False), (RUN - 1, True), (50, False), (RUN, True), (200, False))
    parts = [STEP * rng.integers(-1, 2, n) if quiet else 0.01 * rng.standard_normal(n) for n, quiet in plan]
    wave = np.concatenate(parts)
    padded = np.concatenate([np.zeros(RUN), wave, np.zeros(RUN)])
    audible = np.ones(len(padded), dtype=bool)
    for start in range(len(padded) - RUN + 1):
        if np.ptp(padded[start : start + RUN]) < CONSTANT:
            audible[start : start + RUN] = False
    audible = audible[RUN:-RUN]
    found = find_sounds(torch.from_numpy(wave).float(), 1)
    ours = np.zeros(len(wave), dtype=bool)
    for start, end in found:
        ours[start:end] = True
    assert np.array_equal(ours, audible)
    assert len(found) == 2  # RUN - 1 constant samples are no pause, RUN are


def test_all_windows_lie_in_the_sounds():
    wave = torch.cat([torch.zeros(500), noise(1_000) - 0.2, torch.zeros(600), noise(150) - 0.2, torch.zeros(900)])
    sounds = find_sounds(wave, SIZE)
    for start, _ in Windows([wave], SIZE, HOP):
        first, end = next((a, b) for a, b in sounds if a <= start < b)
        assert start + SIZE <= end or end - first < SIZE


def test_silence_is_what_16_bits_cannot_tell_from_a_constant():
    hiss = STEP * torch.randint(-1, 2, (5_000,), generator=torch.Generator().manual_seed(0))
    assert is_silent(torch.full((1_000,), 0.3))
    assert is_silent(torch.full((10,), 0.0))
    assert is_silent(hiss)
    assert is_silent(hiss + 0.25)
    assert not is_silent(hiss * 3)
    assert not is_silent(torch.cat([hiss, torch.tensor([0.001] * 5)]))
    assert not is_silent(torch.full((10,), 0.3))  # too short for a constant: a click


def test_memory_does_not_grow_with_the_recording():
    held = []

    def blocks():
        for i in range(50):
            yield noise(1_000, i)

    original = module._Sound.windows

    def watch(self):
        held.append(len(self.held))
        return original(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module._Sound, "windows", watch)
        assert len(list(Windows(blocks(), SIZE, HOP))) > 300
    assert max(held) < 3_000
