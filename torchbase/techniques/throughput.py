"""Measures how fast a run trains, and where the time goes."""

import logging
import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from typing import Any

from torchbase.data.device_copies import has_streams
from torchbase.engine.hookspecs import hookimpl
from torchbase.engine.iteration_values import IterationValues
from torchbase.engine.phase import Phase
from torchbase.engine.run import Run
from torchbase.intervals import Interval
from torchbase.techniques.iteration_clock import DeviceClock, HostClock

logger = logging.getLogger("torchbase")

PER_SECOND, SHARE = "_per_second", "share_of_"


@dataclass
class Totals:
    """What was trained, and the seconds that it took.

    Attributes:
        mini_batches: The number of mini-batches.
        samples: The number of samples.
        weight: How much the mini-batches weigh in averages of the loss.
        seconds: The seconds by the clock of the device; without one, by that of the host.
        computing: Those in which iterations were computed.
        host_seconds: The seconds by the clock of the host.
        reading: Those in which it waited for mini-batches.
        hooks: Those in hooks, and in what else the loop does between iterations.
    """

    mini_batches: float = 0
    samples: float = 0
    weight: float = 0
    seconds: float = 0
    computing: float = 0
    host_seconds: float = 0
    reading: float = 0
    hooks: float = 0

    def __sub__(self, earlier: "Totals") -> "Totals":
        """Returns what was done since an earlier moment."""
        return Totals(*(now - before for now, before in zip(astuple(self), astuple(earlier), strict=True)))

    def __add__(self, other: "Totals") -> "Totals":
        """Returns both together."""
        return Totals(*(one + another for one, another in zip(astuple(self), astuple(other), strict=True)))


@dataclass
class _Measured:
    """The totals at the end of an iteration, which are logged once the device has passed it.

    Attributes:
        iteration: The iteration.
        unit: The unit of the step at which they are logged.
        step: The step.
        totals: The totals.
    """

    iteration: int
    unit: str
    step: int
    totals: Totals


