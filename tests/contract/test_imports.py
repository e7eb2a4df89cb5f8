"""The packages of torchbase form layers: an import points downward only."""

import ast
import json
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from torchbase import hooks

# From the bottom, one package a line; "." has the modules beside the packages. A package imports only from those
# before it in this list.
LAYERS = [
    ".",
    "randomness",
    "files",
    "distributed",
    "metrics",
    "data",
    "run_directory",
    "engine",
    "checkpoints",
    "logging_backends",
    "sharding",
    "techniques",
    "hooks",
    "session",
    "export",
    "utils",
    "testing",
    "command_line",
]
MODULES_BESIDE_THE_PACKAGES = 4
MAXIMUM_LINES = 300
CATALOGUES = {"torchbase.engine.hookspecs"}  # a list of events, as long as there are many
LATE = {"PIL", "datasets", "matplotlib", "mlflow", "pydantic", "scipy", "sklearn", "tensorboard"} | {
    "onnx",
    "onnxscript",
    "safetensors",
    "torchmetrics",
    "wandb",
}

ROOT = Path(__file__).parents[2]


def module_name(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(path): path for path in sorted((ROOT / "torchbase").rglob("*.py"))}


def package_of(module):
    """The folder of a module; torchbase itself, which re-exports public names, is above all."""
    parts = module.split(".")
    if len(parts) == 1:
        return None
    return parts[1] if (ROOT / "torchbase" / parts[1]).is_dir() else "."


def imported_by(module):
    """The modules of torchbase that a module imports anywhere, also inside functions and for annotations alone."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively; absolute imports are the rule"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (names & MODULES.keys()) or {node.module}
    return {name for name in found if name.partition(".")[0] == "torchbase"}


def layer_of(module):
    package = package_of(module)
    return len(LAYERS) if package is None else LAYERS.index(package)


def test_each_package_has_a_layer():
    assert {package_of(module) for module in MODULES} - {None} == set(LAYERS)


def test_few_modules_are_beside_the_packages():
    assert sum(package_of(module) == "." for module in MODULES) <= MODULES_BESIDE_THE_PACKAGES


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_downward(module):
    own = layer_of(module)
    upward = sorted(
        name for name in imported_by(module) if layer_of(name) >= own and package_of(name) != package_of(module)
    )
    assert upward == []


def test_no_modules_import_each_other_in_a_circle():
    graph = TopologicalSorter({module: imported_by(module) - {module} for module in MODULES})
    graph.prepare()  # raises CycleError with the circle


@pytest.mark.parametrize("package", [package for package in LAYERS if package != "."])
def test_each_package_says_what_it_is_for(package):
    text = ast.get_docstring(ast.parse(MODULES[f"torchbase.{package}"].read_text(encoding="utf-8")))
    assert package == "utils" or all(word in text for word in ("For: ", "In: ", "Out: ", "Begin with "))
    assert len(text.splitlines()) <= 16


def test_contributors_find_the_packages_in_the_order_of_their_layers():
    packages = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("<!-- end of the packages -->")[0]
    assert re.findall(r"^\| `torchbase/(\w+)` \|", packages, re.MULTILINE) == LAYERS[1:]


HOOK_MODULES = {getattr(hooks, name).__module__ for name in hooks.__all__}


@pytest.mark.parametrize("module", sorted(HOOK_MODULES))
def test_a_hook_imports_no_other_hook(module):
    assert imported_by(module) & HOOK_MODULES == set()


def test_the_engine_imports_no_hook():
    reached, waiting = set(), {"torchbase.engine.loop"}
    while waiting:
        module = waiting.pop()
        reached.add(module)
        waiting |= imported_by(module) - reached
    assert reached & HOOK_MODULES == set()


@pytest.mark.parametrize("module", MODULES)
def test_no_file_is_long(module):
    lines = MODULES[module].read_text(encoding="utf-8").count("\n")
    assert lines <= MAXIMUM_LINES or module in CATALOGUES


IMPORTS = (
    "import torchbase; dir(torchbase); torchbase.__version__",
    "from torchbase import Engine",
    "import torchbase.hooks, torchbase.metrics, torchbase.session.base, torchbase.testing, torchbase.utils",
    "import torchbase.metrics.selection",
)


@pytest.fixture(scope="module")
def loaded():
    """The modules that a new interpreter has loaded after each of the imports."""
    code = "\n".join(["import json, sys", *(f"{one}\nprint(json.dumps(list(sys.modules)))" for one in IMPORTS)])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True, cwd=ROOT)
    return [set(json.loads(line)) for line in done.stdout.splitlines()]


def test_importing_torchbase_alone_loads_not_even_torch(loaded):
    after_torchbase, after_engine, *_ = loaded
    assert {name for name in after_torchbase if name.startswith("torchbase")} == {"torchbase"}
    assert "torch" not in after_torchbase
    assert "torchbase.engine.loop" in after_engine


def test_importing_torchbase_loads_no_library_before_it_is_needed(loaded):
    *_, after_all = loaded
    assert {"torchbase.metrics.selection", "torchbase.session.base"} < after_all
    assert not after_all & LATE
