"""The widgets of the notebooks, as a reader uses them: in JupyterLab, in a browser, with a microphone.

They need Chromium (Debian: apt-get install chromium) and are skipped without it, except where CI is set.
"""

import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.request import ProxyHandler, build_opener

import nbformat
import numpy as np
import pytest
import soundfile
from conftest import RATE, ROOT, tone
from playwright.sync_api import expect, sync_playwright

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SWITCHES = ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
PATIENCE = 240  # s; only a failure waits so long, so that a busy machine changes nothing
CELLS = [
    """
from IPython.display import Markdown
from dfa_utils.colab import explore

def draw(threshold=0.5):
    return Markdown(f"From {threshold} on, a clip is called *fake*.")

explore(draw, threshold=[0.3, 0.5, 0.7])
""",
    """
from dfa_utils.audio import load_audio
from dfa_utils.colab import ask

def predict(path):
    waveform = load_audio(path, 16_000)
    return f"{path}: {len(waveform) / 16_000:.1f} s of {'sound' if waveform.abs().max() > 0.01 else 'silence'}"

ask(predict)
""",
]


def chromium():
    """The browser's path; without one, the test is skipped, or fails where CI is set."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if not found:
        give_up = pytest.fail if os.environ.get("CI") else pytest.skip
        give_up("no Chromium found, which these tests drive: apt-get install chromium")
    return found


@contextmanager
def jupyter_lab(root, data):
    """JupyterLab on the folder `root`, without the user's own settings: its address, to be completed by a path."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token, log = secrets.token_hex(), root / "jupyter.log"
    names = "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTERLAB_SETTINGS_DIR"
    own = {name: str(root / name) for name in names}
    settings = root / "JUPYTERLAB_SETTINGS_DIR" / "@jupyterlab" / "notebook-extension" / "tracker.jupyterlab-settings"
    settings.parent.mkdir(parents=True)
    settings.write_text('{"windowingMode": "none"}')  # all cells are in the page, not only those in view
    env = os.environ | own | {"JUPYTER_PLATFORM_DIRS": "1", "IPYTHONDIR": str(root / "ipython"), "DFA_DATA": str(data)}
    env.pop("DFA_WIDGETS", None)
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}"]
    command += ["--ip=127.0.0.1", "--ServerApp.port_retries=0", f"--IdentityProvider.token={token}"]
    with log.open("w") as file:
        server = subprocess.Popen([*command, f"--ServerApp.root_dir={root}"], env=env, stdout=file, stderr=file)
    try:
        address = f"http://127.0.0.1:{port}/%s?token={token}"
        wait_for(server, address % "api/status", log)
        yield address
    finally:
        server.terminate()  # it ends its kernels too
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def wait_for(server, url, log):
    """Return when `url` answers; fail with the server's log if it ends first or takes too long."""
    opener, deadline = build_opener(ProxyHandler({})), time.monotonic() + PATIENCE
    while time.monotonic() < deadline and server.poll() is None:
        try:
            opener.open(url, timeout=PATIENCE).close()
            return
        except OSError:  # it does not listen yet
            time.sleep(0.1)
    pytest.fail(f"JupyterLab did not start:\n{log.read_text()}")


@pytest.fixture(scope="module")
def lab(tmp_path_factory, few_clips):
    """A browser, the folder that JupyterLab shows, and its address."""
    browser_path, root = chromium(), tmp_path_factory.mktemp("lab")
    expect.set_options(timeout=1000 * PATIENCE)
    with sync_playwright() as playwright, jupyter_lab(root, few_clips) as address:
        browser = playwright.chromium.launch(executable_path=browser_path, args=SWITCHES)
        yield browser, root, address
        browser.close()


def run_all(lab, name):
    """The page with a notebook in JupyterLab, after Run > Run All Cells was chosen."""
    browser, _, address = lab
    page = browser.new_page(viewport={"width": 1280, "height": 1600})
    page.set_default_timeout(1000 * PATIENCE)
    page.goto(address % f"lab/workspaces/{Path(name).stem}/tree/{name}")
    expect(page.locator("#jp-main-statusbar")).to_contain_text("(ipykernel) | Idle")
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    return page


