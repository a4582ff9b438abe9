"""What every notebook must be; that each one runs is nbval's part."""

import ast
import io
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from types import SimpleNamespace

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from IPython.display import Markdown
from packaging.requirements import Requirement

from dfa_utils import colab, install, toy
from dfa_utils.checkpoint import runs_folder
from dfa_utils.dataset import scan
from dfa_utils.inference import Detector
from dfa_utils.layouts import DataError
from dfa_utils.train import fit

ROOT = Path(__file__).parents[1]
PATHS = sorted((ROOT / "notebooks").glob("*.ipynb"))
ALL = [Requirement(line).name for line in requires("dfa-utils") if "extra ==" not in line]
PAGE = "Deepfake_Audio_Detection"  # the whole game on one page
NAMES = ["01_explore", "02_spectrograms", "03_train_cnn", "04_evaluate", "05_inference", "06_calibrate",
         "07_generalise", "08_released_detector", "09_bigger_models", "10_explanations", PAGE]  # fmt: skip


def cells(path, kind=None):
    found = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [c | {"text": "".join(c["source"])} for c in found if kind in (None, c["cell_type"])]


def first_cell(path=PATHS[0]):
    return cells(path, "code")[0]["text"]


def test_the_series_is_complete():
    assert [path.stem for path in PATHS] == NAMES


PARTS = ("**The question.**", "**You will learn**", "## You saw", "## Exercises", "**New words.**", "**References.**",
         "minute", "colab-badge")  # fmt: skip


@pytest.mark.parametrize("path", PATHS, ids=NAMES)
def test_form(path):
    code, prose = cells(path, "code"), cells(path, "markdown")
    assert len(code) + len(prose) <= (36 if path.stem == PAGE else 70)
    assert 0.5 <= len(code) / len(prose) <= 3
    lines = [len(cell["text"].splitlines()) for cell in code]
    assert statistics.median(lines) <= (15 if path.stem == PAGE else 9)
    assert max(lines) <= 25
    assert not any(re.search(r";\s*$|sys\.path|except:|import (research|web)\b", c["text"], re.MULTILINE) for c in code)
    text = "\n".join(cell["text"] for cell in prose)
    for part in PARTS:
        assert part in text
    assert 1 <= text.count("**Guess**") <= 4
    assert 5 <= text[text.index("**References.**") :].count("](http") <= 12


FOLDED = {"cellView": "form", "jupyter": {"outputs_hidden": True, "source_hidden": True}, "tags": ["solution"]}


@pytest.mark.parametrize("path", PATHS, ids=NAMES)
def test_each_exercise_has_a_folded_solution_after_it(path):
    below = cells(path)
    (start,) = [i for i, cell in enumerate(below) if cell["text"].startswith("## Exercises")]
    assert re.findall(r"^(\d)\. ", below[start]["text"], re.MULTILINE) == ["1", "2", "3"]
    for number, cell in enumerate(below[start + 1 : start + 4], start=1):
        assert cell["cell_type"] == "code"
        assert cell["metadata"] == FOLDED  # in Jupyter; in Colab by its title
        assert cell["text"].startswith(f"# @title Solution {number}\n")
    assert sum("solution" in cell["metadata"].get("tags", []) for cell in below) == 3


@pytest.mark.parametrize("path", PATHS, ids=NAMES)
def test_it_is_committed_as_one_fresh_kernel_left_it(path):
    code = cells(path, "code")
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    assert not any(o["output_type"] == "error" or o.get("name") == "stderr" for o in outputs)
    assert any("image/png" in o.get("data", {}) for o in outputs)
    assert sum("text/html" in o.get("data", {}) and "<audio" in str(o["data"]["text/html"]) for o in outputs) <= 8
    assert "Toy data" in path.read_text(encoding="utf-8")
    assert not any("application/vnd.jupyter.widget-view+json" in o.get("data", {}) for o in outputs)
    assert path.stat().st_size < 2_500_000
    assert not re.search(
        rf"{re.escape(str(ROOT))}\b|/(home|root|tmp|Users)/", json.dumps(outputs)
    )  # whose machine it was


def printed(path):
    """All text that the cells of a notebook printed."""
    outputs = [output for cell in cells(path, "code") for output in cell["outputs"]]
    return "\n".join("".join(o.get("data", {}).get("text/markdown", "")) for o in outputs)


