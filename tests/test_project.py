"""Truths about the project as a whole: its layers, its set-up files, its public face."""

import ast
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "dfa_utils"
LAYERS = [
    {"config", "metrics", "progress", "bootstrap", "files", "processes"},
    {"audio", "features", "plots"},
    {"models", "cache", "corpora", "corruptions"},
    {"checkpoint", "data", "toy", "augment", "vocode", "calibrate", "cues"},
    {"evaluate", "audit", "explain"},
    {"train", "inference", "report", "robustness"},
    {"notebook", "bulk", "crossval"},
    {"__main__"},
]
LAYER = {module: level for level, modules in enumerate(LAYERS) for module in modules}
PINS = dict(
    line.split("==") for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines() if "==" in line
)


def parsed(module):
    return ast.parse((PACKAGE / f"{module}.py").read_text(encoding="utf-8"))


def imports_of(module):
    """Modules of the package that `module` imports, anywhere in it."""
    for node in ast.walk(parsed(module)):
        if isinstance(node, ast.ImportFrom) and node.module == "dfa_utils":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("dfa_utils."):
            yield node.module.split(".")[1]
        elif isinstance(node, ast.Import):
            yield from (alias.name.split(".")[1] for alias in node.names if alias.name.startswith("dfa_utils."))


def test_every_module_has_a_layer():
    assert {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"} == set(LAYER)


@pytest.mark.parametrize("module", sorted(LAYER))
def test_imports_go_down(module):
    assert [name for name in imports_of(module) if LAYER[name] >= LAYER[module]] == []


@pytest.mark.parametrize("module", sorted(LAYER))
def test_functions_are_short_and_public_ones_say_what_they_do(module):
    tree = parsed(module)
    assert ast.get_docstring(tree)
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            public = not node.name.startswith("_") and node.name != "forward"
            assert ast.get_docstring(node) or not public or "__" in node.name, node.name
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno <= 40, node.name


def test_the_core_is_small():
    lines = 0
    for path in set(PACKAGE.glob("*.py")) - {PACKAGE / "toy.py"}:  # what the notebooks face; toy makes data/toy
        tree = ast.parse(path.read_text(encoding="utf-8"))
        bodies = [n.body for n in ast.walk(tree) if isinstance(n, (ast.Module, ast.ClassDef, ast.FunctionDef))]
        docs = [b[0] for b in bodies if b and isinstance(b[0], ast.Expr) and isinstance(b[0].value, ast.Constant)]
        lines += len([line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()])
        lines -= sum(doc.end_lineno - doc.lineno + 1 for doc in docs)
    assert lines <= 3_500


def test_the_import_is_light():
    code = (
        "import sys; from dfa_utils import Detector; heavy = {'librosa', 'seaborn', 'sklearn', 'matplotlib', 'pandas', "
        "'accelerate', 'scipy', 'IPython'} & set(sys.modules); sys.exit(str(sorted(heavy)) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "failure", ["RuntimeError('different CUDA versions')", "OSError('libc10_cuda.so')", "ImportError('x')"]
)
def test_a_torchaudio_that_does_not_fit_gives_the_line_that_mends_it(tmp_path, failure):
    (tmp_path / "torchaudio.py").write_text(f"raise {failure}")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import dfa_utils"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError")
    assert f'pip install torch=={PINS["torch"]} torchaudio=={PINS["torchaudio"]} "torchcodec==0.11.*"' in last


def test_a_python_without_torchaudio_is_told_to_activate_the_environment(tmp_path):
    (tmp_path / "torchaudio.py").write_text("raise ModuleNotFoundError('x', name='torchaudio')")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import dfa_utils"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "torchaudio is not installed for" in done.stderr.strip().splitlines()[-1]


def test_every_requirement_is_pinned_and_every_dependency_is_met():
    lines = [
        line
        for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
        if not line.startswith("#")
    ]
    assert all(re.fullmatch(r"[\w.-]+==[\w.+]+", line) for line in lines)
    pins = {name.lower().replace("_", "-"): version for name, version in PINS.items()}
    for wanted in map(Requirement, metadata.requires("dfa-utils")):
        assert wanted.specifier.contains(pins[wanted.name]), wanted


def test_the_trio_matches_the_design():
    assert (PINS["torch"], PINS["torchaudio"]) == ("2.11.0", "2.11.0")
    assert PINS["torchcodec"].startswith("0.11.")


def test_conda_installs_the_same():
    conda = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    assert conda[-1] == {"pip": ["--requirement requirements.txt", "."]}
    assert {re.split("[=<>]", name)[0] for name in conda[:-1]} == {"python", "ffmpeg", "pip"}
    assert "python=3.11" in conda


def test_no_file_names_a_registry():
    tracked = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    ).stdout.split("\0")
    hosts = "|".join(
        ["--(extra-)?index" + "-url", "pypi" + r"\.org", "pythonhosted" + r"\.org", "download" + r"\.pytorch"]
    )
    texts = [
        ROOT / name for name in tracked if Path(name).suffix in {".py", ".md", ".txt", ".toml", ".yml", ""} and name
    ]
    assert len(texts) > 30
    assert [path for path in texts if path.is_file() and re.search(hosts, path.read_text(encoding="utf-8"))] == []


def test_the_readme_names_the_two_commands_and_every_notebook():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "make run" in readme
    assert "make test" in readme
    assert all(path.name in readme for path in (ROOT / "notebooks").glob("*.ipynb"))
