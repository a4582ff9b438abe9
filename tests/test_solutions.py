"""Each exercise has a solution, and the solution runs after the cells of its notebook."""

import nbformat
import pytest
from nbclient import NotebookClient
from test_notebooks import NAMES, PATHS, cells, solutions


@pytest.mark.parametrize("path", PATHS, ids=NAMES)
def test_the_solutions_of_the_exercises_run(path, few_clips, monkeypatch):
    monkeypatch.setenv("DFA_DATA", str(few_clips))
    code = [*(cell["text"] for cell in cells(path, "code")), *solutions(path)]
    whole = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in code])
    NotebookClient(whole, timeout=600, resources={"metadata": {"path": path.parent}}).execute()
