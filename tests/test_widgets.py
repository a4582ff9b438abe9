"""What the notebooks' widgets do without a browser; tests/test_browser.py drives them in one."""

import io
import tempfile

import numpy as np
import pytest
import soundfile
import torch

from dfa_utils import colab
from dfa_utils.audio import AudioError
from dfa_utils.inference import Prediction


def test_explore_draws_once_with_the_defaults_and_that_is_all_without_widgets():
    calls = []
    colab.explore(lambda snr=10, kind="noise": calls.append((snr, kind)), snr=[0, 10, 20])
    assert calls == [(10, "noise")]


@pytest.fixture
def shown(monkeypatch):
    """What the widgets display, while they are on."""
    found = []
    monkeypatch.setenv("DFA_WIDGETS", "on")
    monkeypatch.setattr(colab, "display", lambda *things: found.extend(things))
    return found


def test_a_slider_draws_again_with_its_value(shown):
    colab.explore(lambda threshold=0.5: f"from {threshold} on", threshold=[0.3, 0.5, 0.7])
    shown[1].children[0].value = 0.7
    assert [shown[0], shown[2]] == ["from 0.5 on", "from 0.7 on"]


def test_a_recording_that_is_not_ours_is_in_no_notebook_that_runs_unattended(monkeypatch, shown):
    noise = np.zeros(800)
    assert colab.player(noise, 16_000, stored=False).data == colab.player(noise, 16_000).data
    monkeypatch.setenv("DFA_WIDGETS", "off")
    assert colab.player(noise, 16_000, stored=False) is None
    assert colab.player(noise, 16_000) is not None


def test_samples_from_the_browser_become_a_wav_and_a_file_stays_as_it_is(tmp_path):
    samples = np.sin(np.arange(800) / 10).astype("<f4")
    path = colab._save(tmp_path, {"name": "recording.wav", "rate": 8_000}, samples.tobytes())
    assert soundfile.info(path).samplerate == 8_000
    assert soundfile.read(path)[0] == pytest.approx(samples, abs=1e-4)
    assert colab._save(tmp_path, {"name": "../../a.mp3"}, b"any").read_bytes() == b"any"
    assert not (tmp_path.parent / "a.mp3").exists()


def test_a_file_that_cannot_be_judged_is_told_in_one_sentence(tmp_path):
    def refuse(path):
        raise AudioError(f"{path}: the file is empty (0 bytes); copy or record it again", "empty")

    said = colab._answer(refuse, tmp_path / "a.wav")
    assert said.data == "This file cannot be judged. a.wav: the file is empty (0 bytes); copy or record it again"


def test_an_answer_shows_itself_or_is_told_in_bold(tmp_path):
    prediction = Prediction(str(tmp_path / "a.wav"), 0.5, 0.4, 2.0, 2.0, *np.array([[0.0], [2.0], [0.5]]))
    assert colab._answer(lambda path: prediction, tmp_path / "a.wav") is prediction
    assert str(tmp_path) not in prediction._repr_html_()
    assert colab._answer(lambda path: f"{path}: well", tmp_path / "a.wav").data == "**a.wav: well**"


def test_no_recording_stays_on_the_disk(shown, monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    colab.ask(lambda path: seen.append((path, path.is_file())) or "well")
    asker = shown[0].children[0]
    asker._handle_custom_msg({"name": "recording.wav", "rate": 8_000}, [np.zeros(800, "<f4").tobytes()])
    ((path, was_there),) = seen
    assert was_there
    assert not path.exists()
    assert not list(tmp_path.rglob("*"))


def test_a_player_leaves_the_level_as_it_is():
    played = colab.player(torch.full((1_600,), 0.25), 16_000)
    samples, rate = soundfile.read(io.BytesIO(played.data))
    assert rate == 16_000
    assert samples == pytest.approx(0.25, abs=1e-4)
