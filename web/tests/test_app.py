"""The page that Gradio serves: what it answers, that it keeps nothing, and that it loads nothing from elsewhere."""

import os
import re
import socket
import subprocess
import sys
import time
from urllib.request import ProxyHandler, build_opener

import numpy as np
import pytest
import soundfile
import torch
from conftest import PATIENCE, RATE, ROOT, hiss, tone
from playwright.sync_api import expect

from dfa_utils import Config, Detector, inference, models
from dfa_utils.checkpoint import save_checkpoint
from dfa_utils.models import build_model
from web import app


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A small CNN as it is before any training."""
    path = tmp_path_factory.mktemp("app") / "small.safetensors"
    config = Config(clip_seconds=0.4, hop_seconds=0.2, channels=(4, 8, 8))
    save_checkpoint(path, build_model(config=config), {})
    return path


@pytest.fixture(scope="module")
def detector(checkpoint):
    return Detector.load(checkpoint)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("recordings"), np.random.default_rng(0)
    soundfile.write(folder / "hiss <b>.wav", hiss(rng, 3.0), RATE)
    soundfile.write(folder / "silent.wav", np.zeros(RATE), RATE)
    soundfile.write(folder / "long.flac", np.tile(tone(rng), 1_202), RATE)  # 601 s
    (folder / "text.wav").write_text("no audio")
    return folder


def test_the_answer_is_the_prediction_and_the_evidence_for_it(detector, recordings):
    path = recordings / "hiss <b>.wav"
    html = app.answer(detector, str(path))
    truth = detector.predict(path)
    assert f"P(fake) {truth.score:.3f}" in html
    assert "hiss &lt;b&gt;.wav" in html
    assert str(recordings) not in html
    start = truth.times[truth.scores.argmax()]
    assert f"Where in the window from {start:.1f} s" in html
    assert html.count("data:image/png;base64,") == 1


def test_the_answer_says_what_is_left_out(detector, recordings, tmp_path):
    content = bytearray((recordings / "hiss <b>.wav").read_bytes())
    content[40:44] = (2 * RATE).to_bytes(4, "little")  # a header that tells of one second
    (tmp_path / "a.wav").write_bytes(content)
    said = f"a.wav: {4 * RATE} bytes after the sound its header tells of are left out."
    assert said in app.answer(detector, str(tmp_path / "a.wav"))
    assert str(tmp_path) not in app.answer(detector, str(tmp_path / "a.wav"))
    assert "left out" not in app.answer(detector, str(recordings / "hiss <b>.wav"))


@pytest.mark.parametrize(
    ("name", "words"),
    [(None, "Choose a recording first"), ("silent.wav", "silent"), ("text.wav", "FFmpeg"), ("long.flac", "10 minutes")],
)
def test_what_cannot_be_judged_is_explained_in_one_sentence(detector, recordings, name, words):
    html = app.answer(detector, name and str(recordings / name))
    text = re.sub(r"<style>.*?</style>|<[^>]+>", "", html, flags=re.DOTALL)
    assert words in text
    assert str(recordings) not in text
    assert len(text) < 400


class Mean(torch.nn.Module):
    """Logits that follow from the mean of each band."""

    def __init__(self, config):
        super().__init__()
        self.layer = torch.nn.Linear(config.n_mels, 2)

    def forward(self, spectrogram):
        return self.layer(spectrogram.mean(dim=(1, 3)))


def test_only_the_cnn_is_explained(python, recordings, monkeypatch):
    monkeypatch.setitem(models.BACK_ENDS, "mean", Mean)
    path = recordings / "hiss <b>.wav"
    assert "Grad-CAM" in app.answer(python, str(path))
    assert "Grad-CAM" not in app.answer(Detector(models.build_model("mean"), {}), str(path))


def test_the_window_that_is_shown_is_the_one_that_was_judged(detector, monkeypatch):
    rng = np.random.default_rng(0)
    for module in (app, inference):  # so that the recording has four pieces
        monkeypatch.setattr(module, "PIECE_SECONDS", 1)
    samples = np.concatenate([hiss(rng, 1.7), np.zeros(RATE), tone(rng, 0.1), np.zeros(RATE), tone(rng, 1.1)])
    prediction = detector.predict(samples)
    window = app.most_suspicious_window(samples, prediction, detector.model.config)
    assert detector.predict(window).score == pytest.approx(prediction.scores.max(), abs=1e-5)


def test_an_upload_is_deleted_and_a_file_of_the_users_own_is_not(detector, tmp_path):
    for folder, stays in (("uploads", False), ("home", True)):
        path = tmp_path / folder / "x" / "a.wav"
        path.parent.mkdir(parents=True)
        soundfile.write(path, hiss(np.random.default_rng(0), 1.0), RATE)
        assert "P(fake)" in app.answer_and_delete(detector, tmp_path / "uploads", str(path))
        assert path.exists() == stays


def test_only_this_computer_can_reach_it_unless_told_otherwise(monkeypatch, checkpoint):
    seen = {}
    monkeypatch.setattr("gradio.Blocks.launch", lambda self, **options: seen.update(options))
    monkeypatch.setattr("gradio.Blocks.local_url", "here", raising=False)
    monkeypatch.setattr("gradio.Blocks.block_thread", lambda self: None)
    monkeypatch.delenv("GRADIO_SERVER_NAME", raising=False)
    assert app.main(["--checkpoint", str(checkpoint)]) == 0
    assert (seen["server_name"], seen["share"]) == (None, False)  # for gradio that is 127.0.0.1
    assert seen["max_file_size"] == f"{app.LARGEST_MEGABYTES}mb"
    assert app.main(["--checkpoint", str(checkpoint), "--host", "0.0.0.0", "--port", "9000"]) == 0
    assert (seen["server_name"], seen["server_port"]) == ("0.0.0.0", 9000)


def test_one_sentence_says_why_it_cannot_start(capsys, tmp_path, checkpoint):
    assert app.main(["--checkpoint", str(tmp_path / "nothing")]) == 2
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for host in ("127.0.0.1", "0.0.0.0"):
            assert app.main(["--checkpoint", str(checkpoint), "--host", host, "--port", port]) == 2
    assert app.main(["--checkpoint", str(checkpoint), "--port", "99999"]) == 2
    assert app.main(["--checkpoint", str(checkpoint), "--host", "nowhere.invalid"]) == 2
    said = capsys.readouterr()
    words = [
        "nothing: no checkpoint",
        f"127.0.0.1:{port} (Address",
        f"0.0.0.0:{port} (Address",
        ":99999 (",
        "another --host",
    ]
    assert said.out == ""
    assert all(
        line.startswith("error: ") and word in line for line, word in zip(said.err.splitlines(), words, strict=True)
    )
    assert said.err.count("choose another --port") == 3


def test_where_all_ports_are_taken_it_names_the_option(monkeypatch, capsys, checkpoint):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setattr("gradio.http_server.INITIAL_PORT_VALUE", taken.getsockname()[1])
        monkeypatch.setattr("gradio.http_server.TRY_NUM_PORTS", 1)
        assert app.main(["--checkpoint", str(checkpoint)]) == 2
    assert capsys.readouterr() == ("", "error: no port from 7860 on is free; choose one with --port\n")


def test_without_gradio_one_line_says_how_to_install_it():
    code = f"import runpy, sys; sys.modules['gradio'] = None; runpy.run_path({str(ROOT / 'app.py')!r})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "error: gradio is not installed: pip install gradio\n")


@pytest.fixture(scope="module")
def address(checkpoint, tmp_path_factory):
    """The address of the app as `python app.py` starts it, and the folder where Gradio keeps files."""
    folder = tmp_path_factory.mktemp("server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log, env = folder / "log", os.environ | {"GRADIO_TEMP_DIR": str(folder / "kept"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "app.py", "--checkpoint", str(checkpoint), "--port", str(port)]
    with log.open("w") as file:
        server = subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=file, env=env)
    try:
        wait_for(server, log)
        yield f"http://127.0.0.1:{port}", folder / "kept"
    finally:
        server.terminate()
        server.wait(20)


def wait_for(server, log):
    """Return as soon as the app says where it is; fail with what it wrote if it ends first or takes too long."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and server.poll() is None:
        if "Open http://127.0.0.1:" in log.read_text():
            return
        time.sleep(0.1)
    pytest.fail(f"the app did not start:\n{log.read_text()}")


