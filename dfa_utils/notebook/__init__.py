"""What the notebooks need around the lesson: data, players, detectors to work with, widgets."""

from dfa_utils.notebook.data import banner, class_names, data_root, is_toy
from dfa_utils.notebook.detectors import introduce, run_on
from dfa_utils.notebook.sound import human_sentence, player
from dfa_utils.notebook.widgets import ask, explore, listening_test

__all__ = [
    "ask",
    "banner",
    "class_names",
    "data_root",
    "explore",
    "human_sentence",
    "introduce",
    "is_toy",
    "listening_test",
    "player",
    "run_on",
]
