"""How answers look: in colour on a terminal, plain in a pipe, and as JSON.

rich, rich-argparse and shtab are used where they are installed. An exported detector works without them.
"""

import argparse
import json
from dataclasses import asdict
from functools import cache

import numpy as np

from dfa_utils.inference import Prediction
from dfa_utils.support import this_process

__all__ = ["HelpFormatter", "add_completion", "as_object", "on_terminal", "plain", "say", "say_json", "say_tables"]
COLOURS = {"real": "bold #0072B2", "fake": "bold #D55E00", "uncertain": "bold"}

try:
    import rich  # noqa: F401 -- rich_argparse asks for it only when it prints
    from rich_argparse import RawDescriptionRichHelpFormatter as HelpFormatter
except ModuleNotFoundError:
    from argparse import RawDescriptionHelpFormatter as HelpFormatter


def add_completion(parser: argparse.ArgumentParser) -> None:
    """Give the parser --print-completion SHELL (bash, zsh, tcsh), where shtab is installed."""
    try:
        import shtab
    except ModuleNotFoundError:
        return
    shtab.add_argument_to(parser, help="print what completes commands and options in a shell")


def say(text) -> None:
    """Print, in one of several processes; a verdict in its colour on a terminal."""
    if not this_process().is_main_process:
        return
    console = _console()
    if console and isinstance(text, Prediction):
        from rich.text import Text

        line, start = Text(str(text)), len(f"{text.path}: ")
        line.stylize(COLOURS[text.label], start, start + len(text.label))
        console.print(line, soft_wrap=True)
    else:
        print(text, flush=True)


def on_terminal() -> bool:
    """Whether somebody watches, so that tables may be drawn."""
    return _console() is not None


def say_tables(tables: dict) -> None:
    """Draw tables of text by their titles on the terminal, in one of several processes."""
    from rich.table import Table
    from rich.text import Text

    for title, frame in tables.items() if this_process().is_main_process else ():
        shown = Table(title=Text(title), title_justify="left", title_style="bold")
        shown.add_column(frame.index.name or "", overflow="fold")
        for name in frame.columns:
            shown.add_column(name, justify="right")
        for name, values in zip(frame.index, frame.to_numpy(), strict=True):
            shown.add_row(Text(str(name)), *values)
        _console().print(shown)


def say_json(content: dict) -> None:
    """Print an object as one line of JSON, in one of several processes; what is not finite becomes null."""
    if this_process().is_main_process:
        print(json.dumps(plain(content), allow_nan=False), flush=True)


def plain(value):
    """Tables, arrays and NumPy's numbers as what JSON has; NaN as None. A table becomes a list of rows."""
    if hasattr(value, "to_dict"):  # a table; imported where one is made
        table = value.reset_index()
        table.columns = ["/".join(map(str, name)).strip("/") if isinstance(name, tuple) else name for name in table]
        return plain(table.to_dict("records"))
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    return None if isinstance(value, float) and not np.isfinite(value) else value


def as_object(path: str, result, detector: str) -> dict:
    """What `predict --json` says of one file: the fields of a `Prediction` and its label, or the error."""
    if isinstance(result, Exception):
        return {"path": path, "error": str(result), "detector": detector}
    return asdict(result) | {"label": result.label, "detector": detector}


@cache
def _console():
    """rich's console on a terminal; None in a pipe or without rich."""
    try:
        from rich.console import Console
    except ModuleNotFoundError:
        return None
    console = Console()
    return console if console.is_terminal else None
