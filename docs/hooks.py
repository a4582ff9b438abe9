"""What MkDocs builds besides docs/: the notebooks, the model card and the figures of the gallery.

The site has the folders of the repository, but docs/ is its root: docs/judge.md becomes judge.html, and notebooks/
stays notebooks/. So a link that works on GitHub needs one change at most, and no file is copied.
"""

import base64
import json
import re
from pathlib import Path

from mkdocs.exceptions import PluginError
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File
from mkdocs.structure.toc import get_toc

ROOT = Path(__file__).parents[1]
ADDED = ("notebooks/*.ipynb", "data/*.md", "data/*.png", "dfa_utils/weights/*.md", "C*.md")
ADDED += ("research/*.md", "research/results/*.png", "web/*.md")
FIGURE = re.compile(r"<!-- figure (\w+): (.+?) -->\n(.+(?:\n.+)*)")
BADGE = re.compile(r"<img[^>]*colab-badge[^>]*>")
TAG = re.compile(r"<[^>]+>")
HEADING = re.compile(r'<h2 id="([^"]+)">(.*?)<a class="anchor-link"')
OUTSIDE = re.compile(r"<script[^>]*\ssrc=\"https?:.*?</script>|<script type=\"module\">.*?</script>", re.DOTALL)


def on_config(config):
    """Name the notebooks in the navigation, the whole game first."""
    paths = sorted((ROOT / "notebooks").glob("*.ipynb"), key=lambda path: (path.name[0].isdigit(), path.name))
    entry = next(entry for entry in config.nav if "Notebooks" in entry)
    entry["Notebooks"] = [{_short_title(path): f"notebooks/{path.name}"} for path in paths]


@event_priority(100)  # before mkdocs-jupyter looks for notebooks
def on_files(files, config):
    """Add what lies outside docs/."""
    for path in (path for pattern in ADDED for path in sorted(ROOT.glob(pattern))):
        name = path.relative_to(ROOT).as_posix()
        files.append(File(name, str(ROOT), config.site_dir, config.use_directory_urls))


def on_page_markdown(markdown, page, config, files):
    """Make links from docs/ and into it fit the site, and insert the figures of the gallery."""
    depth = page.file.src_uri.count("/")
    if page.file.src_dir == config.docs_dir:
        markdown = markdown.replace("](" + "../" * (depth + 1), "](" + "../" * depth)
    else:
        markdown = re.sub(r"\]\(((?:\.\./)*)docs/", r"](\1", markdown)
    taken = {}
    return FIGURE.sub(lambda found: _figure(*found.groups(), taken, config, files), markdown)


def on_page_content(html, page, config, files):
    """Notebooks: no script and no badge from outside, links to pages of the site, and headings with their code."""
    if not page.file.src_uri.endswith(".ipynb"):
        return html
    headings = [(place, TAG.sub("", words)) for place, words in HEADING.findall(html)]
    page.toc = get_toc([{"level": 2, "id": place, "name": words, "children": []} for place, words in headings])
    html = BADGE.sub("Open in Colab", OUTSIDE.sub("", html))
    return re.sub(r'href="(?![a-z]+:|#)([^"#]+)', lambda found: f'href="{_link(found[1], page.file, files)}', html)


def _link(target: str, source: File, files) -> str:
    """The address of a page that a notebook names by its path in the repository."""
    name = (ROOT / source.src_uri).parent.joinpath(target).resolve().relative_to(ROOT).as_posix()
    file = files.get_file_from_path(name.removeprefix("docs/"))
    if file is None:
        raise PluginError(f"{source.src_uri}: links to {name}, which is not part of the site")
    return file.url_relative_to(source)


def _figure(notebook: str, heading: str, caption: str, taken: dict, config, files) -> str:
    """The next figure below a heading of a notebook, with its caption and a link to where it stands."""
    cells = json.loads((ROOT / "notebooks" / f"{notebook}.ipynb").read_text(encoding="utf-8"))["cells"]
    pictures = list(_pictures(cells, heading))
    number = taken[notebook, heading] = taken.get((notebook, heading), -1) + 1
    if number >= len(pictures):
        raise PluginError(f"gallery.md: {notebook} has {len(pictures)} figures below {heading!r}")
    slug = re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading.encode("ascii", "ignore").decode())).strip().lower()
    name, place = f"gallery/{notebook}-{slug}-{number + 1}.png", f"notebooks/{notebook}.ipynb#{slug}"
    files.append(File.generated(config, name, content=base64.b64decode(pictures[number])))
    words = re.sub(r"[*`]|\s*\n\s*", lambda found: " " if "\n" in found[0] else "", caption)
    return f"[![{words}]({name})]({place})\n\n{caption} [{_short_title(notebook)}]({place})\n{{ .caption }}\n"


def _pictures(cells: list[dict], heading: str):
    """PNG pictures, as base64, that cells below a heading show."""
    here = ""
    for cell in cells:
        if cell["cell_type"] == "markdown":
            here = (re.findall(r"^#+ (.+)$", "".join(cell["source"]), re.MULTILINE) or [here])[-1]
        shown = [output.get("data", {}).get("image/png") for output in cell.get("outputs", [])]
        yield from (picture for picture in shown if picture and here == heading)


def _short_title(notebook: str | Path) -> str:
    """'01 · Explore' of '01 · Explore: what is in the data ...'."""
    path = ROOT / "notebooks" / f"{Path(notebook).stem}.ipynb"
    first = "".join(json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"]).splitlines()[0]
    title = first.removeprefix("# ").split(":")[0].split(", ")[-1]
    return title[0].upper() + title[1:]
