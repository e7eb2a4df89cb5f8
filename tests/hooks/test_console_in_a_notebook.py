"""The output of a run in a Jupyter notebook."""

from pathlib import Path

import nbclient
import nbformat
import pytest

TRAIN = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from tiny import TinySession, config_with
session = TinySession(config_with(num_epochs=3), "runs")
display(session)
session()
"""


WITHOUT_WIDGETS = f"import sys; sys.modules['ipywidgets'] = None\nimport torchbase.hooks\n{TRAIN}"


def outputs_of(code, folder):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(folder)}}).execute()
    return notebook.cells[0].outputs


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    return outputs_of(TRAIN, tmp_path_factory.mktemp("notebook"))


def test_lines_are_not_displayed_as_errors(outputs):
    text = "".join(output.text for output in outputs if output.output_type == "stream" and output.name == "stdout")
    assert text.startswith("3 epochs on cpu, 57 parameters in ")
    assert all(f"epoch {epoch}/3  " in text for epoch in (1, 2, 3))
    assert text.count("training: loss ") == 3
    assert not [output for output in outputs if output.output_type == "stream" and output.name == "stderr"]


def test_all_phases_share_one_bar(outputs):
    displays = [output.data for output in outputs if output.output_type == "display_data"]
    assert len([data for data in displays if "application/vnd.jupyter.widget-view+json" in data]) == 1


def test_a_session_shows_where_its_run_is(outputs):
    shown = next(output.data for output in outputs if output.output_type == "display_data")
    assert shown["text/html"].startswith("<p>&lt;TinySession: in ")


def test_the_summary_is_a_table(outputs):
    (summary,) = [output.data["text/html"] for output in outputs if output.output_type == "execute_result"]
    assert summary.count("<tr>") == 4
    for name in ("training", "validation-valid", "validation-demo", "lowest loss"):
        assert name in summary


@pytest.mark.thorough
def test_without_ipywidgets_there_is_no_warning_in_red(tmp_path):
    outputs = outputs_of(WITHOUT_WIDGETS, tmp_path)
    assert {output.name for output in outputs if output.output_type == "stream"} == {"stdout"}
