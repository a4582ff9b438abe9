"""Widgets of the notebooks. Each shows something that stays without them: on paper, in HTML, and where they are off.

DFA_WIDGETS=off leaves the widgets out, for notebooks that nobody watches while they run.
"""

import inspect
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from string import ascii_uppercase

import matplotlib.pyplot as plt
import numpy as np
import soundfile
import torch
from IPython.display import Markdown, clear_output, display

from dfa_utils.audio import AudioError
from dfa_utils.notebook.sound import player
from dfa_utils.plots import NAMES

SCRIPT = Path(__file__).with_name("ask.js")


def explore(draw: Callable, **options: Sequence) -> None:
    """Call `draw` with its own defaults, then offer a slider for each of `options`: a move calls `draw` anew.

    `options` gives the values that a parameter of `draw` may take. What `draw` returns is displayed; figures are shown.
    """
    defaults = {name: p.default for name, p in inspect.signature(draw).parameters.items()}
    _show(draw, **defaults)
    if not _are_on():
        return
    import ipywidgets

    output = ipywidgets.Output()
    look = {
        "layout": {"width": "auto", "max_width": "28em"},  # at most the page's width
        "style": {"description_width": f"{1 + max(map(len, options))}ch"},
    }
    sliders = {
        name: ipywidgets.SelectionSlider(
            options=list(values), value=defaults[name], description=name, continuous_update=False, **look
        )
        for name, values in options.items()
    }

    def _redraw(_):
        with output:
            clear_output(wait=True)
            _show(draw, **defaults | {name: slider.value for name, slider in sliders.items()})

    for slider in sliders.values():
        slider.observe(_redraw, "value")
    display(ipywidgets.VBox([*sliders.values(), output]))


def listening_test(waveforms: Sequence, labels: Sequence[int], verdicts: Sequence[str], sample_rate: int) -> None:
    """A blind test: the reader calls each waveform [T] real or fake, and is then held against `verdicts`.

    `labels` are 0 (real) or 1 (fake); `verdicts` are the detector's words for the same clips. The verdicts are not
    shown before the reader asks.
    """
    if not _are_on():
        return
    import ipywidgets

    output, button = ipywidgets.Output(), ipywidgets.Button(description="Compare")
    rows, choices = [], []
    for letter, waveform in zip(ascii_uppercase, waveforms, strict=False):
        sound = player(torch.as_tensor(waveform), sample_rate).data
        heard = ipywidgets.Audio(value=sound, format="wav", autoplay=False, loop=False, layout={"width": "17em"})
        choices.append(ipywidgets.ToggleButtons(options=["?", *NAMES], style={"button_width": "4em"}))
        parts = [ipywidgets.Label(letter), heard, choices[-1]]
        rows.append(ipywidgets.HBox(parts, layout={"flex_flow": "row wrap", "align_items": "center"}))

    def _compare(_):
        with output:
            clear_output(wait=True)
            display(Markdown(result_of_test([choice.value for choice in choices], labels, verdicts)))

    button.on_click(_compare)
    display(ipywidgets.VBox([*rows, button, output]))


def result_of_test(answers: Sequence[str], labels: Sequence[int], verdicts: Sequence[str]) -> str:
    """What a blind test showed, as Markdown: how many the reader and the detector called rightly, and each clip."""
    truth = [NAMES[label] for label in labels]
    lines = [
        f"| {letter} | {' | '.join(row)} |"
        for letter, row in zip(ascii_uppercase, zip(truth, answers, verdicts, strict=True), strict=False)
    ]
    right = [sum(a == b for a, b in zip(words, truth, strict=True)) for words in (answers, verdicts)]
    head = f"You: **{right[0]} of {len(truth)}** right. The detector: **{right[1]} of {len(truth)}**."
    return "\n".join([head, "", "| clip | truth | you | detector |", "|---|---|---|---|", *lines])


def ask(predict: Callable) -> None:
    """Let the reader choose a file or record five seconds, in Jupyter and in Colab; `predict(path)` is shown.

    The recording stays on the machine on which this notebook's Python runs. Large files (above 8 MB) are refused: give
    their path to `predict` instead.
    """
    if not _are_on():
        return
    import anywidget
    import ipywidgets

    output, folder = ipywidgets.Output(), Path(tempfile.mkdtemp())

    def _receive(_, content, buffers):
        with output:
            clear_output(wait=True)
            display(_judge(predict, _keep(folder, content, buffers[0])))
        asker.send({"kind": "judged"})

    asker = anywidget.AnyWidget(_esm=SCRIPT.read_text(encoding="utf-8"))
    asker.on_msg(_receive)
    display(ipywidgets.VBox([asker, output]))


def _keep(folder: Path, content: dict, data: bytes) -> Path:
    """What came from the browser as a file: a chosen file as it is, or float samples at `rate` Hz as a wav."""
    path = folder / Path(content["name"]).name
    if "rate" in content:
        soundfile.write(path, np.frombuffer(data, "<f4"), int(content["rate"]))
    else:
        path.write_bytes(data)
    return path


def _judge(predict: Callable, path: Path):
    """What a notebook shows of the answer: as it shows itself, or as text; or why there is none."""
    try:
        answer = predict(path)
    except AudioError as error:
        return Markdown(f"This file cannot be judged. {error}".replace(str(path), path.name))
    return answer if hasattr(answer, "_repr_html_") else Markdown(f"**{answer}**".replace(str(path), path.name))


def _are_on() -> bool:
    return os.environ.get("DFA_WIDGETS", "").lower() != "off"


def _show(draw: Callable, **values) -> None:
    result = draw(**values)
    plt.show()
    if result is not None:
        display(result)
