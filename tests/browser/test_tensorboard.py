"""What TensorBoard shows of runs, looked at in Chromium: ``nox -s browser``.

With ``--screenshots FOLDER`` it keeps pictures of what it saw, as the documentation has them.
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
# TensorBoard's pages are made of elements with roots of their own, of which the text of the page has nothing.
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
    """Two runs of the digits that differ in their learning rate."""
    specification = importlib.util.spec_from_file_location("digits_example", EXAMPLE)
    example = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(example)
    folder = tmp_path_factory.mktemp("browser") / "runs"
    for learning_rate in LEARNING_RATES:
        config = copy.deepcopy(example.CONFIG)
        config["session"].update(num_epochs=4, learning_rate=learning_rate, seed=1)
        summary = example.DigitsSession(config, folder)()
        Path(summary.run_dir).rename(folder / f"rate-{learning_rate}")  # a name that is the same in each picture
    return folder


@pytest.fixture(scope="module")
def address(runs):
    """Where TensorBoard answers."""
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
    if os.geteuid() == 0:  # Chromium refuses its sandbox to root
        options.add_argument("--no-sandbox")
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    yield driver
    driver.quit()


@pytest.fixture
def look(browser, address, request):
    """Opens a page of TensorBoard, waits until it shows what is expected, and keeps a picture."""
    folder = request.config.getoption("--screenshots")

    def look(page, picture, *expected):
        browser.get("about:blank")
        browser.get(f"{address}/#{page}")
        until, texts = time.monotonic() + SECONDS_TO_WAIT, []
        while time.monotonic() < until:
            texts = browser.execute_script(ALL_TEXTS)
            if all(any(one in text for text in texts) for one in expected):
                break
            time.sleep(0.2)
        missing = [one for one in expected if not any(one in text for text in texts)]
        assert missing == [], f"{page} shows {texts}"
        if folder is not None:
            time.sleep(2)  # until the curves have come to rest
            browser.save_screenshot(str(Path(folder) / picture))
        return texts

    return look


def test_the_curves_of_training_and_of_each_validation_set_are_there(look):
    sets = ("training", "validation-valid", "validation-noisy", "validation-test")
    look("scalars", "tensorboard-scalars.png", "training/loss/epochs", "training/loss/iterations", *sets)


def test_the_time_series_show_both_runs(look):
    rates = [f"rate-{rate}" for rate in LEARNING_RATES]
    texts = look("timeseries", "tensorboard-time-series.png", *rates, "training/loss")
    assert "4" in texts  # the last epoch's step


def test_the_table_of_hyper_parameters_has_one_row_a_run(look):
    tags = ("session.learning_rate", "network.channels", "validation-valid/best_loss/epochs")
    texts = look("hparams", "tensorboard-hparams.png", *tags, "Number of matching session groups: 2")
    assert sum("SmallConvolutionalNetwork" in text for text in texts) >= len(LEARNING_RATES)


def test_the_custom_scalars_show_training_beside_validation(look):
    look("custom_scalars", "tensorboard-custom-scalars.png", "training and validation", "loss", "accuracy")
