"""The pieces that all displays are made of: a box with the theme, a page, paragraphs, tables, drawings."""

from collections.abc import Iterable
from functools import cache
from html import escape
from pathlib import Path

STYLE = Path(__file__).with_name("theme.css")


@cache
def theme() -> str:
    """The style sheet, as an element of HTML."""
    return f"<style>{STYLE.read_text(encoding='utf-8')}</style>"


def block(*parts: str) -> str:
    """Pieces of HTML in one box with the theme."""
    return f'{theme()}<div class="dfa">{"".join(parts)}</div>'


def page(title: str, *parts: str) -> str:
    """A page of its own, which needs no other file."""
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">{theme()}'
    return (
        f'<!doctype html>\n<html lang="en"><head>{head}<title>{escape(title)}</title>'
        "<style>body{margin:0;background:Canvas;color-scheme:light dark}</style></head>"
        f'<body><main class="dfa"><h1>{escape(title)}</h1>{"".join(parts)}</main></body></html>\n'
    )


def paragraph(text: str, style: str = "") -> str:
    """One paragraph of plain text, in a class of the theme if one is named."""
    return f"<p{f' class={style}' if style else ''}>{escape(text)}</p>"


def heading(text: str) -> str:
    """A heading within a box or a page."""
    return f"<h3>{escape(text)}</h3>"


def table(head: Iterable, rows: Iterable[Iterable]) -> str:
    """A table of plain text; the first column names the rows."""
    titles = "".join(f'<th scope="col">{escape(str(cell))}</th>' for cell in head)
    body = "".join(f"<tr>{''.join(f'<td>{escape(str(cell))}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table></div>'


def column(frame) -> str:
    """A DataFrame of text, with the names of its rows, as a table."""
    rows = ([name, *values] for name, values in zip(frame.index, frame.to_numpy(), strict=True))
    return table(["", *frame.columns], rows)


def section(title: str, *parts: str) -> str:
    """Pieces of a page under one heading."""
    return f"<section><h2>{escape(title)}</h2>{''.join(parts)}</section>"


def quotation(words: str) -> str:
    """A paragraph that is there to be copied."""
    return f"<blockquote>{paragraph(words)}</blockquote>"


def numbered(lines: Iterable[str]) -> str:
    """A numbered list of plain text."""
    return f"<ol>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ol>"


def drawing(width: int, height: int, title: str, *shapes: str) -> str:
    """An SVG picture; `title` says in words what it shows, for those who cannot see it."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">'
        f"<title>{escape(title)}</title>{''.join(shapes)}</svg>"
    )


def text(x: float, y: float, words: str, anchor: str = "middle") -> str:
    """A line of text in a drawing; `anchor` is start, middle or end."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'
