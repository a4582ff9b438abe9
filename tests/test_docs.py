"""Truths about the documentation: it builds offline, its links lead somewhere, and what it shows works."""

import ast
import functools
import json
import re
import shlex
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from importlib import metadata
from urllib.parse import unquote, urljoin, urlsplit

import numpy as np
import pandas as pd
import pytest
import soundfile
import yaml
from bs4 import BeautifulSoup
from conftest import RATE, ROOT, hiss
from playwright.sync_api import sync_playwright
from test_browser import SWITCHES, chromium
from typer.main import get_command

from dfa_utils.__main__ import app
from dfa_utils.evaluation import save_scores
from dfa_utils.support import HEADINGS

PAGES = sorted((ROOT / "docs").rglob("*.md"))
READMES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "data/README.md", "research/README.md", "web/README.md")
MODEL_CARD = ROOT / "dfa_utils" / "weights" / "MODEL_CARD.md"
PROSE = [*PAGES, *(ROOT / name for name in READMES), MODEL_CARD]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
OFFLINE = """
import socket, sys

def refuse(*address):
    raise OSError(f"the documentation asks the network for {address}")

socket.socket.connect = socket.getaddrinfo = refuse
from mkdocs.__main__ import cli

cli(["build", "--strict", "--quiet", "--site-dir", sys.argv[1]])
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built without a network."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run([sys.executable, "-c", OFFLINE, folder], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


class Page(HTMLParser):
    """What a page loads, where it links to, and the places that others can link to."""

    LOADS = ("src", "srcset", "poster", "data")

    def __init__(self, text):
        super().__init__()
        self.loads, self.links, self.places = [], [], {"", "__skip"}
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.places |= {values.get("id"), values.get("name")}
        self.loads += [values[name] for name in self.LOADS if values.get(name)]
        if "href" in values:
            (self.loads if tag == "link" else self.links).append(values["href"])


@functools.cache
def page_at(path):
    return Page(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def pages(site):
    """The pages by their path; the page for errors has no place of its own, so its links begin at the root."""
    return {path: page_at(path) for path in site.rglob("*.html")}


def inside(url):
    return not urlsplit(url).scheme and not url.startswith("//")


def target(site, page, url):
    """The file and the place in it that a link of a page leads to."""
    joined = urlsplit(urljoin(f"/{page.relative_to(site).as_posix()}", url))
    path = site / unquote(joined.path).lstrip("/")
    return path / "index.html" if path.is_dir() else path, unquote(joined.fragment)


def test_every_page_of_the_repository_is_built(site, pages):
    found = {path.relative_to(site).as_posix() for path in pages}
    assert {f"notebooks/{path.stem}.html" for path in NOTEBOOKS} <= found
    assert {path.relative_to(ROOT / "docs").with_suffix(".html").as_posix() for path in PAGES} <= found
    assert {"dfa_utils/weights/MODEL_CARD.html", "data/index.html", "web/index.html", "CONTRIBUTING.html"} <= found


def test_every_link_of_the_site_leads_to_a_place(site, pages):
    lost, followed = [], 0
    for page, content in pages.items():
        for url in filter(inside, content.links):
            path, place = target(site, page, url)
            followed += 1
            if not path.is_file() or (path.suffix == ".html" and place not in page_at(path).places):
                lost.append((page.relative_to(site).as_posix(), url))
    assert lost == []
    assert followed > 500


def test_no_page_loads_anything_from_outside(site, pages):
    for page, content in pages.items():
        for url in content.loads:
            assert url.startswith("data:") or (inside(url) and target(site, page, url)[0].is_file()), (page, url[:99])
    styles = [path.read_text(encoding="utf-8") for path in [*site.rglob("*.css"), *pages]]
    outside = re.compile(r"@import|url\(\s*[\"']?(?:https?:)?//|\bimport\s[^;\n]*[\"']https?://")
    assert [found for text in styles for found in outside.findall(text)] == []


def test_in_a_browser_no_page_asks_for_anything_from_outside(pages):
    asked = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=SWITCHES)
        tab = browser.new_page()
        tab.on("request", lambda request: asked.append(request.url))
        for path in pages:
            tab.goto(path.as_uri())
        browser.close()
    assert len(asked) > len(pages)
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []


def places_in(text):
    """The anchors of a Markdown file's headings, as GitHub and MkDocs make them."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {"", *(re.sub(r"[^\w\s-]", "", heading.lower()).strip().replace(" ", "-") for heading in headings)}