@pytest.fixture(scope="module")
def cells(lab):
    """The code cells of a notebook with all widgets, in the browser, after they were run."""
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(text.strip()) for text in CELLS], metadata={"kernelspec": kernel}
    )
    nbformat.write(notebook, lab[1] / "widgets.ipynb")
    page = run_all(lab, "widgets.ipynb")
    prompts = page.locator(".jp-CodeCell .jp-InputPrompt")
    expect(prompts.first).to_have_text("[1]:")
    expect(prompts.last).not_to_have_text("[*]:")
    assert prompts.last.inner_text() == f"[{len(CELLS)}]:", page.locator(".jp-Notebook").inner_text()
    return page.locator(".jp-CodeCell")


def test_run_all_works_in_jupyterlab(lab):
    notebook = nbformat.read(ROOT / "notebooks" / "02_spectrograms.ipynb", as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count, cell.metadata = [], None, {}  # solutions are not hidden
    nbformat.write(notebook, lab[1] / "02_spectrograms.ipynb")
    page = run_all(lab, "02_spectrograms.ipynb")
    prompts = page.locator(".jp-Notebook .jp-CodeCell .jp-InputPrompt")
    expect(prompts.first).to_have_text("[1]:")
    expect(prompts.filter(has_text="[*]")).to_have_count(0, timeout=3000 * PATIENCE)  # none is running or waiting
    numbers, pictures = prompts.all_text_contents(), page.locator(".jp-OutputArea img[src^='data:image/png']").count()
    failed = page.locator(".jp-OutputArea [data-mime-type='application/vnd.jupyter.stderr']").all_inner_texts()
    page.close()
    assert numbers == [f"[{i}]:" for i in range(1, len(numbers) + 1)], failed
    assert pictures >= 3


@pytest.fixture
def explorer(cells):
    return cells.nth(0).locator(".jp-OutputArea").first


@pytest.fixture
def asker(cells):
    return cells.nth(1).locator(".jp-OutputArea").first


def choose(asker, path):
    asker.get_by_label("Choose a recording").set_input_files(path)


def expect_answer(asker, text):
    """The answer is there, and nothing else: no status that would say that it is still to come."""
    expect(asker.locator(".jp-RenderedMarkdown")).to_have_text(text)
    expect(asker.get_by_role("status")).to_have_text("")
    assert "Traceback" not in asker.inner_text()


def test_explore_shows_its_default_and_then_what_the_slider_says(explorer):
    drawn = explorer.locator(".jp-RenderedMarkdown")
    expect(drawn).to_have_text("From 0.5 on, a clip is called fake.")
    explorer.get_by_role("slider").press("ArrowRight")
    expect(drawn).to_have_text(["From 0.5 on, a clip is called fake.", "From 0.7 on, a clip is called fake."])
    explorer.get_by_role("slider").press("ArrowLeft")
    explorer.get_by_role("slider").press("ArrowLeft")
    expect(drawn).to_have_text(["From 0.5 on, a clip is called fake.", "From 0.3 on, a clip is called fake."])


def test_ask_judges_a_chosen_file(asker, tmp_path):
    soundfile.write(tmp_path / "mine.wav", tone(np.random.default_rng(0), seconds=1.5), RATE)
    choose(asker, tmp_path / "mine.wav")
    expect_answer(asker, "mine.wav: 1.5 s of sound")


def test_ask_says_what_is_wrong_with_a_file(asker, tmp_path):
    (tmp_path / "text.wav").write_text("no audio")
    choose(asker, tmp_path / "text.wav")
    expect_answer(asker, re.compile(r"^This file cannot be judged\. text\.wav: "))


def test_ask_records_five_seconds(asker):
    asker.get_by_role("button", name="Record 5 seconds").click()
    expect(asker.get_by_role("status")).to_have_text("Recording: speak for 5 seconds ...")
    expect_answer(asker, re.compile(r"^recording\.wav: [45]\.\d s of sound\s*$"))
