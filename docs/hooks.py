"""What MkDocs builds besides docs/: the notebooks, the model card, and what describes data, research and the page.

The site has the folders of the repository, but docs/ is its root: docs/judge.md becomes judge.html, and notebooks/
stays notebooks/. So a link that works on GitHub needs one change at most, and no file is copied.
"""

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
BADGE = re.compile(r"<img[^>]*colab-badge[^>]*>")
TAG = re.compile(r"<[^>]+>")
HEADING = re.compile(r'<h2 id="([^"]+)">(.*?)<a class="anchor-link"')
OUTSIDE = re.compile(r"<script[^>]*\ssrc=\"https?:.*?</script>|<script type=\"module\">.*?</script>", re.DOTALL)


def on_config(config):
    """Name the notebooks in the navigation, the one-page notebook first."""
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
    """Make links from docs/ and into it fit the site."""
    depth = page.file.src_uri.count("/")
    if page.file.src_dir == config.docs_dir:
        return markdown.replace("](" + "../" * (depth + 1), "](" + "../" * depth)
    return re.sub(r"\]\(((?:\.\./)*)docs/", r"](\1", markdown)


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


def _short_title(notebook: str | Path) -> str:
    """'01 · Explore' of '01 · Explore: what is in the data ...'."""
    path = ROOT / "notebooks" / f"{Path(notebook).stem}.ipynb"
    first = "".join(json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"]).splitlines()[0]
    title = first.removeprefix("# ").split(":")[0].split(", ")[-1]
    return title[0].upper() + title[1:]