def test_all_notebooks_speak_of_the_same_detector():
    stems = "03", "04", "05", "06", "07", "10"
    texts = {path.stem: printed(path) for path in PATHS if path.stem[:2] in stems}
    assert len(texts) == len(stems)
    found = [re.findall(r"Fingerprint `(\w+)`\. Its EER on validation was ([\d.]+%)", text) for text in texts.values()]
    assert [len(each) for each in found] == [1] * len(stems)
    assert len({*map(tuple, found)}) == 1
    (eer,) = re.findall(r"The EER on testing is ([\d.]+%)", texts["04_evaluate"])
    assert f"Clean EER {eer}" in texts["07_generalise"]
    assert f"testing {eer} ->" in texts["07_generalise"]


def test_the_page_shows_every_line_itself():
    code = [cell["text"] for cell in cells(ROOT / "notebooks" / f"{PAGE}.ipynb", "code")]
    text = "\n".join(code[1:])
    assert re.findall(r".*dfa_utils.*", text) == ["from dfa_utils import load_audio, scan"]  # they find and read all
    for part in ("torchaudio.load", "librosa", "MelSpectrogram", "AmplitudeToDB", "(Dataset)", "(nn.Module)", "softmax",
                 "loss.backward()", "accuracy_score", "f1_score", "confusion_matrix", "def predict_file"):  # fmt: skip
        assert part in text, part


def test_the_first_cell_is_the_same_everywhere_and_short():
    assert {first_cell(path) for path in PATHS} == {first_cell()}
    assert len(first_cell().splitlines()) <= 20


def test_all_badges_name_one_repository_and_their_own_notebook():
    found = [
        re.findall(r"/github/([\w.-]+/[\w.-]+)/blob/main/notebooks/(\S+?)\)", cells(path)[0]["text"]) for path in PATHS
    ]
    assert [name for ((_, name),) in found] == [path.name for path in PATHS]
    assert len({repository for ((repository, _),) in found}) == 1


def test_links_lead_to_notebooks():
    for path in PATHS:
        targets = re.findall(r"\]\((\w+\.ipynb)\)", path.read_text(encoding="utf-8"))
        assert targets
        assert all((path.parent / target).exists() for target in targets)


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A stubbed google.colab with an empty Drive."""
    drive = SimpleNamespace(mount=lambda path: (tmp_path / "drive" / "MyDrive").mkdir(parents=True, exist_ok=True))
    module = SimpleNamespace(drive=drive)
    monkeypatch.setitem(sys.modules, "google", SimpleNamespace(colab=module))
    monkeypatch.setitem(sys.modules, "google.colab", module)
    monkeypatch.setattr(colab, "DRIVE", tmp_path / "drive")
    monkeypatch.setattr(colab, "LOCAL", tmp_path / "local")
    monkeypatch.setattr(toy, "cached_root", lambda: tmp_path / "lesson")
    monkeypatch.delenv("DFA_DATA")
    monkeypatch.setenv("DFA_RUNS", "")  # so that what data_root sets is forgotten after the test
    monkeypatch.delenv("DFA_RUNS")
    (tmp_path / "content").mkdir()
    monkeypatch.chdir(tmp_path / "content")
    return tmp_path


def run_first_cell(monkeypatch, use="toy", repo="someone/something", found=True):
    """Run the cell, with the package found or not; what it would have run as subprocesses, and the data root."""
    text, commands = first_cell(), []
    for name, value in (("REPO", repo), ("DATA", use)):
        text = re.sub(rf'^{name} = "[^"]*"', f"{name} = {value!r}", text, flags=re.MULTILINE)

    def run(command, check):
        assert check
        commands.append([str(part) for part in command])

    monkeypatch.setattr("importlib.util.find_spec", lambda name: object() if found else None)
    monkeypatch.setattr("subprocess.run", run)
    space = {}
    exec(text, space)
    return commands, space["ROOT"]


def test_in_colab_the_first_cell_clones_and_installs_and_says_how_long_it_takes(monkeypatch, capsys, machine):
    (clone, setup), root = run_first_cell(monkeypatch)
    assert clone == ["git", "clone", "--depth=1", "https://github.com/someone/something", "deepfake-audio"]
    assert setup == [sys.executable, "deepfake-audio/dfa_utils/install.py"]
    assert capsys.readouterr().out == "Installing, about a minute\n"
    assert root.name == "lesson"
    (machine / "content" / "deepfake-audio" / "dfa_utils").mkdir(parents=True)
    assert run_first_cell(monkeypatch)[0] == [setup]  # after a restart


def test_first_cell_asks_for_the_address_while_there_is_none(monkeypatch, machine):
    with pytest.raises(ValueError, match="REPO names no owner yet"):
        run_first_cell(monkeypatch, repo="OWNER/deepfake-audio")


def test_elsewhere_the_first_cell_changes_nothing_unless_it_is_told_to(monkeypatch):
    monkeypatch.chdir(ROOT / "notebooks")
    commands, root = run_first_cell(monkeypatch)
    assert commands == []
    assert root == Path(os.environ["DFA_DATA"])
    with pytest.raises(ImportError, match=r"choose the kernel of \.venv.*or set INSTALL = True"):
        run_first_cell(monkeypatch, found=False)


def test_on_kaggle_the_first_cell_installs_the_checkout_it_stands_in(monkeypatch):
    is_dir = Path.is_dir
    monkeypatch.setattr(Path, "is_dir", lambda path: str(path) == "/kaggle" or is_dir(path))
    monkeypatch.chdir(ROOT / "notebooks")
    assert run_first_cell(monkeypatch)[0] == [[sys.executable, str(ROOT / "dfa_utils" / "install.py")]]


IN_COLAB = """
import importlib.machinery, importlib.util, subprocess, sys
for name in sys.argv[1:]:
    sys.modules[name] = None
