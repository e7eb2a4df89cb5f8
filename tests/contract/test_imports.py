"""The modules stand on floors, and an import points downward only."""

import ast
import json
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

# From the top. A module imports from the floors below its own, never from its own floor or from above.
FLOORS = [
    ["torchbase", "torchbase.testing", "torchbase.utils", "torchbase.utils.metrics_instances"],
    ["torchbase.testing.checks"],
    ["torchbase.testing.comparisons", "torchbase.testing.explanations", "torchbase.testing.report"],
    ["torchbase.testing.overhead"],
    ["torchbase.testing.traces", "torchbase.testing.trial"],
    ["torchbase.testing.tried_run"],
    ["torchbase.testing.instruments", "torchbase.testing.outcomes", "torchbase.testing.tiny_session"],
    ["torchbase.testing.other_process"],
    ["torchbase.command_line"],
    [
        "torchbase.command_line.compare",
        "torchbase.command_line.hooks",
        "torchbase.command_line.runs",
        "torchbase.command_line.show",
        "torchbase.command_line.verify",
    ],
    ["torchbase.command_line.comparison_page"],
    [
        "torchbase.command_line.comparison",
        "torchbase.command_line.described_environment",
        "torchbase.command_line.run_table",
        "torchbase.command_line.svg_curves",
        "torchbase.command_line.terminal_curves",
    ],
    ["torchbase.command_line.kept_details"],
    [
        "torchbase.command_line.catalogue",
        "torchbase.command_line.curves",
        "torchbase.command_line.kept_runs",
        "torchbase.command_line.terminal",
    ],
    ["torchbase.kept_session"],
    ["torchbase.session"],
    ["torchbase.session_evaluation"],
    ["torchbase.session_parts"],
    ["torchbase.building", "torchbase.run_source"],
    ["torchbase.hooks"],
    ["torchbase.hooks.*", "torchbase.verification"],
    ["torchbase.file_backend", "torchbase.iteration_state", "torchbase.run_state"],
    ["torchbase.logging_backend"],
    ["torchbase.recording"],
    ["torchbase.bad_mini_batches", "torchbase.engine", "torchbase.training_step", "torchbase.run_summary"],
    ["torchbase.offered_plugins"],
    ["torchbase.plugins"],
    ["torchbase.events", "torchbase.hookspecs"],
    ["torchbase.histograms", "torchbase.monitoring"],
    ["torchbase.run"],
    ["torchbase.data.phase_loader", "torchbase.phase", "torchbase.run_directory", "torchbase.votes"],
    [
        "torchbase.background_writes",
        "torchbase.checkpoints",
        "torchbase.data",
        "torchbase.data.loader",
        "torchbase.data.streaming",
        "torchbase.metrics",
        "torchbase.record_files",
        "torchbase.user_methods",
    ],
    ["torchbase.data.stream_shards", "torchbase.metrics.selection"],
    ["torchbase.metrics.epoch_values"],
    ["torchbase.metrics.shared_states"],
    [
        "torchbase.checkpoint_manifest",
        "torchbase.data.checking",
        "torchbase.data.columns",
        "torchbase.data.order",
        "torchbase.data.reading",
        "torchbase.data.splitting",
        "torchbase.data.validation_datasets",
        "torchbase.json_lines",
        "torchbase.kept_config",
        "torchbase.metrics.binary_classification",
        "torchbase.metrics.chosen",
        "torchbase.metrics.image_reconstruction",
        "torchbase.metrics.image_segmentation",
        "torchbase.metrics.multiclass_classification",
        "torchbase.metrics.regression",
        "torchbase.metrics.torch_metrics",
        "torchbase.tensor_files",
    ],
    [
        "torchbase.metrics.areas",
        "torchbase.metrics.class_counts",
        "torchbase.metrics.regression_states",
        "torchbase.metrics.structural_similarity",
    ],
    [
        "torchbase.config",
        "torchbase.data.permutation",
        "torchbase.data.table_rows",
        "torchbase.data.typed_dict",
        "torchbase.durable_files",
        "torchbase.environment",
        "torchbase.event_file",
        "torchbase.log_records",
        "torchbase.metrics.base",
        "torchbase.metrics.confusion_figure",
        "torchbase.metrics.states",
        "torchbase.wandb_file",
    ],
    [
        "torchbase.bitwise",
        "torchbase.buffers",
        "torchbase.data.arrow_columns",
        "torchbase.data.device_copies",
        "torchbase.data.stream_position",
        "torchbase.growing_file",
        "torchbase.host_copies",
        "torchbase.intervals",
        "torchbase.iteration_values",
        "torchbase.listeners",
        "torchbase.metrics.epoch_kinds",
        "torchbase.json_values",
        "torchbase.logging_errors",
        "torchbase.mini_batch_parts",
        "torchbase.observed_calls",
        "torchbase.optional_packages",
        "torchbase.parameter_patterns",
        "torchbase.png",
        "torchbase.randomness",
        "torchbase.record_thread",
        "torchbase.run_lock",
    ],
    ["torchbase.errors"],
]
MAXIMUM_LINES = 300
CATALOGUES = {"torchbase.hookspecs"}  # a list of events, as long as there are many
LATE = {"datasets", "matplotlib", "mlflow", "pydantic", "scipy", "sklearn", "tensorboard", "torchmetrics", "wandb"}

