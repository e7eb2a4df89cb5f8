"""Checks in Chromium what TensorBoard shows of runs: ``nox -s browser``.

With ``--screenshots FOLDER`` it saves the screenshots of the documentation.
"""

import copy
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.browser

EXAMPLE = Path(__file__).parents[2] / "examples" / "digits.py"
LEARNING_RATES = (0.002, 0.02)
SECONDS_TO_WAIT = 60
# TensorBoard's pages consist of elements with shadow roots, whose texts aren't in the text of the page.
ALL_TEXTS = """
const texts = [];
const walk = (node) => {
  if (node.shadowRoot) walk(node.shadowRoot);
  for (const child of node.childNodes) {
    if (child.nodeType === 3) texts.push(child.textContent.trim());
    else if (child.nodeType === 1 && !["STYLE", "SCRIPT", "NOSCRIPT"].includes(child.nodeName)) walk(child);
  }
};
walk(document.body);
return texts.filter((text) => text);
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs of the digits example, with different learning rates."""
    specification = importlib.util.spec_from_file_location("digits_example", EXAMPLE)
    example = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(example)
    folder = tmp_path_factory.mktemp("browser") / "runs"
    for learning_rate in LEARNING_RATES:
        config = copy.deepcopy(example.CONFIG)
        config["session"].update(num_epochs=4, learning_rate=learning_rate, seed=1)
        summary = example.DigitsSession(config, folder)()
        Path(summary.run_dir).rename(folder / f"rate-{learning_rate}")  # a fixed name in the screenshots
    return folder


@pytest.fixture(scope="module")
def address(runs):
    """The address of TensorBoard's server."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", runs.name, "--port", str(port)]
    server = subprocess.Popen([*command, "--host", "127.0.0.1"], cwd=runs.parent, stderr=subprocess.PIPE, text=True)
    try:
        for line in server.stderr:
            if "Press CTRL+C to quit" in line:
                break
        yield f"http://127.0.0.1:{port}"
    finally:
        server.kill()
        server.communicate()


@pytest.fixture(scope="module")
def browser():
    """Chromium without a window."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    options.add_argument("--headless=new")
    options.add_argument("--window-size=1400,1000")
    options.add_argument("--disable-dev-shm-usage")
    if os.geteuid() == 0:  # Chromium's sandbox doesn't allow root
        options.add_argument("--no-sandbox")
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    yield driver
    driver.quit()


@pytest.fixture
def show(browser, address, request):
    """A function that opens a page of TensorBoard, waits for the expected texts, and saves a screenshot."""
    folder = request.config.getoption("--screenshots")

    def show(page, screenshot, *expected):
        browser.get("about:blank")
        browser.get(f"{address}/#{page}")
        deadline, texts = time.monotonic() + SECONDS_TO_WAIT, []
        while time.monotonic() < deadline:
            texts = browser.execute_script(ALL_TEXTS)
            if all(any(part in text for text in texts) for part in expected):
                break
            time.sleep(0.2)
        missing = [part for part in expected if not any(part in text for text in texts)]
        assert missing == [], f"{page} shows {texts}"
        if folder is not None:
            time.sleep(2)  # until the animation of the curves ends
            browser.save_screenshot(str(Path(folder) / screenshot))
        return texts

    return show


def test_the_curves_of_training_and_of_each_validation_set_are_shown(show):
    sets = ("training", "validation-valid", "validation-noisy", "validation-test")
    show("scalars", "tensorboard-scalars.png", "training/loss/epochs", "training/loss/iterations", *sets)


def test_the_time_series_show_both_runs(show):
    rates = [f"rate-{rate}" for rate in LEARNING_RATES]
    texts = show("timeseries", "tensorboard-time-series.png", *rates, "training/loss")
    assert "4" in texts  # the step of the last epoch


def test_the_table_of_hyper_parameters_has_one_row_per_run(show):
    tags = ("session.learning_rate", "network.channels", "validation-valid/best_loss/epochs")
    texts = show("hparams", "tensorboard-hparams.png", *tags, "Number of matching session groups: 2")
    assert sum("SmallConvolutionalNetwork" in text for text in texts) >= len(LEARNING_RATES)


def test_the_custom_scalars_show_training_and_validation_together(show):
    show("custom_scalars", "tensorboard-custom-scalars.png", "training and validation", "loss", "accuracy")
