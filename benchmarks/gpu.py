"""Everything that needs a GPU, in one run: the tests marked for it, and what training and checkpoints cost.

    python benchmarks/gpu.py --markdown gpu.md

It needs no nox. It takes about 8 minutes on one GPU with 16 cores, and ends after ``--minutes`` at the latest, but for
the step that is running. The report is written after each step, so that what was measured stays if a later one fails.

    python benchmarks/gpu.py --device cpu --small      a trial without a GPU, with small networks
"""

import argparse
import os
import platform
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

import checkpoint_hold_up
import gpu_training
import torch
from run import processor, version_of

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("torchbase", "torch", "numpy", "datasets", "pyarrow", "lightning", "accelerate")
SECONDS_FOR_TESTS = 200
FEATURES_OF_A_GIGABYTE = 9459  # the weights with the two averages of Adam are 1 GiB


class Report:
    """A Markdown file to which each step adds a section."""

    def __init__(self, file: Path | None, minutes: float) -> None:
        """Starts the clock.

        Args:
            file: The file; None writes to the standard output alone.
            minutes: How many minutes all steps may take together.
        """
        self._file, self._sections = file, [describe_machine()]
        self._ends_at = time.monotonic() + 60 * minutes
        self._show()

    def add(self, title: str, step: Callable[[], str]) -> None:
        """Runs a step and adds its section; an error becomes the section, and the next step runs.

        Args:
            title: The name of the step, if it fails.
            step: Returns Markdown.
        """
        started_at = time.monotonic()
        if started_at > self._ends_at:
            text = f"## {title}\n\nNOT RUN: no time was left.\n"
        else:
            try:
                text = step()
            except Exception:
                text = f"## {title}\n\nFAILED:\n\n```text\n{traceback.format_exc()}```\n"
            text = f"{text}\n({time.monotonic() - started_at:.0f} s)\n"
        self._sections.append(text)
        self._show()

    def _show(self) -> None:
        print(self._sections[-1], flush=True)
        if self._file is not None:
            self._file.write_text("\n".join(self._sections), encoding="utf-8")


def main() -> None:
    """Runs all steps."""
    arguments = parse_arguments()
    device = torch.device(arguments.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        sys.exit("torch finds no GPU. To fix, check the driver and the build of torch, or try --device cpu --small.")
    report = Report(arguments.markdown, arguments.minutes)
    report.add("Tests", run_tests)
    for workload in gpu_training.SMALL_WORKLOADS if arguments.small else gpu_training.WORKLOADS:
        measure = partial(gpu_training.measure, workload, device, repetitions=3 if arguments.small else 5)
        report.add(f"gpu_training: {workload.name}", lambda measure=measure: measure().as_markdown())
    features = 256 if arguments.small else FEATURES_OF_A_GIGABYTE
    measure = partial(checkpoint_hold_up.measure, str(device), features, repetitions=3)
    report.add("checkpoint_hold_up", lambda: measure().as_markdown())


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"), help="what trains; by default the GPU")
    parser.add_argument("--small", action="store_true", help="trains small networks, to try this script")
    parser.add_argument("--minutes", type=float, default=8.0, help="after how many minutes no further step is begun")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="the report")
    return parser.parse_args()


def describe_machine() -> str:
    """Describes the machine, its GPU and the versions, as Markdown."""
    versions = ", ".join(f"{package} {version_of(package)}" for package in PACKAGES)
    gpu = "none"
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        gpu = f"{torch.cuda.device_count()} x {properties.name}, {properties.total_memory / 2**30:.0f} GiB"
    return (
        f"# On a GPU, {time.strftime('%Y-%m-%d')}\n\n"
        f"- GPU: {gpu}; CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}\n"
        f"- Machine: {processor()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}\n"
        f"- Versions: Python {platform.python_version()}, {versions}\n"
    )


def run_tests() -> str:
    """Runs the tests that are marked ``gpu``, and returns how they ended."""
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "-rfEs", "--tb=short", "-p", "no:cacheprovider"]
    try:
        done = subprocess.run(
            [*command, "tests/gpu", "tests/data/test_device_copies.py"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=SECONDS_FOR_TESTS,
        )
    except subprocess.TimeoutExpired as expired:
        shown = (expired.stdout or b"").decode(errors="replace")
        return f"## Tests\n\nSTOPPED after {SECONDS_FOR_TESTS} s:\n\n```text\n{shown}```\n"
    return f"## Tests\n\nExit status {done.returncode}.\n\n```text\n{done.stdout[-8000:]}{done.stderr[-2000:]}```\n"


if __name__ == "__main__":
    main()
