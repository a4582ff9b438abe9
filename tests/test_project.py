"""Truths about the project as a whole: its folders, its set-up files, its public face."""

import ast
import graphlib
import json
import re
import statistics
import subprocess
import sys
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
LIMITS = {"the top level": 1_600, "a module": 180}  # lines of code
TEXTS = {".css", ".html", ".js", ".json", ".md", ".py", ".toml", ".txt", ".yml", ""}  # suffixes
OPTIONAL = (  # what `predict` does without, on wav
    "captum",
    "hibari",
    "pyroomacoustics",
    "timm",
    "torchcodec",
    "transformers",
)


def sources(package):
    """The modules of a package by their dotted name, each parsed; "" is the package itself."""
    paths = {path: path.relative_to(package).with_suffix("").parts for path in package.rglob("*.py")}
    names = {path: ".".join(part for part in parts if part != "__init__") for path, parts in paths.items()}
    return {name: ast.parse(path.read_text(encoding="utf-8")) for path, name in names.items()}


def imports(package):
    """For each module of a package those that it imports, anywhere in it."""
    trees, root = sources(package), package.name
    graph = {name: set() for name in trees if name}
    for name in graph:
        for node in ast.walk(trees[name]):
            found = []
            if isinstance(node, ast.ImportFrom):
                assert not node.level, f"{name}: name modules in full; relative imports are not seen here"
                found = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            elif isinstance(node, ast.Import):
                found = [alias.name for alias in node.names]
            graph[name] |= {module.removeprefix(f"{root}.") for module in found} & (set(graph) - {name})
    return graph


def refuse_circles(graph):
    """AssertionError that shows a circle, if there is one."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        raise AssertionError(" <- ".join(error.args[1])) from None


def closed(graph):
    """The same graph with each folder as one node."""
    folders = {name: name.split(".")[0] for name in graph}
    edges = {folder: set() for folder in folders.values()}
    for name, found in graph.items():
        edges[folders[name]] |= {folders[other] for other in found} - {folders[name]}
    return edges


def test_no_module_needs_what_needs_it_and_neither_does_a_folder():
    graph = imports(PACKAGE)
    assert {"audio", "datasets.layouts", "release.card"} <= set(graph)
    refuse_circles(graph)
    refuse_circles(closed(graph))


def test_analysis_and_release_can_stay_closed():
    for name, found in imports(PACKAGE).items():
        outside = name.split(".")[0] not in ("__main__", "app", "cli", "notebook", "release", "analysis")
        assert not outside or not {other.split(".")[0] for other in found} & {"analysis", "release"}, name


HOUSE = {"__init__": "", "cellar/__init__": "", "cellar/barrel": "", "cellar/ladder": "", "door": ""}


def build(folder, **changes):
    """The package "house" in a folder, with the code of some of its modules."""
    package = folder / "house"
    (package / "cellar").mkdir(parents=True)
    for name, text in (HOUSE | {name.replace("__", "/"): text for name, text in changes.items()}).items():
        (package / f"{name}.py").write_text(text)
    return imports(package)


def test_a_circle_through_a_folder_is_found(tmp_path):
    inside = "def climb():\n    import house.door"
    graph = build(tmp_path, door="from house.cellar import barrel", cellar__ladder=inside)
    refuse_circles(graph)
    with pytest.raises(AssertionError, match=r"cellar <- door|door <- cellar"):
        refuse_circles(closed(graph))


def test_a_circle_within_a_folder_is_found(tmp_path):
    inside = "def climb():\n    from house.cellar.barrel import wine"
    graph = build(tmp_path, cellar__barrel="from house.cellar import ladder", cellar__ladder=inside)
    refuse_circles(closed(graph))
    with pytest.raises(AssertionError, match=r"cellar.ladder <- cellar.barrel|cellar.barrel <- cellar.ladder"):
        refuse_circles(graph)


def test_a_relative_import_does_not_slip_through(tmp_path):
    with pytest.raises(AssertionError, match=r"cellar.ladder: name modules in full"):
        build(tmp_path, cellar__ladder="from . import barrel")


def functions(tree):
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]


def test_public_things_say_what_they_do():
    for module, tree in sources(PACKAGE).items():
        assert ast.get_docstring(tree), module
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                hidden = node.name.startswith("_") or node.name == "forward"
                assert hidden or ast.get_docstring(node), f"{module}.{node.name}"


def test_functions_are_short():
    lengths = {
        f"{module}.{node.name}": node.end_lineno - node.body[ast.get_docstring(node) is not None].lineno + 1
        for module, tree in sources(PACKAGE).items()
        for node in functions(tree)
        if len(node.body) > (ast.get_docstring(node) is not None)
    }
    assert statistics.median(lengths.values()) <= 8
    assert {name: lines for name, lines in lengths.items() if lines > 40} == {}


def lines_of_code(path):
    """Lines of a module without docstrings and blank ones."""
    text = path.read_text(encoding="utf-8")
    places = [n.body for n in ast.walk(ast.parse(text)) if isinstance(n, (ast.Module, ast.ClassDef, ast.FunctionDef))]
    docs = [b[0] for b in places if b and isinstance(b[0], ast.Expr) and isinstance(b[0].value, ast.Constant)]
    return len([line for line in text.splitlines() if line.strip()]) - sum(d.end_lineno - d.lineno + 1 for d in docs)


def test_the_package_stays_small():
    lines = {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts): lines_of_code(path) for path in PACKAGE.rglob("*.py")
    }
    assert sum(count for name, count in lines.items() if "." not in name) <= LIMITS["the top level"]
    assert {name: count for name, count in lines.items() if count > LIMITS.get(name, LIMITS["a module"])} == {}


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
sys.modules[sys.argv[1]] = None
import dfa_utils
for module in pkgutil.walk_packages(dfa_utils.__path__, "dfa_utils."):
    importlib.import_module(module.name)
exec(sys.stdin.read())
sys.exit(dfa_utils.__main__.main(["predict", sys.argv[2]]))
"""


