"""What every notebook must be; that each one runs is nbval's part."""

import json
import re
import sys
import types
import zipfile
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from dfa_utils import notebook
from dfa_utils.datasets.layouts import DataError
from dfa_utils.support import install

ROOT = Path(__file__).parents[1]
PATHS = sorted((ROOT / "notebooks").glob("*.ipynb"))
ALL = [Requirement(line).name for line in requires("dfa-utils") if "extra ==" not in line]
PAGE = "Deepfake_Audio_Detection"  # the whole game on one page
NAMES = ["01_explore", "02_spectrograms", "03_train_cnn", "04_evaluate", "05_inference", "06_generalise", PAGE]


def cells(path, kind=None):
    found = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [c | {"text": "".join(c["source"])} for c in found if kind in (None, c["cell_type"])]


def first_cell(path=PATHS[0]):
    return cells(path, "code")[0]["text"]


def test_the_series_is_complete():
    assert [path.stem for path in PATHS] == NAMES


@pytest.mark.parametrize("path", PATHS, ids=NAMES)
def test_form(path):
    code, prose = cells(path, "code"), cells(path, "markdown")
    assert 25 <= len(code) + len(prose) <= (30 if path.stem == PAGE else 45)
    assert 0.5 <= len(code) / len(prose) <= 2
    assert all(len(cell["text"].splitlines()) <= 25 for cell in code)
    assert not any(re.search(r";\s*$|sys\.path|except:", cell["text"], re.MULTILINE) for cell in code)
    text = "\n".join(cell["text"] for cell in prose)
    for part in ("**The question.**", "**You will learn**", "## You saw", "## Exercises", "minute", "colab-badge"):
        assert part in text
    assert text.count("<details>") == 3
    assert text.count("Guess") >= 2


@pytest.mark.parametrize("path", PATHS, ids=NAMES)
def test_it_is_committed_as_one_fresh_kernel_left_it(path):
    code = cells(path, "code")
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    assert not any(o["output_type"] == "error" or o.get("name") == "stderr" for o in outputs)
    assert any("image/png" in o.get("data", {}) for o in outputs)
    assert sum("text/html" in o.get("data", {}) and "<audio" in str(o["data"]["text/html"]) for o in outputs) <= 6
    assert "Toy data" in path.read_text(encoding="utf-8")
    assert not any("application/vnd.jupyter.widget-view+json" in o.get("data", {}) for o in outputs)
    assert path.stat().st_size < 1_000_000


def test_the_page_shows_every_line_itself():
    code = [cell["text"] for cell in cells(ROOT / "notebooks" / f"{PAGE}.ipynb", "code")]
    assert not any("dfa_utils" in text for text in code[1:])  # the first cell finds the data
    text = "\n".join(code)
    for part in ("torchaudio.load", "librosa", "MelSpectrogram", "AmplitudeToDB", "(Dataset)", "(nn.Module)", "softmax",
                 "loss.backward()", "accuracy_score", "f1_score", "confusion_matrix", "def predict_file"):  # fmt: skip
        assert part in text, part


def test_the_first_cell_is_the_same_everywhere_and_short():
    assert {first_cell(path) for path in PATHS} == {first_cell()}
    assert len(first_cell().splitlines()) <= 15


def test_the_badges_point_to_the_repository_of_the_first_cell():
    repository = re.search(r'REPOSITORY = "(\S+)"', first_cell()).group(1)
    for path in PATHS:
        assert f"/github/{repository}/blob/main/notebooks/{path.name}" in cells(path, "markdown")[0]["text"]


def test_links_lead_to_notebooks():
    for path in PATHS:
        targets = re.findall(r"\]\((\w+\.ipynb)\)", path.read_text(encoding="utf-8"))
        assert targets
        assert all((path.parent / target).exists() for target in targets)


@pytest.fixture
def colab(monkeypatch, tmp_path):
    """A stubbed google.colab with an empty Drive; the working folder is an empty one."""
    drive = types.SimpleNamespace(
        mount=lambda path: (tmp_path / "drive" / "MyDrive").mkdir(parents=True, exist_ok=True)
    )
    module = types.SimpleNamespace(drive=drive)
    monkeypatch.setitem(sys.modules, "google", types.SimpleNamespace(colab=module))
    monkeypatch.setitem(sys.modules, "google.colab", module)
    monkeypatch.setattr(notebook, "DRIVE", tmp_path / "drive")
    monkeypatch.setattr(notebook, "LOCAL", tmp_path / "local")
    monkeypatch.delenv("DFA_DATA", raising=False)
    (tmp_path / "content").mkdir()
    monkeypatch.chdir(tmp_path / "content")
    return tmp_path


def run_first_cell(monkeypatch, installed, **changes):
    """Run the cell, with the package found or not; what it would have run as subprocesses, and the data root."""
    text, commands = first_cell(), []
    for name, value in changes.items():
        text = re.sub(rf"^{name} = \S+", f"{name} = {value!r}", text, flags=re.MULTILINE)

    def run(command, check):
        assert check
        commands.append([str(part) for part in command])

    monkeypatch.setattr("importlib.util.find_spec", lambda name: object() if installed else None)
    monkeypatch.setattr("subprocess.run", run)
    space = {}
    exec(text, space)
    return commands, space["ROOT"]