@pytest.mark.parametrize("path", PROSE, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_link_in_the_repository_leads_to_a_file(path):
    for url in filter(inside, re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8"))):
        name, _, place = url.partition("#")
        file = path.parent / name if name else path
        assert file.exists(), url
        assert file.suffix == ".ipynb" or not place or place in places_in(file.read_text(encoding="utf-8")), url


def public_names():
    """The dotted names of all public functions and classes of the package's modules, and of the modules."""
    for path in sorted((ROOT / "dfa_utils").rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        module = module.removesuffix(".__init__")
        if path.name != "__main__.py" and path != ROOT / "dfa_utils" / "__init__.py":
            yield module
            body = ast.parse(path.read_text(encoding="utf-8")).body
            nodes = [node for node in body if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
            yield from (f"{module}.{node.name}" for node in nodes if not node.name.startswith("_"))


def test_the_api_holds_every_public_name_with_a_text(site):
    texts = {}
    for path in (site / "api").glob("*.html"):
        for block in BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser").select(".doc-object"):
            heading, content = block.select_one(".doc-heading"), block.select_one(".doc-contents")
            texts[heading["id"]] = content.find("p", recursive=False) if "doc-attribute" not in block["class"] else True
    names = set(public_names())
    assert len(names) > 200
    assert names - set(texts) == set()
    assert [name for name, text in texts.items() if not text and not name.endswith(".forward")] == []


def test_the_plan_names_every_module_and_folder():
    plan = set(re.findall(r"`(\w+)/?`", (ROOT / "docs" / "package.md").read_text(encoding="utf-8")))
    package = ROOT / "dfa_utils"
    modules = {path.stem for path in package.glob("*.py")} - {"__init__"}
    folders = {path.parent.name for path in package.glob("*/*.py")}
    assert modules | folders <= plan


def blocks(path, language=r"\w*"):
    """The fenced blocks of a Markdown file, outside lists too."""
    return re.findall(rf"^ *```{language}\n(.*?)^ *```", path.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def shown(path):
    """What a page shows in code: lines of blocks, and pieces within sentences. Of a notebook, its prose."""
    if path.suffix == ".ipynb":
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    else:
        text = path.read_text(encoding="utf-8")
    return [line.strip() for line in text.splitlines()] + re.findall(r"`([^`\n]+)`", text)


def command_lines():
    """The arguments of every command line that begins with `dfa` or `python -m dfa_utils`, after what may go before."""
    start = re.compile(r"(?:\w+=\S+ )*(?:dfa|python -m dfa_utils|torchrun .*-m dfa_utils)\s+([a-z-].*)")
    for path in [*PROSE, *NOTEBOOKS]:
        for found in filter(None, map(start.fullmatch, shown(path))):
            yield pytest.param(shlex.split(found[1], comments=True), id=f"{path.stem}: {found[1]}")


COMMANDS = get_command(app).commands
LINES = list(command_lines())


@pytest.mark.parametrize("arguments", LINES)
def test_every_command_line_that_is_shown_can_be_said(arguments):
    name, *others = arguments
    if name in ("--help", "--install-completion", "--show-completion"):
        assert not others
    else:
        assert COMMANDS[name].make_context(name, others).params


def test_every_command_is_shown():
    assert {line.values[0][0] for line in LINES} >= set(COMMANDS)


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A folder with what the examples speak of: the toy data, recordings named by speaker, two tables."""
    (tmp_path / "data").symlink_to(ROOT / "data")
    shutil.copyfile(ROOT / "tests" / "tone.m4a", tmp_path / "my_recording.m4a")
    rng = np.random.default_rng(0)
    for label in ("real", "fake"):
        (tmp_path / "mine" / label).mkdir(parents=True)
        for speaker in range(20):
            for take in range(2):
                soundfile.write(tmp_path / "mine" / label / f"voice{speaker}-{take}.wav", hiss(rng, 0.1), RATE)
    rows = [("a.wav", 0.2, "real", "", "", "", 2.0, "x", ""), ("b.wav", *[""] * 6, "x", "b.wav: the file is empty")]
    pd.DataFrame(rows, columns=HEADINGS).to_csv(tmp_path / "scores.csv", index=False)
    clips = pd.DataFrame(
        {"path": list("abcd"), "split": "validation", "label": [0, 0, 1, 1], "system": "", "speaker": ""}
    )
    (tmp_path / "runs").mkdir()
    save_scores(tmp_path / "runs" / "clips.csv", clips.assign(score=[0.1, 0.3, 0.7, 0.9]), 0.5, "x", "y")
    monkeypatch.chdir(tmp_path)
    return tmp_path


EXAMPLES = [
    pytest.param(code, id=f"{path.stem} {i}")
    for path in PROSE
    for i, code in enumerate(blocks(path, "python"))
    if "runs/python" not in code  # test_project.py runs it
]


@pytest.mark.parametrize("code", EXAMPLES)
def test_every_example_in_python_runs(code, desk):
    exec(code, {})


def test_the_table_of_own_data_keeps_a_speaker_in_one_split(desk):
    (code,) = (code for code in blocks(ROOT / "docs" / "own-data.md", "python") if "manifest.csv" in code)
    exec(code, {})
    table = pd.read_csv(desk / "mine" / "manifest.csv")
    assert len(table) == 80
    assert (table.groupby("speaker").split.nunique() == 1).all()
    assert set(table.split) == {"training", "validation", "testing"}
    assert all((desk / "mine" / path).is_file() for path in table.path)


def plain(term):
    """A term without what stands in brackets, in small letters."""
    return re.sub(r"\s*\(.*?\)", "", term).strip().lower()


def test_the_glossary_holds_every_new_word_of_the_notebooks():
    entries = re.findall(r"^- (\*\*.+?):", (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8"), re.MULTILINE)
    groups = [[plain(term) for term in re.findall(r"\*\*(.+?)\*\*", entry)] for entry in entries]
    assert groups == sorted(groups, key=lambda terms: re.sub(r"\W", "", terms[0]))
    terms = {term for group in groups for term in group}
    for path in NOTEBOOKS:
        text = "\n".join(shown(path))
        words = re.search(r"\*\*New words\.\*\*(.*?)\*\*References", text, re.DOTALL)[1].replace("\n", " ")
        new = {plain(term) for group in re.findall(r"\*([^*]+)\*:", words) for term in group.split(",")}
        assert len(new) >= 4
        assert new - terms == set(), path.stem


def test_the_readme_is_short_and_its_table_is_that_of_the_card():
    readme, card = (path.read_text(encoding="utf-8") for path in (ROOT / "README.md", MODEL_CARD))
    assert len(readme.splitlines()) <= 120
    tables = [re.search("<!-- summary: .*?<!-- end of summary -->", text, re.DOTALL)[0] for text in (readme, card)]
    assert tables[0] == tables[1]
    assert tables[0].count("\n|") == 7


def test_the_citation_names_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == metadata.version("dfa-utils")
    assert citation["license"] == "MIT"
    assert {"cff-version", "message", "title", "authors"} <= set(citation)


@pytest.mark.parametrize(
    "path", sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")), ids=lambda path: path.stem
)
def test_every_form_asks_for_something(path):
    form = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert {"name", "description", "body"} <= set(form)
    asked = [field for field in form["body"] if field["type"] != "markdown"]
    assert len({field["id"] for field in asked}) == len(asked) >= 2
    assert all(field["attributes"]["label"] for field in asked)
    assert any(field["validations"]["required"] for field in asked)
    assert all(len(field["attributes"]["options"]) > 1 for field in asked if field["type"] == "dropdown")
