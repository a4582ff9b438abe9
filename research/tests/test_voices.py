"""Free voices are judged, and what is missing is named."""

import numpy as np
import pandas as pd
import pytest
import soundfile
from conftest import RATE, hiss, tone

from dfa_utils import Detector
from research import voices


@pytest.fixture
def recordings(tmp_path, monkeypatch):
    """Two recordings of a "person" and one of a "program", one empty file, and one voice that is missing."""
    rng, rows = np.random.default_rng(0), []
    for name, speaker, make in (("a", "person", tone), ("b", "person", tone), ("c", "program", hiss)):
        soundfile.write(tmp_path / f"{name}.wav", make(rng, 2.0), RATE)
        rows.append((f"the {speaker}", speaker, "somewhere", "CC0", "no", str(tmp_path / f"{name}.wav")))
    (tmp_path / "empty.wav").touch()
    rows.append((*rows[0][:-1], str(tmp_path / "empty.wav")))
    table = pd.DataFrame(rows, columns=["voice", "speaker", "package", "licence", "related", "path"])
    monkeypatch.setattr(voices, "find", lambda names, most: (table, ["another (pip install another): not installed"]))
    return table


def test_each_voice_has_its_shares_of_the_verdicts(recordings):
    judged = voices.judge(recordings, Detector.load())
    assert len(judged) == 3  # without the empty file
    table = voices.by_voice(judged)
    assert table.recordings.to_dict() == {"the person": 2, "the program": 1}
    assert table[[*voices.VERDICTS]].sum(axis=1).tolist() == pytest.approx([1, 1])
    assert table.speaker.tolist() == ["person", "program"]


def test_the_command_prints_a_table_and_draws_a_figure(recordings, capsys, tmp_path):
    assert voices.main(["--figure", str(tmp_path / "voices.png")]) == 0
    printed = capsys.readouterr().out
    assert "not found: another (pip install another): not installed" in printed
    assert "the program" in printed
    assert (tmp_path / "voices.png").stat().st_size > 5_000


def test_one_recording_of_each_voice_gets_a_line_of_its_own(recordings, monkeypatch, capsys):
    monkeypatch.setattr(voices, "find", lambda names, most: (recordings[1:3], []))
    assert voices.main(["--most", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[0] for line in lines] == ["the person", "the program"]


def test_without_any_voice_nothing_fails(recordings, monkeypatch, capsys):
    monkeypatch.setattr(voices, "find", lambda names, most: (recordings[:0], ["a (b): not installed"]))
    assert voices.main([]) == 0
    assert capsys.readouterr().out == "not found: a (b): not installed\n"
