"""The course of a training."""

from collections.abc import Sequence
from pathlib import Path

from dfa_utils.display.theme import block, drawing, paragraph, table, text
from dfa_utils.display.verdict import COLUMNS, LEFT, RIGHT, WIDTH

LINES = {"train_loss": ("training", "4 3"), "loss": ("validation", "")}  # column: (name, dashes)


def run_html(folder: Path, epochs: Sequence[dict], best: int) -> str:
    """A training run as HTML: which epoch is kept, the loss of each, and the last rows of its history."""
    if not epochs:
        return block(paragraph(f"{folder.name}: no epoch is finished yet"))
    kept = epochs[best]
    words = f"{folder.name}: epoch {kept['epoch']} of {len(epochs)} is kept, validation loss {kept['loss']:.3f}, "
    head = ["epoch", "training loss", "validation loss", "accuracy", "EER"]
    rows = [
        [e["epoch"], f"{e['train_loss']:.3f}", f"{e['loss']:.3f}", f"{e['accuracy']:.1%}", f"{e['eer']:.1%}"]
        for e in sorted({e["epoch"]: e for e in [kept, *epochs[-3:]]}.values(), key=lambda e: e["epoch"])
    ]
    return block(paragraph(f"{words}EER {kept['eer']:.1%}."), loss_curves(epochs, best), table(head, rows))


def loss_curves(epochs: Sequence[dict], best: int, height: int = 190) -> str:
    """Cross-entropy on training and validation over the epochs (SVG); the epoch that is kept is marked."""
    bottom, most = height - 34, max(max(e[column] for column in LINES) for e in epochs) or 1.0

    def place(i: int, value: float) -> tuple[float, float]:
        """Where a loss of epoch i lies in the drawing."""
        return LEFT + COLUMNS * i / max(len(epochs) - 1, 1), bottom - value / most * (bottom - 22)

    shapes = [f'<path class="axis" fill="none" d="M{LEFT} 22V{bottom}H{WIDTH - RIGHT}"/>']
    for k, (column, (name, dashes)) in enumerate(LINES.items()):
        points = " ".join("{:.1f},{:.1f}".format(*place(i, e[column])) for i, e in enumerate(epochs))
        x = LEFT + 120 * k
        shapes += [
            f'<polyline class="mark" fill="none" stroke-width="2" stroke-dasharray="{dashes}" points="{points}"/>',
            f'<line class="mark" x1="{x}" x2="{x + 28}" y1="9" y2="9" stroke-width="2" stroke-dasharray="{dashes}"/>',
            text(x + 34, 13, name, "start"),
        ]
    x, y = place(best, epochs[best]["loss"])
    shapes += [
        f'<circle class="fill" cx="{x:.1f}" cy="{y:.1f}" r="5"/>',
        text(min(max(x, 60), WIDTH - 60), max(y - 9, 32), "kept"),
        *(text(LEFT - 6, place(0, value)[1] + 4, f"{value:.2g}", "end") for value in (0, most)),
        *(text(place(i, 0)[0], bottom + 15, f"{epochs[i]['epoch']}") for i in sorted({0, len(epochs) - 1})),
        text(LEFT + COLUMNS / 2, height - 4, "epoch; upwards: cross-entropy"),
    ]
    title = f"loss of {len(epochs)} epochs; on validation it is lowest in epoch {epochs[best]['epoch']}"
    return drawing(WIDTH, height, title, *shapes)