def code_cells():
    """The code of each cell of all notebooks."""
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        yield from ("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")


def only_imports(code):
    return all(isinstance(node, (ast.Import, ast.ImportFrom)) for node in ast.parse(code).body)


@pytest.mark.parametrize("name", OPTIONAL)
def test_without_an_optional_package_all_can_be_imported_and_wav_be_judged(name, tiny_root):
    cells = [code for code in code_cells() if only_imports(code)]
    assert len(cells) >= 6
    command = [sys.executable, "-c", IMPORT_ALL, name, str(tiny_root / "testing" / "fake" / "0.wav")]
    done = subprocess.run(command, input="\n".join(cells), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("code", ["from dfa_utils import Detector", "import dfa_utils.__main__"])
def test_the_import_and_the_parser_are_light(code):
    plots, tables = {"matplotlib", "seaborn", "IPython"}, {"pandas", "scipy", "sklearn"}
    heavy = plots | tables | {"librosa", "captum", "accelerate", "joblib"}
    code = f"import sys; {code}; heavy = {heavy} & set(sys.modules); sys.exit(str(sorted(heavy)) if heavy else 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_requirement_has_its_hash_and_every_dependency_is_met():
    assert all(re.search(r" --hash=sha256:[0-9a-f]{64}", line) for line in LOCK)
    for wanted in map(Requirement, metadata.requires("dfa-utils")):
        assert wanted.specifier.contains(PINS[wanted.name]), wanted


def test_every_dependency_is_imported_and_every_import_is_declared():
    trees = [ast.parse(cell) for cell in code_cells()] + list(sources(PACKAGE).values())
    nodes = [node for tree in trees for node in ast.walk(tree)]
    modules = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    modules |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    found = {name.split(".")[0] for name in modules} - sys.stdlib_module_names - {"google"}  # what only Colab has
    packages = metadata.packages_distributions()
    imported = {canonicalize_name(name) for module in found for name in packages.get(module, [module])}
    tools = re.compile(r'extra == "(dev|docs)"')  # programs that are run, not imported
    declared = [line for line in metadata.requires("dfa-utils") if not tools.search(line)]
    assert imported - {"dfa-utils", "pip"} == {Requirement(line).name for line in declared}


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
    assert re.search(r"voice15-005\.wav: (real|fake) \(score", capsys.readouterr().out)
