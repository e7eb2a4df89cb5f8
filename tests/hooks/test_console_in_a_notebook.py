"""What a run shows in a notebook, in a kernel of Jupyter."""

from pathlib import Path

import nbclient
import nbformat
import pytest

TRAIN = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from tiny import TinySession, config_with
TinySession(config_with(num_epochs=3), "runs")()
"""


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(TRAIN)])
    folder = tmp_path_factory.mktemp("notebook")
    nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(folder)}}).execute()
    return notebook.cells[0].outputs


def test_lines_are_not_painted_as_errors(outputs):
    said = "".join(one.text for one in outputs if one.output_type == "stream" and one.name == "stdout")
    assert said.startswith("3 epochs on cpu, 57 parameters in ")
    assert all(f"epoch {epoch}/3  training: loss " in said for epoch in (1, 2, 3))
    assert not [one for one in outputs if one.output_type == "stream" and one.name == "stderr"]


def test_one_bar_serves_all_phases(outputs):
    shown = [one.data for one in outputs if one.output_type == "display_data"]
    assert len(shown) == 1
    assert "application/vnd.jupyter.widget-view+json" in shown[0]


def test_the_summary_is_a_table(outputs):
    (summary,) = [one.data["text/html"] for one in outputs if one.output_type == "execute_result"]
    assert summary.count("<tr>") == 4
    for name in ("training", "validation-valid", "validation-demo", "lowest loss"):
        assert name in summary
