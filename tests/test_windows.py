import numpy as np
import pytest
import torch

from dfa_utils.windows import CONSTANT, RUN, cut_windows, find_sounds, in_pieces, is_silent

STEP = 1 / 32768  # of 16 bits
SIZE, HOP = 400, 160


def noise(samples, seed=0):
    return 0.1 * torch.randn(samples, generator=torch.Generator().manual_seed(seed)) + 0.2


def cut(wave, hop=HOP):
    return list(cut_windows(wave.numpy(), find_sounds(wave, SIZE), SIZE, hop))


def starts(wave):
    return [start for start, _ in cut(wave)]


@pytest.mark.parametrize("length", [1, 400, 1_000])
@pytest.mark.parametrize("hop", [100, 400, 430])
def test_windows_cover_everything(length, hop):
    wave = noise(length)
    windows = cut(wave, hop)
    assert all(len(window) == SIZE for _, window in windows)
    if length < SIZE:
        assert [start for start, _ in windows] == [0]
        assert windows[0][1].tolist() == (wave.tolist() * SIZE)[:SIZE]
        return
    assert all(np.array_equal(window, wave[start : start + SIZE]) for start, window in windows)
    assert [start for start, _ in windows][: 1 + (length - SIZE) // hop] == list(range(0, length - SIZE + 1, hop))
    assert windows[-1][0] == length - SIZE
    assert len({start for start, _ in windows}) == len(windows)


@pytest.mark.parametrize("length", [200, 1_333])
@pytest.mark.parametrize("silence", [1, 130, 1_000])
def test_digital_silence_around_a_sound_moves_its_windows_and_changes_none(length, silence):
    wave, nothing = noise(length), torch.full((silence,), STEP)
    bare, padded = cut(wave), cut(torch.cat([nothing, wave, nothing]))
    assert [start for start, _ in padded] == [silence + start for start, _ in bare]
    assert all(np.array_equal(w, v) for (_, w), (_, v) in zip(padded, bare, strict=True))


def test_a_pause_as_long_as_a_window_separates_two_sounds_and_a_shorter_one_does_not():
    wave = noise(500)
    for pause, expected in (
        (SIZE - 1, [0, 160, 320, 480, 640, 800, 960, 999]),
        (SIZE, [0, 100, 900, 1_000]),
        (5_000, [0, 100, 5_500, 5_600]),
    ):
        assert starts(torch.cat([wave, torch.zeros(pause), wave])) == expected
    assert starts(torch.zeros(1_000)) == []
    assert starts(torch.zeros(0)) == []


def test_an_offset_moves_no_window():
    """Before, an offset of 0.01 made silence around speech count as sound."""
    wave = torch.cat([torch.zeros(777), noise(900) - 0.2, torch.zeros(500), noise(450) - 0.2, torch.zeros(300)])
    assert find_sounds(wave, SIZE) == [(777, 1_677), (2_177, 2_627)]
    for offset in (0.01, -0.3):
        assert find_sounds(wave + offset, SIZE) == find_sounds(wave, SIZE)


def test_sounds_are_all_samples_but_long_constant_runs():
    """Against the definition, sample by sample: a sample is silent if some constant run of RUN samples holds it."""
    rng = np.random.default_rng(0)
    plan = ((300, True), (90, False), (RUN - 1, True), (50, False), (RUN, True), (200, False))
    parts = [STEP * rng.integers(-1, 2, n) if quiet else 0.01 * rng.standard_normal(n) for n, quiet in plan]
    wave = np.concatenate(parts)
    padded = np.concatenate([np.zeros(RUN), wave, np.zeros(RUN)])
    audible = np.ones(len(padded), dtype=bool)
    for start in range(len(padded) - RUN + 1):
        if np.ptp(padded[start : start + RUN]) < CONSTANT:
            audible[start : start + RUN] = False
    found = find_sounds(torch.from_numpy(wave).float(), 1)
    ours = np.zeros(len(wave), dtype=bool)
    for start, end in found:
        ours[start:end] = True
    assert np.array_equal(ours, audible[RUN:-RUN])
    assert len(found) == 2  # RUN - 1 constant samples are no pause, RUN are


def test_silence_is_what_16_bits_cannot_tell_from_a_constant():
    hiss = STEP * torch.randint(-1, 2, (5_000,), generator=torch.Generator().manual_seed(0))
    assert is_silent(torch.full((1_000,), 0.3))
    assert is_silent(torch.full((10,), 0.0))
    assert is_silent(hiss)
    assert is_silent(hiss + 0.25)
    assert not is_silent(hiss * 3)
    assert not is_silent(torch.cat([hiss, torch.tensor([0.001] * 5)]))
    assert not is_silent(torch.full((10,), 0.3))  # too short for a constant: a click


@pytest.mark.parametrize("block", [1, 70, 350, 2_000])
def test_pieces_join_to_the_whole_and_only_a_short_recording_has_a_short_one(block):
    for length in (1, 99, 100, 199, 200, 201, 1_234):
        wave = noise(length)
        pieces = list(in_pieces(wave.split(block), 100))
        assert np.array_equal(np.concatenate(pieces), wave)
        assert all(len(piece) == 100 for piece in pieces[:-1])
        assert all(min(length, 100) <= len(piece) < 200 for piece in pieces)
    assert list(in_pieces([], 100)) == []


def test_no_piece_waits_for_the_end_of_the_recording():
    read = []
    for count, piece in enumerate(in_pieces((read.append(i) or noise(30, i) for i in range(100)), 90), start=1):
        assert len(piece) >= 90
        assert 30 * len(read) < 90 * (count + 1) + 30 or len(read) == 100  # at most two pieces are held
