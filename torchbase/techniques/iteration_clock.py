"""Clocks of training iterations: of the host, by what the loop does, and of an accelerator."""

from collections import deque
from time import perf_counter
from typing import Any, Literal, NamedTuple

import torch

Kind = Literal["reading", "computing", "waiting", "hooks"]


class HostClock:
    """Adds up the seconds of the host by what the loop does. While it is stopped, no time counts.

    Attributes:
        seconds: The seconds by kind: reading mini-batches, computing them, waiting for the device until it has computed
            the values that are read, and hooks, with what else the loop does between iterations.
        paused: The seconds for which the clock was stopped since its first start.
    """

    def __init__(self) -> None:
        """Makes a clock that is stopped."""
        self.seconds: dict[Kind, float] = {"reading": 0.0, "computing": 0.0, "waiting": 0.0, "hooks": 0.0}
        self.paused = 0.0
        self._last: float | None = None  # None while it is stopped
        self._stopped_at: float | None = None

    @property
    def total(self) -> float:
        """The seconds of all kinds."""
        return sum(self.seconds.values())

    def start(self) -> None:
        """Starts the clock, unless it is running."""
        if self._last is None:
            self._last = perf_counter()
            if self._stopped_at is not None:
                self.paused += self._last - self._stopped_at

    def mark(self, kind: Kind) -> None:
        """Adds the time since the last mark to a kind. While the clock is stopped, it does nothing.

        Args:
            kind: What the loop did since then.
        """
        if self._last is not None:
            now = perf_counter()
            self.seconds[kind] += now - self._last
            self._last = now

    def stop(self) -> None:
        """Stops the clock at the last mark: the time since then doesn't count."""
        if self._last is not None:
            self._last, self._stopped_at = None, self._last


class _Iteration(NamedTuple):
    number: int
    paused: float
    started: Any  # an event of the device's module
    ended: Any


class DeviceClock:
    """Measures iterations by events of an accelerator, which are read once the device has passed them.

    The host never waits for the device. Since the device is idle while the loop pauses, a pause takes as long on the
    device as on the host.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.cuda.Event.html

    Attributes:
        total: The seconds from the start of the first iteration to the end of the last one that was read.
        busy: Those of them from the start to the end of each iteration.
    """

    def __init__(self, device: torch.device) -> None:
        """Makes a clock.

        Args:
            device: An accelerator with streams.
        """
        self._device = device
        self._module: Any = torch.get_device_module(device)
        self._started: Any = None
        self._unread: deque[_Iteration] = deque()
        self._last: _Iteration | None = None
        self.total = self.busy = 0.0

    def start_iteration(self) -> None:
        """Notes the start of an iteration in the work of the device."""
        self._started = self._record()

    def end_iteration(self, number: int, paused: float) -> None:
        """Notes the end of an iteration in the work of the device.

        Args:
            number: The iteration.
            paused: The seconds of all pauses of the host so far.
        """
        if self._started is not None:
            self._unread.append(_Iteration(number, paused, self._started, self._record()))
            self._started = None

    def read(self, until: float) -> bool:
        """Adds the iterations that the device has passed.

        Args:
            until: The last iteration to add; infinity adds all.

        Returns:
            Whether the device has passed all iterations up to this one.
        """
        while self._unread and self._unread[0].number <= until:
            if not self._unread[0].ended.query():
                return False
            one, last = self._unread.popleft(), self._last
            busy = _seconds_between(one.started, one.ended)
            before = 0.0 if last is None else _seconds_between(last.ended, one.started) - (one.paused - last.paused)
            self.busy += busy
            self.total += busy + max(0.0, before)
            self._last = one
        return True

    def _record(self) -> Any:
        event = self._module.Event(enable_timing=True)
        event.record(self._module.current_stream(self._device))
        return event


def _seconds_between(first: Any, second: Any) -> float:
    return float(first.elapsed_time(second)) / 1000