for name in ("google", "google.colab"):
    sys.modules[name] = importlib.util.module_from_spec(importlib.machinery.ModuleSpec(name, None))
subprocess.run = lambda command, check: None
exec(sys.stdin.read())
assert ROOT.is_dir() and callable(colab.player)
"""


def test_the_first_cell_runs_in_colab_without_what_colab_lacks():
    blocked = ["torchcodec", "pyroomacoustics", "hibari", "timm", "transformers", "distillmos"]
    command = [sys.executable, "-c", IN_COLAB, *blocked]
    done = subprocess.run(command, input=first_cell(), capture_output=True, text=True, cwd=ROOT / "notebooks")
    assert done.returncode == 0, done.stderr


def installed(monkeypatch, **versions):
    """Pretend that only these packages are installed."""

    def version(name):
        if name.replace("-", "_") not in versions:
            raise PackageNotFoundError(name)
        return versions[name.replace("-", "_")]

    monkeypatch.setattr(install, "version", version)


ENOUGH = {name.replace("-", "_"): "999" for name in ALL if name not in install.TRIO}
COLAB = ENOUGH | {"torch": "2.9.0+cu126", "torchaudio": "2.9.0+cu126"}


def test_what_is_missing_is_installed_and_a_torch_that_fits_stays(monkeypatch):
    installed(monkeypatch, **COLAB, torchcodec="0.9.1")
    assert [command[-2:] for command in install.commands()] == [["--no-deps", str(ROOT)]]
    installed(monkeypatch, **COLAB, torchcodec="0.9.1", dfa_utils="0.1.0")
    assert install.commands() == []
    installed(monkeypatch, **{name: COLAB[name] for name in COLAB if name != "anywidget"} | {"librosa": "0.9.0"})
    _, rest = install.commands()
    pins = ["torchcodec==0.9.*", "torch==2.9.0+cu126", "torchaudio==2.9.0+cu126"]
    assert rest[4:] == ["--quiet", "anywidget>=0.9", "librosa>=0.10.2", *pins]


def test_a_missing_torchaudio_is_installed_to_fit(monkeypatch):
    installed(monkeypatch, **ENOUGH, torch="2.10.1")
    assert install.commands()[1][5:] == ["torchaudio==2.10.*", "torchcodec==0.10.*", "torch==2.10.1"]


@pytest.mark.parametrize("torch", [{}, {"torch": "2.13.0"}, {"torch": "2.8.0"}])
def test_a_torch_without_a_torchaudio_that_fits_is_replaced_by_the_last_that_has_one(monkeypatch, torch):
    installed(monkeypatch, **ENOUGH, **torch)
    assert install.commands()[1][5:] == ["torch==2.11.*", "torchaudio==2.11.*", "torchcodec==0.11.*"]


def test_every_dependency_is_looked_for(monkeypatch):
    installed(monkeypatch)
    _, rest = install.commands()
    assert {Requirement(line).name for line in rest[5:]} == {*ALL}


def test_an_empty_environment_variable_is_none(monkeypatch, machine):
    monkeypatch.setenv("DFA_DATA", "")
    assert run_first_cell(monkeypatch)[1].name == "lesson"


def test_data_root_from_the_environment_or_a_path(monkeypatch, machine):
    assert run_first_cell(monkeypatch, use=str(machine))[1] == machine
    with pytest.raises(DataError, match="nowhere does not exist"):
        run_first_cell(monkeypatch, use=str(machine / "nowhere"))
    monkeypatch.setenv("DFA_DATA", str(machine))
    assert run_first_cell(monkeypatch, use="drive")[1] == machine
    monkeypatch.setenv("DFA_DATA", str(machine / "nowhere"))
    with pytest.raises(DataError, match=r"nowhere does not exist; set DATA or DFA_DATA"):
        run_first_cell(monkeypatch)


def test_a_path_on_the_drive_is_mounted(monkeypatch, machine):
    mine = machine / "drive" / "MyDrive"
    assert not mine.exists()
    assert run_first_cell(monkeypatch, use=str(mine))[1] == mine
    assert mine.is_dir()


def test_the_drive_is_for_colab(monkeypatch):
    monkeypatch.delenv("DFA_DATA")
    with pytest.raises(DataError, match="works in Colab, and on Kaggle"):
        colab.data_root("drive")


CLIP = "for-rerecorded/training/real/a.wav"


@pytest.fixture
def my_drive(machine):
    """The top folder of the stubbed Drive."""
    folder = machine / "drive" / "MyDrive"
    folder.mkdir(parents=True)
    return folder


def pack(path, *names, content=b"samples"):
    """An archive of files with these names; its kind follows from its own name."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in names:
                archive.writestr(name, content)
        return
    with tarfile.open(path, "w:gz" if path.suffix in (".gz", ".tgz") else "w") as archive:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def take_from_drive(monkeypatch):
    """The data root of the first cell with DATA = "drive"."""
    return run_first_cell(monkeypatch, use="drive")[1]


