"""The example of a plugin: built, installed beside a built torchbase, named in a config, tested by its own tests."""

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

unnamed = TinySession(tiny_config(num_epochs=1), sys.argv[1])
unnamed()
was_imported = "torchbase_weight_norms" in sys.modules
named = TinySession(tiny_config(num_epochs=1, plugins=["weight_norms"]), sys.argv[1])
named()
print(json.dumps({
    "torchbase": torchbase.__file__,
    "imported without being named": was_imported,
    "imported from": sys.modules["torchbase_weight_norms"].__file__,
    "hooks without it": list(unnamed.hooks),
    "hooks": list(named.hooks),
    "curves": sorted(read_scalars(named.run_dir)),
    "environment": json.loads(Path(named.run_dir, "environment.json").read_text()),
}))
"""


def call(*command, **options):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a copy of the package, and with an environment in which it and torchbase are installed."""
    folder = tmp_path_factory.mktemp("plugin")
    shutil.copytree(PACKAGE, folder / "package", ignore=shutil.ignore_patterns("__pycache__", ".*"))
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    # Neither of the two may reach for the network: hatchling is there already, and so is what torchbase needs.
    offline = ("--no-deps", "--no-index")
    wheels = folder / "wheels"
    call(*pip, "wheel", *offline, "--no-build-isolation", "--wheel-dir", wheels, ROOT, folder / "package")
    environment = folder / "environment"
    venv.create(environment, symlinks=os.name != "nt")
    # The dependencies come from where this test runs. Not by system_site_packages: where that is itself a virtual
    # environment, the packages would be those of the interpreter below it. And not the torchbase that is installed for
    # editing: its own .pth file isn't read from here.
    packages = sysconfig.get_path("purelib", "venv", {"base": str(environment), "platbase": str(environment)})
    Path(packages, "dependencies.pth").write_text("\n".join(site.getsitepackages()))
    call(*pip, "--python", environment, "install", *offline, "--ignore-installed", *sorted(wheels.glob("*.whl")))
    return folder


def python_of(folder):
    return folder / "environment" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def test_the_plugin_runs_where_it_is_named_and_is_not_imported_where_it_is_not(folder):
    said = json.loads(call(python_of(folder), "-c", SESSION, folder / "runs", cwd=folder))
    assert said["torchbase"].startswith(str(folder / "environment"))
    assert said["imported from"].startswith(str(folder / "environment"))
    assert not said["imported without being named"]
    assert "weight_norms" not in said["hooks without it"]
    assert said["hooks"][-1] == "weight_norms"
    assert {"training/weight_norm/iterations", "training/weight_norm_mean/epochs"} < set(said["curves"])
    if "plugins" in said["environment"]:
        kept = json.dumps(said["environment"]["plugins"])
        assert all(text in kept for text in ("weight_norms", "torchbase-weight-norms", "0.1.0"))


def test_the_plugin_passes_its_own_tests(folder):
    said = call(python_of(folder), "-m", "pytest", "-rP", "-p", "no:cacheprovider", cwd=folder / "package")
    assert "3 passed" in said
    assert "The hook 'weight_norms' in NoisySession: 5 checks passed" in said
    assert "a run was killed in training iteration 9 and ended as the unbroken one\n" in said
