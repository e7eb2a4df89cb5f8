"""What the page about notebooks says, in a kernel of Jupyter."""

import re
from pathlib import Path

import nbclient
import nbformat
import pytest
from jupyter_client.manager import start_new_kernel

pytestmark = pytest.mark.thorough

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "notebooks.md"

SLOW_SESSION = """
import time
from torchbase.testing import TinySession, tiny_config

class Slow(TinySession):
    def forward_pass(self, mini_batch):
        time.sleep(0.02)
        return super().forward_pass(mini_batch)

session = Slow(tiny_config(num_epochs=1000), "slow")
session()
"""
CONTINUE = """
from torchbase.testing import StopAt
session.register(StopAt(ITERATIONS + 3))
summary = session()
print(summary.iterations - ITERATIONS)
"""


def test_the_cells_of_the_page_run_in_a_kernel(tmp_path):
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(block) for block in blocks])
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.outputs]
    tables = [output.data["text/html"] for output in outputs if "text/html" in output.get("data", {})]
    assert tables[0].startswith("<p>&lt;Session: in ")  # a session
    assert "all 2 epochs are done" in tables[1]  # a summary
    assert "&lt;Run: 2 of 2 epochs" in tables[2]  # a run, updated
    assert not [output for output in outputs if output.output_type == "error"]


class Kernel:
    """A kernel, in which cells run one after the other."""

    def __init__(self, folder):
        self.manager, self.client = start_new_kernel(kernel_name="python3", cwd=str(folder))

    def run(self, code, interrupt_after=None):
        """Runs a cell, interrupts it after a text, and returns its text and the name and message of its error."""
        parent, text, error = self.client.execute(code), "", None
        while True:
            message = self.client.get_iopub_msg(timeout=600)
            if message["parent_header"].get("msg_id") != parent:
                continue
            content = message["content"]
            text += content.get("text", "")
            if interrupt_after is not None and interrupt_after in text:
                self.manager.interrupt_kernel()
                interrupt_after = None
            if message["msg_type"] == "error":
                error = (content["ename"], content["evalue"])
            if content.get("execution_state") == "idle":
                return text, error

    def close(self):
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


@pytest.fixture
def kernel(tmp_path):
    kernel = Kernel(tmp_path)
    yield kernel
    kernel.close()


def test_an_interrupted_cell_saves_the_run_which_goes_on_in_the_next_cell(kernel):
    text, (name, message) = kernel.run(SLOW_SESSION, interrupt_after="epoch 2/1000")
    assert "SIGINT: the run ends after this iteration" in text
    assert name == "KeyboardInterrupt"
    assert "To continue: Slow.resume(" in message
    text, _ = kernel.run("print(repr(session))")
    iterations = int(re.search(r"([\d,]+) iterations done", text)[1].replace(",", ""))
    text, error = kernel.run(CONTINUE.replace("ITERATIONS", str(iterations)))
    assert error is None
    assert "Resumed from checkpoint" in text
    assert text.rstrip().endswith("3")
