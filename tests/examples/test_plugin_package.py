"""The example plugin: built, installed together with torchbase, named in a config, and tested by its own tests."""

import json
import os
import shutil
import site
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "examples" / "plugin_package"

SESSION = """
import json, sys
from pathlib import Path

import torchbase
from torchbase.testing import TinySession, read_scalars, tiny_config

without = TinySession(tiny_config(num_epochs=1), sys.argv[1])
without()
was_imported = "torchbase_weight_norms" in sys.modules
session = TinySession(tiny_config(num_epochs=1, plugins=["weight_norms"]), sys.argv[1])
session()
print(json.dumps({
    "torchbase": torchbase.__file__,
    "imported without being named": was_imported,
    "imported from": sys.modules["torchbase_weight_norms"].__file__,
    "hooks without it": list(without.hooks),
    "hooks": list(session.hooks),
    "curves": sorted(read_scalars(session.run_dir)),
    "environment": json.loads(Path(session.run_dir, "environment.json").read_text()),
}))
"""


def call(*command, **options):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a copy of the package, and with an environment in which the package and torchbase are installed."""
    folder = tmp_path_factory.mktemp("plugin")
    shutil.copytree(PACKAGE, folder / "package", ignore=shutil.ignore_patterns("__pycache__", ".*"))
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    # Neither package may use the network: hatchling and the dependencies of torchbase are installed already.
    offline = ("--no-deps", "--no-index")
    wheels = folder / "wheels"
    call(*pip, "wheel", *offline, "--no-build-isolation", "--wheel-dir", wheels, ROOT, folder / "package")
    environment = folder / "environment"
    venv.create(environment, symlinks=os.name != "nt")
    # The dependencies come from the environment of this test. system_site_packages would not do: in a virtual
    # environment, it adds the packages of the base interpreter. An editable torchbase is not used, since its .pth file
    # isn't read from here.
    packages = sysconfig.get_path("purelib", "venv", {"base": str(environment), "platbase": str(environment)})
    Path(packages, "dependencies.pth").write_text("\n".join(site.getsitepackages()))
    call(*pip, "--python", environment, "install", *offline, "--ignore-installed", *sorted(wheels.glob("*.whl")))
    return folder


def python_of(folder):
    return folder / "environment" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def test_the_plugin_is_used_if_it_is_named_and_not_imported_otherwise(folder):
    printed = json.loads(call(python_of(folder), "-c", SESSION, folder / "runs", cwd=folder))
    assert printed["torchbase"].startswith(str(folder / "environment"))
    assert printed["imported from"].startswith(str(folder / "environment"))
    assert not printed["imported without being named"]
    assert "weight_norms" not in printed["hooks without it"]
    assert printed["hooks"][-1] == "weight_norms"
    assert {"training/weight_norm/iterations", "training/weight_norm_mean/epochs"} < set(printed["curves"])
    if "plugins" in printed["environment"]:
        plugins = json.dumps(printed["environment"]["plugins"])
        assert all(text in plugins for text in ("weight_norms", "torchbase-weight-norms", "0.1.0"))


def test_the_plugin_passes_its_own_tests(folder):
    printed = call(python_of(folder), "-m", "pytest", "-rP", "-p", "no:cacheprovider", cwd=folder / "package")
    assert "3 passed" in printed
    assert "The hook 'weight_norms' in NoisySession: 6 checks passed" in printed
    assert "a run was killed in training iteration 9 and ended like the uninterrupted run\n" in printed