@pytest.mark.parametrize(
    "name", ["folder", "for-rerec.zip", "for-rerec.tar.gz", "for-rerec.tar", "FOR-Rerec.tgz", "for_rerec.zip"]
)
def test_data_root_from_the_drive_is_copied_to_the_local_disk(monkeypatch, machine, my_drive, name):
    (my_drive / "sets").mkdir()
    (my_drive / "for-rerec").mkdir()  # empty: what was made for an archive that then went beside it
    if name == "folder":
        clip = my_drive / "sets" / CLIP
        clip.parent.mkdir(parents=True)
        clip.write_text("samples")
    else:
        pack(my_drive / "sets" / name, CLIP)
    root = take_from_drive(monkeypatch)
    assert root == machine / "local" / "for-rerecorded"
    assert [path.read_text(encoding="utf-8") for path in root.rglob("a.wav")] == ["samples"]
    assert runs_folder() == my_drive / "deepfake-audio" / "runs"  # what is trained is kept
    assert take_from_drive(monkeypatch) == root


def test_on_kaggle_the_inputs_are_searched(monkeypatch, machine):
    monkeypatch.setattr(colab, "KAGGLE", machine / "input")
    homes = [machine / "input" / "fake-or-real" / name for name in ("for-norm/for-norm", "for-rerec/for-rerecorded")]
    for home in homes:
        (home / "training" / "real").mkdir(parents=True)
    assert take_from_drive(monkeypatch) == homes[1]
    homes[1].parent.rename(machine / "hidden")
    assert take_from_drive(monkeypatch) == homes[0]  # the only one
    (machine / "input" / "other" / "training").mkdir(parents=True)
    with pytest.raises(DataError, match=r"2 data sets; set DATA to one of them: .*for-norm, .*other"):
        take_from_drive(monkeypatch)


def test_a_drive_without_the_data_set_says_where_to_put_it(monkeypatch, my_drive):
    (my_drive / "for-rerec").mkdir()
    with pytest.raises(DataError, match=r"no folder with clips, and no archive \(.*tar\.gz.* begins with for-rerec"):
        take_from_drive(monkeypatch)


