"""The notebooks run, from the first cell to the last, in strict mode too."""

from pathlib import Path

import nbclient
import nbformat
import pytest

from parity import STRICT_FLAG

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.ipynb")), ids=lambda path: path.stem)
def test_runs(path, monkeypatch):
    notebook = nbformat.read(path, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in cells), "strip the outputs before committing"
    monkeypatch.setenv("PYTHONPATH", str(EXAMPLES.parent))
    monkeypatch.setenv("XLA_FLAGS", STRICT_FLAG)  # it runs longer than it compiles: see conftest.py
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(EXAMPLES)}}).execute()
    shown = [output for cell in cells for output in cell.outputs]
    assert not any(output.output_type == "error" for output in shown)
    if path.stem == "quickstart":
        pictures = [output for output in shown if "image/gif" in output.get("data", {}).get("text/html", "")]
        assert len(pictures) == 2
