"""Measures the speed that torchbase promises, together with the alternatives, in one run.

    python benchmarks/run.py                       all benchmarks
    python benchmarks/run.py engine_overhead       some of them
    python benchmarks/run.py --markdown FILE       also writes the tables to a file

A bound is the maximum of the additional time over the reference (the first row of a table); for data, the maximum or
minimum of the time as a multiple of the first of its group.
"""

import argparse
import os
import platform
from collections.abc import Callable
from difflib import get_close_matches
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import checkpoint_hold_up
import command_line
import data_files
import data_path
import data_training
import engine_overhead
import import_time
import logging_cost
import metrics_cost
import preset_overhead
import several_processes
import sharded_training
import technique_overhead
import torch
from measuring import NOT_INSTALLED, Outcome

BENCHMARKS: dict[str, Callable[[], Outcome]] = {
    "engine_overhead": engine_overhead.measure,
    "preset_overhead": preset_overhead.measure,
    "import_time": import_time.measure,
    "checkpoint_hold_up": checkpoint_hold_up.measure,
    "command_line": command_line.measure,
    "data_path": data_path.measure,
    "data_files": data_files.measure,
    "data_training": data_training.measure,
    "metrics_cost": metrics_cost.measure,
    "logging_cost": logging_cost.measure,
    "technique_overhead": technique_overhead.measure,
    "several_processes": several_processes.measure,
    "sharded_training": sharded_training.measure,
}
PACKAGES = ("torchbase", "torch", "datasets", "pyarrow", "pluggy", "tensorboard", "pytorch-ignite", "lightning")
THREADS = 1


def main() -> None:
    """Runs the benchmarks that are named on the command line."""
    arguments = parse_arguments()
    torch.set_num_threads(THREADS)
    parts = [describe_environment()]
    print(parts[0])
    for name in arguments.names or BENCHMARKS:
        parts.append(BENCHMARKS[name]().as_markdown())
        print(parts[-1], flush=True)
    if arguments.markdown is not None:
        arguments.markdown.write_text("\n".join(parts), encoding="utf-8")


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(BENCHMARKS)}; by default all of them")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="a file to which the tables are written, too")
    arguments = parser.parse_args()
    for name in arguments.names:
        if name not in BENCHMARKS:
            nearest = get_close_matches(name, BENCHMARKS, n=1)
            hint = f"did you mean '{nearest[0]}'?" if nearest else f"there are: {', '.join(BENCHMARKS)}"
            parser.error(f"no benchmark is named '{name}'; {hint}")
    return arguments


def describe_environment() -> str:
    """Describes the machine and the versions, as Markdown."""
    versions = ", ".join(f"{package} {version_of(package)}" for package in PACKAGES)
    return (
        "# Benchmarks\n\n"
        f"- Machine: {processor()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}\n"
        f"- Versions: Python {platform.python_version()}, {versions}\n"
        f"- Threads of torch: {torch.get_num_threads()}; no garbage collection while the clock runs\n"
    )


def processor() -> str:
    """Returns the name of the processor, if the system provides it."""
    description = Path("/proc/cpuinfo")
    lines = description.read_text(encoding="utf-8").splitlines() if description.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def version_of(package: str) -> str:
    """Returns the version of a package, or that it isn't installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return NOT_INSTALLED


if __name__ == "__main__":
    main()