@pytest.mark.parametrize("name", ["for-rerec.zip", "for-rerec.tar.gz", "for-rerec.tgz", "for-rerec.tar"])
def test_an_archive_that_is_cut_off_at_any_place_is_named_with_the_cure(monkeypatch, machine, my_drive, name):
    names = [CLIP.replace("a.wav", f"{letter}.wav") for letter in "abc"]
    pack(my_drive / name, *names, content=os.urandom(700))
    whole = (my_drive / name).read_bytes()
    end = 3 * (512 + 1024) if name.endswith(".tar") else len(whole)  # a tar may lack the zeros behind its end
    for size in (*(end * part // 60 for part in (0, 1, 6, 20, 30, 40, 55)), end - 1):  # 20, 40: between two files
        (my_drive / name).write_bytes(whole[:size])
        with pytest.raises(DataError, match=rf"{name}: cannot be unpacked .*cut off or damaged; copy it"):
            take_from_drive(monkeypatch)
    (my_drive / name).write_bytes(whole)
    assert len(list(take_from_drive(monkeypatch).rglob("*.wav"))) == 3


def test_an_archive_without_a_data_set_is_named(monkeypatch, machine, my_drive):
    pack(my_drive / "for-rerec.zip", "readme.txt")
    with pytest.raises(DataError, match=r"for-rerec\.zip: holds no data set"):
        take_from_drive(monkeypatch)


@pytest.mark.parametrize("name", ["for-rerec.zip", "for-rerec.tar.gz"])
def test_an_archive_that_would_fill_the_disk_is_refused(monkeypatch, machine, my_drive, name):
    pack(my_drive / name, "training/real/zeros.wav", content=bytes(10**7))
    assert (my_drive / name).stat().st_size < 20_000
    monkeypatch.setattr(colab.shutil, "disk_usage", lambda _: SimpleNamespace(free=5 * 10**6))
    with pytest.raises(DataError, match=rf"{name}: would unpack to 0\.0 GB, and the disk has 0\.0 GB left"):
        take_from_drive(monkeypatch)
    assert not list((machine / "local").rglob("*.wav"))


HOSTILE = ("../../escaped.wav", "/escaped.wav", "training/real/../../../../escaped.wav")


def test_nothing_is_unpacked_outside_its_folder(monkeypatch, machine, my_drive):
    pack(my_drive / "for-rerec.zip", *HOSTILE, "training/real/a.wav")
    root = take_from_drive(monkeypatch)
    assert all(root in path.parents for path in machine.rglob("*.wav"))
    assert (root / "training" / "real" / "a.wav").exists()


def test_a_tar_that_leads_outside_its_folder_is_refused(monkeypatch, machine, my_drive):
    pack(my_drive / "for-rerec.tar", *HOSTILE, "training/real/a.wav")
    with pytest.raises(DataError, match="cannot be unpacked"):
        take_from_drive(monkeypatch)
    assert not [path for path in machine.rglob("*.wav") if "partial" not in path.parts]


def copy_clips(source, target, name="{split}/{label}/{stem}{suffix}", skip=()):
    """Copy a data set of folders, each clip under a new name; folders in `skip` (SPLIT/CLASS) are left out."""
    for clip in sorted(source.rglob("*.wav")):
        split, label = clip.parts[-3:-1]
        if not {split, f"{split}/{label}"} & {*skip}:
            path = target / name.format(split=split, label=label, stem=clip.stem, suffix=clip.suffix)
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(clip, path)
    return target


def first_cells(monkeypatch, root, count=4):
    """The variables after the first code cells of the page, on the data set at `root`."""
    space = {}
    monkeypatch.setenv("DFA_DATA", str(root))
    for cell in cells(ROOT / "notebooks" / f"{PAGE}.ipynb", "code")[:count]:
        exec(cell["text"], space)
    return space


@pytest.mark.parametrize(
    "name", ["a/b/{split}/{label}/{stem}{suffix}", "{split}/{label}/inner/{stem}.WAV", "{split}/{label}/{stem}.wav"]
)
@pytest.mark.filterwarnings("ignore:left out")
def test_the_page_finds_and_reads_what_scan_finds(monkeypatch, tmp_path, tiny_root, name):
    root = copy_clips(tiny_root, tmp_path, name)
    folder = next(root.rglob("*.[wW][aA][vV]")).parent
    (folder / "._0.wav").write_bytes(b"of a Mac")
    (folder / "broken.wav").write_bytes(b"")
    space = first_cells(monkeypatch, root)
    assert len(space["clips"]) == 48
    assert {len(space["load"](path)) for path in space["clips"].path} == {8_000}


def test_the_page_reads_a_manifest_an_m4a_and_other_names_of_splits(monkeypatch, tmp_path, tiny_root):
    root = copy_clips(tiny_root, tmp_path / "wavs")
    rows = [(f"{i}.wav", path, path.parts[-3][:5].upper()) for i, path in enumerate(sorted(root.rglob("*.wav")))]
    table = pd.DataFrame([(path, split, path.parts[-2]) for _, path, split in rows], columns=["path", "split", "label"])
    table.split = table.split.map({"TRAIN": "train", "VALID": "val", "TESTI": "test"})
    shutil.copyfile(Path(__file__).with_name("tone.m4a"), root / "tone.m4a")
    table.loc[len(table)] = [root / "tone.m4a", "train", "real"]
    table.to_csv(root / "manifest.csv", index=False)
    space = first_cells(monkeypatch, root)
    assert len(space["clips"]) == 49
    assert len(space["load"](root / "tone.m4a")) > 8_000


@pytest.mark.parametrize(
    ("skip", "gaps"),
    [
        (["training", "validation"], "real clips for training, fake clips for training, real clips for validation"),
        (["training/fake", "validation/fake", "testing/fake"], "fake clips for training, fake clips for validation"),
    ],
)
def test_where_a_class_is_missing_a_sentence_says_so_and_the_toy_data_stand_in(
    monkeypatch, capsys, tmp_path, tiny_root, few_clips, skip, gaps
):
    monkeypatch.setattr(toy, "cached_root", lambda: few_clips)
    shown = []
    monkeypatch.setattr(colab, "display", shown.append)
    root = copy_clips(tiny_root, tmp_path / "mine", skip=skip)
    space = first_cells(monkeypatch, root)
    assert few_clips == space["ROOT"]
    assert f"`mine` has no usable {gaps}" in shown[0].data
    assert "training, validation, testing, so it continues with the toy data" in shown[0].data
    assert ("04 and 05 work with your data" in shown[0].data) == ("testing/fake" not in skip)


def test_data_without_training_are_judged_by_the_released_detector(tmp_path, tiny_root):
    root = copy_clips(tiny_root, tmp_path, skip=["training", "validation"])
    assert colab.usable_root(root, "testing") == root
    detector, which = colab.get_detector(scan(root, splits=None))
    assert detector.fingerprint == Detector.load().fingerprint
    assert "*released* detector" in which


def run_all_cells(path):
    """Run the code cells of a notebook in one namespace; the sentences that they show."""
    space, said = {}, []
    for cell in cells(path, "code"):
        tree = ast.parse(cell["text"])
        shown = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, path.name, "exec"), space)
        if shown:
            value = eval(compile(ast.Expression(shown.value), path.name, "eval"), space)
            said.append(value.data if isinstance(value, Markdown) else "")
    plt.close("all")
    return "\n".join(said)