@pytest.fixture
def visit(browser, address):
    """The page in a browser as wide as a phone, and the addresses that it loaded something from."""
    tab, reached = browser.new_page(viewport={"width": 390, "height": 844}), []
    tab.set_default_timeout(1000 * PATIENCE)
    tab.on("response", lambda response: reached.append(response.url))
    tab.goto(address[0])
    yield tab, reached
    tab.close()


def judge(tab, path):
    tab.locator("input[type=file]").set_input_files(path)
    expect(tab.get_by_label("Play", exact=False).first).to_be_visible()
    tab.get_by_role("button", name="Judge it").click()


def test_a_visitor_sends_a_recording_and_nothing_stays(visit, address, recordings):
    tab, reached = visit
    judge(tab, recordings / "hiss <b>.wav")
    expect(tab.locator(".dfa .badge")).to_be_visible()
    expect(tab.locator(".dfa img")).to_be_visible()
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    assert [path for path in address[1].rglob("*") if path.is_file()] == []
    assert {url.split("/")[2] for url in reached if not url.startswith(("data:", "blob:"))} == {address[0][7:]}


def test_a_visitor_is_told_what_is_wrong_with_a_file(visit, recordings):
    tab, _ = visit
    judge(tab, recordings / "silent.wav")
    expect(tab.locator(".dfa")).to_contain_text("This file cannot be judged. silent.wav: silent throughout")


def test_a_visitor_can_record(visit):
    tab, _ = visit
    tab.get_by_label("Record audio").click()
    tab.get_by_role("button", name="Record", exact=True).click()
    tab.wait_for_timeout(1500)
    tab.get_by_role("button", name="Stop", exact=True).first.click()
    expect(tab.get_by_label("Play", exact=False).first).to_be_visible()
    tab.get_by_role("button", name="Judge it").click()
    expect(tab.locator(".dfa").first).to_contain_text("P(fake)")


def test_the_server_lets_the_page_load_nothing_from_elsewhere(address):
    answer = build_opener(ProxyHandler({})).open(address[0])
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "http" not in policy
