"""The notebooks run, from the first cell to the last, in strict mode too."""

from pathlib import Path

import nbclient
import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager

from parity import STRICT_FLAG

EXAMPLES = Path(__file__).parent.parent / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))


def code_cells(path):
    notebook = nbformat.read(path, as_version=4)
    return notebook, [cell for cell in notebook.cells if cell.cell_type == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_is_ready_to_commit(path):
    _, cells = code_cells(path)
    assert not any(cell.outputs or cell.execution_count for cell in cells), "strip the outputs before committing"
    assert "%pip install" in cells[0].source, "the first cell installs what Colab lacks"
    for cell in cells:
        compile(TransformerManager().transform_cell(cell.source), path.name, "exec")


def marked(path):
    return pytest.param(path, id=path.stem, marks=[] if path.stem == "quickstart" else pytest.mark.full)


@pytest.mark.parametrize("path", [marked(path) for path in NOTEBOOKS])
def test_runs(path, monkeypatch):
    if path.stem == "gymnax_environment":
        pytest.importorskip("gymnax")
    notebook, cells = code_cells(path)
    monkeypatch.setenv("PYTHONPATH", str(EXAMPLES.parent))
    monkeypatch.setenv("XLA_FLAGS", STRICT_FLAG)  # it runs longer than it compiles: see conftest.py
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(EXAMPLES)}}).execute()
    shown = [output for cell in cells for output in cell.outputs]
    assert not any(output.output_type == "error" for output in shown)
    if path.stem == "quickstart":
        pictures = [output for output in shown if "<iframe srcdoc=" in output.get("data", {}).get("text/html", "")]
        assert len(pictures) == 2