@pytest.mark.parametrize(("name", "clue"), [
    ("01_explore", r"Too few clips to tell.*0 real and 0 fake"),
    ("04_evaluate", r"\*released\* detector.*too few clips for it"),
    ("05_inference", r"\*released\* detector.*Of \d files \d were judged"),
])  # fmt: skip
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_three_testing_clips_are_enough_for_what_does_not_train(monkeypatch, tmp_path, few_clips, name, clue):
    table = pd.read_csv(few_clips / "manifest.csv", keep_default_na=False)
    testing = table[table.split == "testing"].sort_values("label").iloc[[0, -2, -1]]
    for path, label in zip(testing.path, testing.label, strict=True):
        (tmp_path / "testing" / label).mkdir(parents=True, exist_ok=True)
        shutil.copy(few_clips / path, tmp_path / "testing" / label)
    monkeypatch.setenv("DFA_DATA", str(tmp_path))
    said = run_all_cells(ROOT / "notebooks" / f"{name}.ipynb")
    assert re.search(clue, said, re.DOTALL)
    assert not re.search(r"\bnan|no trap found|continues with the toy data", said)


def test_results_are_found_in_the_checkout_and_in_a_clone_below(monkeypatch, tmp_path):
    results = tmp_path / "deepfake-audio" / "research" / "results"
    results.mkdir(parents=True)
    (tmp_path / "deepfake-audio" / "notebooks").mkdir()
    for here in (tmp_path, tmp_path / "deepfake-audio" / "notebooks"):
        monkeypatch.chdir(here)
        assert colab.results_folder() == results
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="open the notebook in a checkout"):
        colab.results_folder()


def test_the_notebooks_take_a_cnn_whatever_was_trained_last(monkeypatch, tmp_path, tiny_manifest, tiny_config):
    monkeypatch.setenv("DFA_RUNS", str(tmp_path))
    cnn = replace(tiny_config, epochs=1)
    other = replace(cnn, model="timm:mobilenetv3_small_050")
    fit(cnn, tiny_manifest)
    newer = fit(other, tiny_manifest).folder
    detector, which = colab.get_detector(tiny_manifest)
    assert detector.model.config == cnn
    assert newer.name not in which
    assert colab.describe(detector, which).data.startswith(which)
