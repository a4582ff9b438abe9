"""Truths about the project as a whole: its size, its set-up files, its public face."""

import ast
import graphlib
import io
import json
import re
import statistics
import subprocess
import sys
import tokenize
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import dfa_utils

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "dfa_utils"
LOCK = re.sub(r"^#.*\n|\\\n", "", (ROOT / "requirements.txt").read_text(encoding="utf-8"), flags=re.M).splitlines()
PINS = dict(re.match(r"([\w.-]+)==(\S+)", line).groups() for line in LOCK)
MOST_LINES, MOST_LINES_OF_A_MODULE, MOST_MODULES = 3_400, 260, 30  # of code, without the simulated voices in toy/
TEXTS = {".css", ".html", ".js", ".json", ".md", ".py", ".toml", ".txt", ".yml", ""}  # suffixes
OPTIONAL = ("hibari", "onnx", "timm", "torchcodec", "transformers")  # `predict` does without them, on wav


def sources():
    """The modules of the package by their dotted name, each parsed; "" is the package itself."""
    paths = {path: path.relative_to(PACKAGE).with_suffix("").parts for path in PACKAGE.rglob("*.py")}
    names = {path: ".".join(part for part in parts if part != "__init__") for path, parts in paths.items()}
    return {name: ast.parse(path.read_text(encoding="utf-8")) for path, name in names.items()}


def imported(tree):
    """The dotted names that a module imports, anywhere in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "name modules in full; relative imports are not seen here"
            yield from (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))


def test_no_module_needs_a_module_that_needs_it():
    trees = sources()
    graph = {
        name: {found.removeprefix("dfa_utils.") for found in imported(tree)} & (set(trees) - {name, ""})
        for name, tree in trees.items()
    }
    assert {"audio", "train"} <= set(graph)
    assert list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError


def test_the_package_and_the_notebooks_do_not_need_what_is_not_installed():
    trees = [*sources().values(), *map(ast.parse, code_cells())]
    assert {found.split(".")[0] for tree in trees for found in imported(tree)} & {"research", "web", "tests"} == set()


def functions(tree):
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]


def test_public_things_say_what_they_do():
    for module, tree in sources().items():
        assert ast.get_docstring(tree), module
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                hidden = node.name.startswith("_") or node.name == "forward"
                assert hidden or ast.get_docstring(node), f"{module}.{node.name}"


def test_functions_are_short():
    lengths = {
        f"{module}.{node.name}": node.end_lineno - node.body[ast.get_docstring(node) is not None].lineno + 1
        for module, tree in sources().items()
        for node in functions(tree)
        if len(node.body) > (ast.get_docstring(node) is not None)
    }
    assert statistics.median(lengths.values()) <= 8
    assert {name: lines for name, lines in lengths.items() if lines > 40} == {}


def lines_of_code(path):
    """Lines of a module that hold code, without blank lines, comments and docstrings."""
    text, empty = path.read_text(encoding="utf-8"), (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE)
    tokens = [token for token in tokenize.generate_tokens(io.StringIO(text).readline) if token.type not in empty]
    lines = {line for token in tokens if token.string.strip() for line in range(token.start[0], token.end[0] + 1)}
    nodes = [n for n in ast.walk(ast.parse(text)) if isinstance(n, (ast.Module, ast.ClassDef, ast.FunctionDef))]
    docs = [node.body[0] for node in nodes if ast.get_docstring(node) is not None]
    return len(lines - {line for doc in docs for line in range(doc.lineno, doc.end_lineno + 1)})


def test_the_package_stays_small():
    counts = {path.stem: lines_of_code(path) for path in PACKAGE.glob("*.py")}
    assert sum(counts.values()) <= MOST_LINES
    assert len(counts) <= MOST_MODULES
    assert {name: count for name, count in counts.items() if count > MOST_LINES_OF_A_MODULE} == {}
    assert {path.parent.name for path in PACKAGE.rglob("*.py")} == {"dfa_utils", "toy"}


def test_the_package_offers_by_name_what_users_need():
    names = {
        "Config",
        "load_audio",
        "scan",
        "audit",
        "ClipDataset",
        "LogMel",
        "CNN",
        "build_model",
        "fit",
        "Detector",
        "evaluate",
    }
    assert names <= set(dir(dfa_utils))
    assert not set(dfa_utils.__all__) & {path.stem for path in PACKAGE.iterdir()}  # importing one would hide the name
    assert all(callable(getattr(dfa_utils, name)) for name in names)
    with pytest.raises(AttributeError, match="nothing"):
        dfa_utils.nothing  # noqa: B018


IN_ALL_ORDERS = """
import importlib, itertools, sys
for order in itertools.permutations(sys.argv[1:]):
    for name in [name for name in sys.modules if name.split(".")[0] == "dfa_utils"]:
        del sys.modules[name]
    for name in order:
        importlib.import_module(name)
        from dfa_utils import audit, evaluate
        public = sys.modules["dfa_utils"]
        assert all(map(callable, (audit, evaluate, public.audit, public.evaluate))), order