ROOT = Path(__file__).parents[2]


def module_name(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(path): path for path in sorted((ROOT / "torchbase").rglob("*.py"))}


def floors_of(module):
    # A name of its own comes before a pattern: torchbase.hooks itself stands above its modules.
    return [
        number for number, patterns in enumerate(FLOORS) if any(fnmatchcase(module, pattern) for pattern in patterns)
    ]


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


def is_of_hooks(module):
    return f"{module}.".startswith("torchbase.hooks.")


@pytest.mark.parametrize("module", MODULES)
def test_each_module_stands_on_one_floor(module):
    assert len(floors_of(module)) == 1


def test_each_name_on_a_floor_is_that_of_a_module():
    names = {pattern for patterns in FLOORS for pattern in patterns if not pattern.endswith("*")}
    assert names <= MODULES.keys()


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_downward(module):
    (own,) = floors_of(module)
    upward = sorted(name for name in imported_by(module) if min(floors_of(name)) <= own)
    assert upward == []


def test_hooks_do_not_import_each_other():
    for module in MODULES:
        if module.startswith("torchbase.hooks."):
            assert not {name for name in imported_by(module) if is_of_hooks(name)}, module


def test_the_engine_imports_no_hook():
    reached, waiting = set(), {"torchbase.engine"}
    while waiting:
        module = waiting.pop()
        reached.add(module)
        waiting |= imported_by(module) - reached
    assert not {module for module in reached if is_of_hooks(module)}


@pytest.mark.parametrize("module", MODULES)
def test_no_file_is_long(module):
    lines = MODULES[module].read_text(encoding="utf-8").count("\n")
    assert lines <= MAXIMUM_LINES or module in CATALOGUES


def modules_loaded_by(statement):
    code = f"import json, sys\n{statement}\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True, cwd=ROOT)
    return set(json.loads(done.stdout))


def test_importing_torchbase_loads_no_library_before_it_is_needed():
    modules = "torchbase, torchbase.hooks, torchbase.metrics, torchbase.session, torchbase.testing, torchbase.utils"
    loaded = modules_loaded_by(f"import {modules}")
    assert "torchbase.session" in loaded
    assert not loaded & LATE


def test_importing_torchbase_alone_loads_not_even_torch():
    loaded = modules_loaded_by("import torchbase; dir(torchbase); torchbase.__version__")
    assert {name for name in loaded if name.startswith("torchbase")} == {"torchbase"}
    assert "torch" not in loaded
    assert "torchbase.engine" in modules_loaded_by("from torchbase import Engine")
