"""Saves several of the best networks."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from torchbase.checkpoints.best_files import BestFiles, Position, name_of
from torchbase.checkpoints.distributed_tensors import distributed_parameter
from torchbase.checkpoints.whole_network import whole_network
from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.monitoring import Monitor, monitor_of_best, phase_to_monitor
from torchbase.engine.phase import Phase
from torchbase.engine.run import Run
from torchbase.engine.training_step import network_of
from torchbase.engine.votes import is_better
from torchbase.errors import HookError, RunDirectoryError
from torchbase.metrics.directions import Mode
from torchbase.metrics.selection import NAME_OF_THE_LOSS
from torchbase.run_directory.best_networks import BestNetworks, SavedBest, parse_networks
from torchbase.techniques.settings import is_count


class KeepBest:
    """Saves the n best networks, beside the best one that the validation sets vote for.

    For averaging weights, for an ensemble, or for comparing the best networks by another measure. After each pass of
    the monitored phase, the network is saved if its value is among the n best so far. Of equal values, the earlier one
    is better. The files are in ``best_networks`` of the run directory, such as
    ``epoch-000003-iteration-0000000120-loss-0.2315.pth``. ``best_networks/networks.json`` lists them, the best first;
    `torchbase.utils.read_best_networks` reads it, `session.load_best_network(file)` loads one, and ``torchbase show``
    lists them.

    A network is listed once it is whole on the disk, and a former one is removed after that, once a checkpoint is
    written that no longer lists it. So a run that was killed at any instant resumes with exactly the networks of its
    checkpoint, and until then some more files than n may be there. Training waits only for a copy in memory.

    Example:
        >>> hook = KeepBest(3, monitor="accuracy", mode="max")
    """

    def __init__(
        self, count: int, monitor: str | None = None, phase: str | None = None, mode: Mode | None = None
    ) -> None:
        """Sets how many networks are saved, and by which value.

        Args:
            count: The number of networks, at least 1.
            monitor: The name of the monitored value, an average or metric of an epoch. By default, the value by which
                the best network is chosen, see `BestValidation`.
            phase: The name of the phase of the value. By default, the validation set that votes on the best network.
            mode: Whether lower (``"min"``) or higher (``"max"``) is better. It is known for the loss and for metrics
                that declare it, as those of torchbase do. For another value, pass it.

        Raises:
            HookError: If the count or the mode is invalid.
        """
        if not is_count(count):
            raise HookError(f"KeepBest expects the number of networks, at least 1, but got {count!r}.")
        self._count, self._phase_name = count, phase
        self._follows_best, self._given_mode = monitor is None, mode
        self._monitor = Monitor("KeepBest", NAME_OF_THE_LOSS if monitor is None else monitor, mode)
        self._mode: Mode = "min"  # until the run starts
        self._networks: tuple[SavedBest, ...] = ()
        self._restored: Mapping[str, Any] = {}
        self._files: BestFiles | None = None  # on the main process

    @hookimpl
    def on_run_start(self, run: Run) -> None:
        """Finds the phase and the mode, and brings the files in line with the checkpoint."""
        self._phase_name = phase_to_monitor(run, self._phase_name).name
        best = monitor_of_best(run) if self._follows_best else None
        if best is not None:
            self._monitor = best.of_same_value("KeepBest", self._given_mode)
        self._mode = self._monitor.known_mode_in(run)
        self._check_is_alone(run)
        self._check_restored()
        listed, self._networks = self._networks, self._networks[: self._count]
        if run.processes.is_main:
            if run.run_directory is None:
                raise HookError(
                    "KeepBest writes into the run directory, but this run has none. To fix, pass run_directory to Run."
                )
            self._files = BestFiles(run.run_directory)
            self._networks = self._files.begin(self._best(), listed[self._count :], _position(run))
        self._networks = run.processes.tell(self._networks, "the best networks")

    @hookimpl
    def on_epoch_start(self, run: Run) -> None:
        """Checks the name of the value before the first epoch, when the rehearsal has found the names."""
        self._monitor.check_name(run, [phase_to_monitor(run, self._phase_name)])

    @hookimpl
    def on_phase_end(self, run: Run, phase: Phase) -> None:
        """Saves the network if its value is among the best."""
        if phase.name != self._phase_name:
            return
        value = self._monitor.value_of(phase)
        better = [one for one in self._networks if not is_better(value, one.value, self._mode)]
        if len(better) >= self._count or not is_better(value, None, self._mode):
            return
        iteration = run.progress.iterations
        saved = SavedBest(name_of(run.epoch, iteration, self._monitor.name, value), run.epoch, iteration, value)
        network = self._copy_of_network(run)
        if run.processes.tell(network is not None, "whether the network is saved"):
            ranked = (*better, saved, *self._networks[len(better) :])
            self._networks, dropped = ranked[: self._count], ranked[self._count :]
            if self._files is not None:
                self._files.submit(saved, network, self._best(), dropped, _position(run))

    @hookimpl
    def on_run_end(self) -> None:
        """Waits until the networks are on disk, and removes those that were replaced."""
        if self._files is not None:
            self._files.end()

    @hookimpl
    def on_exception(self, error: BaseException) -> None:
        """Waits until the networks are on disk."""
        if self._files is not None and isinstance(error, Exception):
            try:
                self._files.wait()
            except RunDirectoryError as write_error:
                error.add_note(f"one of the best networks could not be written: {write_error}")

    def state_dict(self) -> dict[str, Any]:
        """Returns the list of the networks, and what they were chosen by."""
        return {**vars(self._best()), "networks": [asdict(one) for one in self._networks]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores the list of the networks.

        Args:
            state: The return value of `state_dict`.
        """
        self._restored, self._networks = state, parse_networks(state["networks"])

    def _best(self) -> BestNetworks:
        return BestNetworks(self._monitor.name, str(self._phase_name), self._mode, self._networks)

    def _copy_of_network(self, run: Run) -> Any:
        if distributed_parameter(run.optimizer) is not None:
            return whole_network(run)
        return None if self._files is None else self._files.copy(network_of(run))

    def _check_is_alone(self, run: Run) -> None:
        if sum(isinstance(hook, KeepBest) for hook in run.hooks.values()) > 1:
            raise HookError(
                "Two hooks KeepBest would list their networks in the same file. To fix, register one of them."
            )

    def _check_restored(self) -> None:
        if not self._restored or not self._networks:
            return
        now, before = vars(self._best()), self._restored
        changed = [f"{name} {before[name]!r}" for name in ("monitor", "phase", "mode") if now[name] != before[name]]
        if changed:
            raise HookError(
                f"The run has saved its best networks by another value than KeepBest has now: by {', '.join(changed)}. "
                "To fix, pass the same monitor, phase and mode as before, or begin a new run."
            )


def _position(run: Run) -> Position:
    return Position(iterations=run.progress.iterations, epochs=run.epochs_done)