"""


def test_no_order_of_imports_hides_a_public_name():
    modules = ["dfa_utils", "dfa_utils.train", "dfa_utils.evaluation", "dfa_utils.auditing"]
    done = subprocess.run([sys.executable, "-c", IN_ALL_ORDERS, *modules], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


IMPORT_ALL = """
import importlib, pkgutil, sys
sys.modules.update(dict.fromkeys(sys.argv[2:]))
import dfa_utils
for module in pkgutil.walk_packages(dfa_utils.__path__, "dfa_utils."):
    importlib.import_module(module.name)
exec(sys.stdin.read())
sys.exit(dfa_utils.__main__.main(["predict", sys.argv[1]]))
"""


def code_cells():
    """The code of each cell of all notebooks."""
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        yield from ("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")


def only_imports(code):
    return all(isinstance(node, (ast.Import, ast.ImportFrom)) for node in ast.parse(code).body)


def test_without_the_optional_packages_all_can_be_imported_and_wav_be_judged(tiny_root):
    cells = [code for code in code_cells() if only_imports(code)]
    assert len(cells) >= 6
    command = [sys.executable, "-c", IMPORT_ALL, str(tiny_root / "testing" / "fake" / "0.wav"), *OPTIONAL]
    done = subprocess.run(command, input="\n".join(cells), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_help_loads_nothing_heavy():
    heavy = {"torch", "torchaudio", "matplotlib", "pandas", "scipy", "sklearn", "librosa", "accelerate", "IPython"}
    code = f"""
import sys
from dfa_utils.__main__ import main
try:
    main(["--help"])
finally:
    found = {heavy} & set(sys.modules)
    sys.exit(str(sorted(found)) if found else 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_requirement_has_its_hash_and_every_dependency_is_met():
    assert all(re.search(r" --hash=sha256:[0-9a-f]{64}", line) for line in LOCK)
    for wanted in map(Requirement, metadata.requires("dfa-utils")):
        assert wanted.specifier.contains(PINS[wanted.name]), wanted


def test_every_dependency_is_imported_and_every_import_is_declared():
    outside = [*(ROOT / "research").glob("*.py"), *(ROOT / "web").glob("*.py")]
    ours = {"research", "web", "google", *(path.stem for path in outside)}  # google: what only Colab has
    texts = [*code_cells(), *(path.read_text(encoding="utf-8") for path in outside)]
    trees = [*map(ast.parse, texts), *sources().values()]
    found = {name.split(".")[0] for tree in trees for name in imported(tree)} - sys.stdlib_module_names - ours
    packages = metadata.packages_distributions()
    needed = {canonicalize_name(name) for module in found for name in packages.get(module, [module])}
    tools = re.compile(r'extra == "(dev|docs)"')  # programs that are run, not imported
    required = metadata.requires("dfa-utils")
    declared = {canonicalize_name(Requirement(line).name) for line in required if not tools.search(line)}
    assert declared <= needed
    assert needed - {"dfa-utils", "pip"} <= {canonicalize_name(Requirement(line).name) for line in required}


def test_the_trio_matches_the_design():
    assert (PINS["torch"], PINS["torchaudio"]) == ("2.11.0", "2.11.0")
    assert PINS["torchcodec"].startswith("0.11.")


def test_conda_installs_the_same():
    conda = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    assert conda[-1] == {"pip": ["--requirement requirements.txt"]}
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
    texts = [ROOT / name for name in tracked if Path(name).suffix in TEXTS and name]
    assert len(texts) > 30
    assert [path for path in texts if path.is_file() and re.search(hosts, path.read_text(encoding="utf-8"))] == []


def test_the_readme_names_the_two_commands_and_every_notebook():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "make run" in readme
    assert "make test" in readme
    assert all(path.name in readme for path in (ROOT / "notebooks").glob("*.ipynb"))


def test_the_example_in_python_runs(tmp_path, few_clips, monkeypatch, capsys):
    page, folder = (ROOT / "docs" / "own-data.md").read_text(encoding="utf-8"), "runs/python"
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if folder in block]
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "toy").symlink_to(few_clips)
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    assert (tmp_path / folder / "best.safetensors").is_file()
    assert re.search(r"voice15-005\.wav: (real|fake|uncertain) \(score", capsys.readouterr().out)
