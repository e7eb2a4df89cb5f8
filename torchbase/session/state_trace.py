"""Records, in a replay, the state after each iteration, and in some iterations after each call of a hook."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

from torchbase.data.parts import SplitMiniBatch
from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.phase import Phase
from torchbase.engine.run import Run
from torchbase.engine.training_step import network_of
from torchbase.errors import HookError
from torchbase.run_directory.fingerprints import After
from torchbase.run_directory.replays import TRACE_FILE, ReplayOrders
from torchbase.run_directory.traces import MINI_BATCH, Step, TraceFile
from torchbase.techniques.fingerprint_writer import FingerprintWriter
from torchbase.techniques.state_hashes import ValuesByName, hash_parts, values_of, whole_on_host

MAXIMUM_ROWS = 4096
TRACED_EVENTS = frozenset(
    {"on_iteration_start", "run_iteration", "run_part", "run_forward", "on_loss_computed", "run_backward"}
    | {"on_gradients_ready", "should_step_optimizer", "run_optimizer_step", "on_iteration_end"}
)


class StateTrace:
    """Records a fingerprint after each iteration, and in some iterations what each call of a hook changes.

    The session registers it in a replay. It ends the run where the replay ends.
    """

    def __init__(self, orders: ReplayOrders) -> None:
        """Sets what to record.

        Args:
            orders: The orders of the replay.
        """
        self._orders = orders
        self._trace = TraceFile(orders.records / TRACE_FILE)
        self._writer: FingerprintWriter | None = None
        self._run: Run | None = None
        self._iteration = 0

    def observe_call(self, hook: str, event: str, is_return: bool) -> AbstractContextManager[object]:
        """Returns what records the state after a call, if its iteration is traced.

        Args:
            hook: The name of the hook.
            event: The name of the event.
            is_return: Whether the call is the part of a wrapper after its ``yield``.
        """
        is_traced = self._iteration and event in TRACED_EVENTS
        return self._recording_after(hook, event) if is_traced else nullcontext()

    @hookimpl(trylast=True)
    def on_run_start(self, run: Run) -> None:
        """Records the state with which the replay begins."""
        if run.processes.count > 1:
            raise HookError(
                f"A replay trains on one process, and this program has {run.processes.count}. To fix, pass a program "
                "that isn't started by torchrun: with the mini_batch_parts of the run, which it has saved, the bits "
                "don't depend on the number of processes."
            )
        self._run, self._iteration = run, 0
        self._writer = FingerprintWriter(run, self._orders.records)
        self._record(run, "start")

    @hookimpl
    def on_phase_start(self) -> None:
        """Waits for the threads before workers may be forked."""
        if self._writer is not None:
            self._writer.join()

    @hookimpl(tryfirst=True)
    def on_iteration_start(self, run: Run, phase: Phase, batch: Any) -> None:
        """Records the mini-batch of an iteration that is traced, and the state before it."""
        iteration = phase.progress.iterations + 1
        self._iteration = iteration if phase.is_training and self._orders.is_traced(iteration) else 0
        if self._iteration:
            # Without the random streams, which are seeded next.
            self._add(run, "", "on_iteration_start", {MINI_BATCH: dict(rows_of(batch))} | values_of(run, False))

    @hookimpl(trylast=True)
    def on_iteration_end(self, run: Run, phase: Phase) -> None:
        """Records the state after an iteration, and ends the run after the last one."""
        if phase.is_training:
            self._record(run, "iteration")
            last, after = self._orders.until
            # At the end of an epoch, its validation and its hooks belong to the end of the run.
            is_in_epoch = after == "run" and not phase.is_at_end_of(run.epoch)
            if phase.progress.iterations >= last and (after == "iteration" or is_in_epoch):
                run.request_stop("the replay ends here")

    @hookimpl(trylast=True)
    def on_epoch_end(self, run: Run) -> None:
        """Records the state after an epoch, and ends the run after the last one."""
        self._record(run, "epoch")
        if self._orders.until[0] <= run.progress.iterations:
            run.request_stop("the replay ends here")

    @hookimpl(trylast=True)
    def on_run_end(self) -> None:
        """Waits until all fingerprints are on the disk."""
        if self._writer is not None:
            self._writer.finish()

    def _record(self, run: Run, after: After) -> None:
        if self._writer is not None:
            self._writer.record(run, after)

    @contextmanager
    def _recording_after(self, hook: str, event: str) -> Iterator[None]:
        yield
        run = self._run
        if run is not None:
            parts: dict[str, ValuesByName] = {
                "outputs": dict(_outputs_of(run.training)),
                "gradients": {
                    name: parameter.grad
                    for name, parameter in network_of(run).named_parameters()
                    if parameter.grad is not None
                },
                **values_of(run, with_streams=True),
            }
            self._add(run, hook, event, parts)

    def _add(self, run: Run, hook: str, event: str, parts: Mapping[str, ValuesByName]) -> None:
        hashes = hash_parts(parts, _ignore_unhashable, whole_on_host)
        self._trace.append(Step(self._iteration, hook, event, hashes))


def _ignore_unhashable(name: str, value: object) -> None:
    """Does nothing: columns and outputs may be any objects, and `FingerprintWriter` names those of the state."""


def _outputs_of(phase: Phase) -> Iterator[tuple[str, Any]]:
    if phase.loss is not None:
        yield "loss", phase.loss
    if isinstance(phase.outputs, Mapping):
        yield from ((str(name), value) for name, value in phase.outputs.items())


def rows_of(batch: Any) -> Iterator[tuple[str, Any]]:
    """Yields the rows of the columns of a mini-batch, each with a name such as ``x[3]``.

    Args:
        batch: The mini-batch of any loader.

    Yields:
        A name and a row. A column without rows, or with very many, is a single value.
    """
    if isinstance(batch, SplitMiniBatch):
        for part in batch.parts:
            yield from ((f"part {part.number} {name}", value) for name, value in rows_of(part.mini_batch))
    elif isinstance(batch, Mapping):
        for column, value in batch.items():
            yield from _rows_of_column(str(column), value)
    elif isinstance(batch, list | tuple):
        for position, value in enumerate(batch):
            yield from _rows_of_column(str(position), value)
    else:
        yield from _rows_of_column("value", batch)


def _rows_of_column(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    has_rows = isinstance(value, list | tuple) or (isinstance(value, torch.Tensor) and value.dim() > 0)
    if has_rows and len(value) <= MAXIMUM_ROWS:
        yield from ((f"{name}[{row}]", one) for row, one in enumerate(value))
    else:
        yield name, value
