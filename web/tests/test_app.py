"""The page that gradio serves: what it answers, what it keeps (nothing), and whom it asks (nobody)."""

import os
import re
import runpy
import socket
import subprocess
import sys
from urllib.request import ProxyHandler, build_opener

import numpy as np
import pytest
import soundfile
import torch
from conftest import RATE, ROOT, hiss, tone
from playwright.sync_api import expect, sync_playwright
from test_browser import PATIENCE, SWITCHES, chromium, wait_for

from dfa_utils import Detector, fit, scan
from dfa_utils.__main__ import main
from web import answer as answers
from web import page
from web.page import build, settings


@pytest.fixture(scope="module")
def run(tiny_config, tiny_root, tmp_path_factory):
    return fit(tiny_config, scan(tiny_root), tmp_path_factory.mktemp("app") / "run").folder


@pytest.fixture(scope="module")
def detector(run):
    return Detector.load(run)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("recordings"), np.random.default_rng(0)
    soundfile.write(folder / "hiss <b>.wav", hiss(rng, 3.0), RATE)
    soundfile.write(folder / "silent.wav", np.zeros(RATE), RATE)
    soundfile.write(folder / "long.flac", np.tile(tone(rng), 1_202), RATE)  # 601 s
    (folder / "text.wav").write_text("no audio")
    return folder


def test_the_answer_is_the_prediction_and_where_its_evidence_lies(detector, recordings):
    path = recordings / "hiss <b>.wav"
    html = answers.answer(detector, str(path))
    truth = detector.predict(path)
    assert f"P(fake) {truth.score:.3f}" in html
    assert "hiss &lt;b&gt;.wav" in html
    assert str(recordings) not in html
    start = truth.times[truth.scores.argmax()]
    assert f"Where in the window from {start:.1f} s" in html
    assert html.count("data:image/png;base64,") == 1


@pytest.mark.parametrize(
    ("name", "words"),
    [(None, "Choose a recording first"), ("silent.wav", "silent"), ("text.wav", "FFmpeg"), ("long.flac", "10 minutes")],
)
def test_what_cannot_be_judged_is_told_in_one_sentence(detector, recordings, name, words):
    html = answers.answer(detector, name and str(recordings / name))
    text = re.sub(r"<style>.*?</style>|<[^>]+>", "", html, flags=re.DOTALL)
    assert words in text
    assert str(recordings) not in text
    assert len(text) < 400


def test_only_a_network_of_convolutions_is_explained(detector, recordings):
    whole = Detector.load()  # an ensemble
    path = recordings / "hiss <b>.wav"
    assert whole.model.members[0].config.model != "cnn"
    assert "Grad-CAM" in answers.answer(whole, str(path))
    statistics = Detector(whole.model.members[0], {})
    assert "Grad-CAM" not in answers.answer(statistics, str(path))


def test_the_window_that_is_shown_is_the_one_that_was_judged():
    samples = np.arange(10_000, dtype="float32")
    blocks = np.split(samples, [1_000, 4_000])
    torch.testing.assert_close(answers._cut(blocks, 3_500, 1_000), torch.arange(3_500.0, 4_500.0))
    rest = iter(blocks)
    answers._cut(rest, 0, 500)
    assert len(next(rest)) == 3_000  # the second block was not read


def test_a_file_that_was_sent_is_gone_and_one_of_the_users_own_is_not(detector, tmp_path):
    for folder, stays in (("cache", False), ("home", True)):
        path = tmp_path / folder / "x" / "a.wav"
        path.parent.mkdir(parents=True)
        soundfile.write(path, hiss(np.random.default_rng(0), 1.0), RATE)
        assert "P(fake)" in page._answer_and_forget(detector, tmp_path / "cache", str(path))
        assert path.exists() == stays


def test_without_gradio_there_is_the_line_that_installs_it(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert main(["app"]) == 2
    assert "pip install gradio" in capsys.readouterr().err


def test_it_serves_this_computer_alone_unless_told(monkeypatch, run):
    seen = {}
    monkeypatch.setattr("gradio.Blocks.launch", lambda self, **options: seen.update(options))
    main(["app", "--checkpoint", str(run)])
    assert (seen["server_name"], seen["share"]) == ("127.0.0.1", False)
    main(["app", "--checkpoint", str(run), "--host", "0.0.0.0", "--port", "9000"])
    assert (seen["server_name"], seen["server_port"]) == ("0.0.0.0", 9000)


def test_the_page_for_spaces_is_the_same(run):
    spaces, ours = runpy.run_path(str(ROOT / "app.py"))["demo"], build(run)
    kinds = [[type(block).__name__ for block in blocks.blocks.values()] for blocks in (spaces, ours)]
    assert kinds[0] == kinds[1]
    assert not spaces.analytics_enabled
    assert settings()["max_file_size"] == f"{page.LARGEST}mb"


@pytest.fixture(scope="module")
def address(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log, env = folder / "log", os.environ | {"GRADIO_TEMP_DIR": str(folder / "kept"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "dfa_utils", "app", "--checkpoint", str(run), "--port", str(port)]
    with log.open("w") as file:
        server = subprocess.Popen(command, stdout=file, stderr=file, env=env)
    try:
        wait_for(server, f"http://127.0.0.1:{port}", log)
        yield f"http://127.0.0.1:{port}", folder / "kept"
    finally:
        server.terminate()
        server.wait(20)


@pytest.fixture(scope="module")
def browser():
    path = chromium()
    expect.set_options(timeout=1000 * PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=SWITCHES)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, address):
    """The page in a browser of phone width, and the addresses that it got something from."""
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


def test_the_server_lets_the_page_ask_nobody_else(address):
    answer = build_opener(ProxyHandler({})).open(address[0])
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "http" not in policy