class Throughput:
    """Logs how many samples and mini-batches a second the run trains, and where the time goes.

    Logged are ``samples_per_second``, ``mini_batches_per_second`` and, if the session has ``infer_loss_weight``,
    ``loss_weight_per_second``, such as tokens; and three shares of the time, from 0 to 1. In ``share_of_data`` the host
    waits for mini-batches. In ``share_of_hooks`` it is in hooks between iterations, and in what else the loop does
    there. In ``share_of_device`` iterations are computed: on a CPU by the host; on CUDA and XPU by the device, from the
    first to the last operation of each iteration, while the host may read the next mini-batch. For other devices it
    isn't known. A line at the end of the run has the averages.

    The time of the training phase counts. That of validations, votes and checkpoints, and between epochs, doesn't.
    Samples are those of all processes, and times those of the main process. The host never waits for the device: what
    is measured at an iteration is logged when the values of the iteration are read. A resumed run measures from its
    start on, so no value spans the time before it.

    Example:
        >>> hook = Throughput(every="100it")
    """

    main_process_only = True

    def __init__(self, every: str | Interval = "100it") -> None:
        """Sets how often values are logged, each for the time since the last one.

        Args:
            every: The interval: training iterations (``"100it"``), epochs (``"1ep"``) or seconds of training
                (``"60s"``).

        Raises:
            IntervalError: If the interval is invalid.
        """
        self._every = Interval.parse(every)
        self._earlier = Totals()  # of the parts of a resumed run
        self._has_weights = self._knows_device = self._waits_for_values = False
        self._begin()

    def _begin(self) -> None:
        self._host = HostClock()
        self._device: DeviceClock | None = None
        self._totals, self._logged = Totals(), Totals()
        self._measured: deque[_Measured] = deque()
        self._is_between_iterations = False

    @hookimpl
    def on_run_start(self, run: Run) -> None:
        """Starts to observe how mini-batches are read."""
        self._begin()
        self._has_weights, self._waits_for_values = run.loss_weights is not None, run.device.type != "cpu"
        if has_streams(run.device):
            self._device = DeviceClock(run.device)
        self._knows_device = self._device is not None or not self._waits_for_values
        self._stop_observing(run)
        run.training.reading_observers.append(self._observe)

    # First: what the other hooks do in and after a validation doesn't count.
    @hookimpl(tryfirst=True)
    def on_phase_start(self, phase: Phase) -> None:
        """Stops the clock before a validation. The next mini-batch of training starts it again."""
        if not phase.is_training:
            self._stop()

    # Last, so that the other hooks count as hooks.
    @hookimpl(trylast=True)
    def on_iteration_start(self, phase: Phase) -> None:
        """Notes the start of the computation."""
        if phase.is_training:
            self._host.mark("hooks")
            if self._device is not None:
                self._device.start_iteration()

    # First, so that the other hooks count as hooks.
    @hookimpl(tryfirst=True)
    def on_iteration_end(self, phase: Phase) -> None:
        """Counts the iteration, and notes the end of the computation."""
        if not phase.is_training:
            return
        self._host.mark("computing")
        self._is_between_iterations = True
        iteration = phase.progress.iterations
        if self._device is not None:
            self._device.end_iteration(iteration, self._host.paused)
        self._totals.mini_batches += 1
        self._totals.samples += phase.samples
        if self._is_due(iteration):
            self._measure(iteration, "iterations", iteration)

    # First, so that the other hooks count as hooks.
    @hookimpl(tryfirst=True)
    def on_values_read(self, run: Run, phase: Phase, rows: Sequence[IterationValues]) -> None:
        """Adds the weights, and logs what was measured."""
        if phase.is_training:
            self._host.mark("waiting" if self._waits_for_values else "hooks")
            for measured in self._measured:
                measured.totals.weight += sum(_weight_of(row) for row in rows if row.iteration <= measured.iteration)
            self._totals.weight += sum(map(_weight_of, rows))
            self._log(run)

    # First: the metrics of the epoch don't count.
    @hookimpl(tryfirst=True)
    def compute_phase_metrics(self, run: Run, phase: Phase) -> Mapping[str, float]:
        """Stops the clock at the end of an epoch, and returns nothing."""
        if phase.is_training:
            self._stop()
            if self._every.is_due_after(epochs=run.epoch):
                self._measure(phase.progress.iterations, "epochs", run.epoch)
            self._log(run)
        return {}

    @hookimpl
    def on_run_end(self, run: Run) -> None:
        """Logs the line with the averages."""
        self._stop_observing(run)
        self._host.stop()
        self._log(run)
        values = self._values_of(self._earlier + self._totals_now())
        if values:
            rates = [f"{value:,.4g} {_words(name)}/s" for name, value in values.items() if name.endswith(PER_SECOND)]
            shares = [f"{_words(name)} {value:.0%}" for name, value in values.items() if name.startswith(SHARE)]
            logger.info("Throughput: %s; %s", ", ".join(rates), ", ".join(shares))

    @hookimpl
    def on_exception(self, run: Run) -> None:
        """Stops to observe."""
        self._stop_observing(run)

    def state_dict(self) -> dict[str, Any]:
        """Returns what was done so far.

        A checkpoint asks for it between two iterations. Until the next mini-batch, the time is that of the checkpoint.
        """
        if self._is_between_iterations:
            self._host.stop()
        return asdict(self._earlier + self._totals_now())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores what was done so far.

        Args:
            state: The return value of `state_dict`.
        """
        self._earlier = Totals(**state)

    def _observe(self, mini_batches: Iterator[Any]) -> Iterator[Any]:
        while True:
            self._host.mark("hooks")
            self._host.start()
            self._is_between_iterations = False
            try:
                batch = next(mini_batches)
            except StopIteration:
                return
            finally:
                self._host.mark("reading")
            yield batch

    def _stop_observing(self, run: Run) -> None:
        observers = run.training.reading_observers
        observers[:] = [one for one in observers if one != self._observe]

    def _stop(self) -> None:
        self._host.mark("hooks")
        self._host.stop()

    def _is_due(self, iteration: int) -> bool:
        if self._every.unit != "s":
            return self._every.is_due_after(iterations=iteration)
        last = self._measured[-1].totals if self._measured else self._logged
        return self._host.total - last.host_seconds >= self._every.count

    def _measure(self, iteration: int, unit: str, step: int) -> None:
        self._measured.append(_Measured(iteration, unit, step, self._totals_now()))

    def _totals_now(self) -> Totals:
        host, done, device = self._host, self._totals, self._device
        seconds, computing = (host.total, host.seconds["computing"]) if device is None else (device.total, device.busy)
        counts = (done.mini_batches, done.samples, done.weight)
        return Totals(*counts, seconds, computing, host.total, host.seconds["reading"], host.seconds["hooks"])

    def _log(self, run: Run) -> None:
        while self._measured:
            one, device = self._measured[0], self._device
            if device is not None:
                if not device.read(one.iteration):
                    return
                one.totals.seconds, one.totals.computing = device.total, device.busy
            self._measured.popleft()
            values, self._logged = self._values_of(one.totals - self._logged), one.totals
            if values:
                scalars = {run.training.tag(name, one.unit): value for name, value in values.items()}
                run.call.log_scalars(run=run, scalars=scalars, step=one.step)
        if self._device is not None:
            self._device.read(math.inf)

    def _values_of(self, done: Totals) -> dict[str, float]:
        if done.seconds <= 0 or done.host_seconds <= 0:
            return {}
        counts = {"samples": done.samples, "mini_batches": done.mini_batches}
        seconds = {"data": (done.reading, done.host_seconds), "hooks": (done.hooks, done.host_seconds)}
        if self._has_weights:
            counts["loss_weight"] = done.weight
        if self._knows_device:
            seconds["device"] = (done.computing, done.seconds)
        return {
            **{f"{name}{PER_SECOND}": count / done.seconds for name, count in counts.items()},
            **{f"{SHARE}{name}": part / whole for name, (part, whole) in seconds.items()},
        }


def _weight_of(row: IterationValues) -> float:
    # The turns of several optimizers have the same mini-batch.
    return float(row.loss_weights[0].value) if row.loss_weights else 0.0


def _words(name: str) -> str:
    return name.removesuffix(PER_SECOND).removeprefix(SHARE).replace("_", " ")