def test_first_cell_uses_the_installed_package(monkeypatch, colab):
    commands, root = run_first_cell(monkeypatch, installed=True)
    assert commands == []
    assert root == ROOT / "data" / "toy"


def test_first_cell_installs_the_checkout_it_stands_in(monkeypatch):
    monkeypatch.chdir(ROOT / "notebooks")
    monkeypatch.delenv("DFA_DATA", raising=False)
    commands, _ = run_first_cell(monkeypatch, installed=False)
    assert commands == [[sys.executable, str(ROOT / "dfa_utils" / "support" / "install.py")]]


def test_first_cell_clones_shallowly_in_colab(monkeypatch, colab):
    commands, _ = run_first_cell(monkeypatch, installed=False, REPOSITORY="someone/something")
    clone, install = commands
    assert clone == ["git", "clone", "--depth=1", "https://github.com/someone/something", "deepfake-audio"]
    assert install == [sys.executable, "deepfake-audio/dfa_utils/support/install.py", "--colab"]


def test_first_cell_asks_for_the_address_while_there_is_none(monkeypatch, colab):
    with pytest.raises(AssertionError, match="set REPOSITORY"):
        run_first_cell(monkeypatch, installed=False)


def installed(monkeypatch, **versions):
    """Pretend that only these packages are installed."""

    def version(name):
        if name.replace("-", "_") not in versions:
            raise PackageNotFoundError(name)
        return versions[name.replace("-", "_")]

    monkeypatch.setattr(install, "version", version)


def test_in_colab_what_is_missing_is_installed_and_torch_is_never_touched(monkeypatch):
    enough = {name.replace("-", "_"): "999" for name in ALL} | {"torch": "2.8.0+cu126", "torchaudio": "2.8.0+cu126"}
    installed(monkeypatch, **enough)
    assert [command[-2:] for command in install.commands(colab=True)] == [["--no-deps", str(ROOT)]]
    del enough["captum"], enough["torchcodec"]
    installed(monkeypatch, **enough | {"librosa": "0.9.0"})
    _, rest = install.commands(colab=True)
    assert rest[4:] == ["--quiet", "captum>=0.7", "librosa>=0.10.2", "torch==2.8.0+cu126", "torchaudio==2.8.0+cu126"]


def test_in_colab_every_dependency_is_looked_for(monkeypatch):
    installed(monkeypatch)
    _, rest = install.commands(colab=True)
    assert [Requirement(line).name for line in rest[5:]] == [name for name in ALL if name not in install.TRIO]


def test_elsewhere_a_torch_that_is_there_stays_and_else_a_matching_trio_is_installed(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    assert install.commands(colab=False) == [[sys.executable, "-m", "pip", "install", "--quiet", str(ROOT)]]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert install.commands(colab=False)[0][-3:] == ["torch==2.11.0", "torchaudio==2.11.0", "torchcodec==0.11.*"]


def test_an_empty_environment_variable_is_none(monkeypatch, colab):
    monkeypatch.setenv("DFA_DATA", "")
    assert run_first_cell(monkeypatch, installed=True)[1] == ROOT / "data" / "toy"


def test_data_root_from_the_environment(monkeypatch, colab):
    monkeypatch.setenv("DFA_DATA", str(colab))
    assert run_first_cell(monkeypatch, installed=True, USE_DRIVE=True)[1] == colab
    monkeypatch.setenv("DFA_DATA", str(colab / "nowhere"))
    with pytest.raises(DataError, match="DFA_DATA"):
        run_first_cell(monkeypatch, installed=True)


@pytest.mark.parametrize("packed", [False, True])
def test_data_root_from_the_drive_is_copied_to_the_local_disk(monkeypatch, colab, packed):
    folder = colab / "drive" / "MyDrive" / "sets"
    (folder / "for-rerecorded" / "training").mkdir(parents=True)
    (folder / "for-rerecorded" / "training" / "a.wav").write_text("samples")
    if packed:
        with zipfile.ZipFile(folder / "for-rerec.zip", "w") as archive:
            archive.write(folder / "for-rerecorded" / "training" / "a.wav", "for-rerecorded/training/a.wav")
        (folder / "for-rerecorded").rename(folder / "hidden")
    root = run_first_cell(monkeypatch, installed=True, USE_DRIVE=True)[1]
    assert root == colab / "local" / "for-rerecorded"
    assert [path.read_text(encoding="utf-8") for path in root.rglob("a.wav")] == ["samples"]
    assert run_first_cell(monkeypatch, installed=True, USE_DRIVE=True)[1] == root


def test_a_drive_without_the_data_set_says_where_to_put_it(monkeypatch, colab):
    with pytest.raises(DataError, match="for-rerec"):
        run_first_cell(monkeypatch, installed=True, USE_DRIVE=True)


def test_recording_and_upload_work_in_colab_alone(monkeypatch, colab):
    sys.modules["google.colab"].files = types.SimpleNamespace(upload=lambda: {"mine.wav": b""})
    sys.modules["google.colab"].output = types.SimpleNamespace(eval_js=lambda code: "data:audio/webm;base64,aGVsbG8=")
    assert notebook.upload() == Path("mine.wav")
    assert notebook.record(0.1).read_bytes() == b"hello"
    monkeypatch.delitem(sys.modules, "google.colab")
    with pytest.raises(RuntimeError, match="MY_FILE"):
        notebook.upload()
