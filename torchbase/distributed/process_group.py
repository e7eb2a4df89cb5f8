"""The processes of a training, which communicate through `torch.distributed`."""

import math
import pickle
import socket
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from functools import partial
from typing import Any

import torch
import torch.distributed as dist

from torchbase.distributed.board import Board, open_board
from torchbase.distributed.flat_sums import FlatSums
from torchbase.distributed.messages import Messages, as_bytes, message_of, pickled, unpack
from torchbase.distributed.processes import Processes
from torchbase.distributed.rows import AREA, SHOWS_WRITES_IN_ORDER, ConnectedRows, Rows, SharedRows, is_of_communication
from torchbase.distributed.swap import swap
from torchbase.distributed.tree_sum import TreeSum
from torchbase.errors import ProcessError, ProcessLostError


class ProcessGroup(Processes):
    """The processes of the default group of `torch.distributed`, which has to be initialized.

    If all of them run on one machine, values go through memory that they share, and so do rows and sums of tensors on
    the CPU. Everything else is sent by `torch.distributed`, values as tensors.
    """

    def __init__(
        self, host_group: dist.ProcessGroup | None = None, time_limit: timedelta = dist.default_pg_timeout
    ) -> None:
        """Joins the processes. All of them call this.

        Args:
            host_group: The group that sends what is on the CPU; None means the default group.
            time_limit: How long a process waits for the others at shared memory, and in the group of another thread.

        Raises:
            ProcessError: If another process has ended or doesn't answer.
        """
        self.index, self.count = dist.get_rank(), dist.get_world_size()
        self._time_limit, self._has_left = time_limit, False
        self._name = f"Process {self.index} of {self.count}, on {socket.gethostname()},"
        self._now = time.monotonic()
        self._messages, self._sums = Messages(), FlatSums(self.count)
        self._connected = ConnectedRows(host_group)
        self._rows: Rows | None = None  # of tensors on the CPU, once one is exchanged
        self._board: Board | None = None
        self._board = self._open_board()

    def __getstate__(self) -> dict[str, Any]:
        """Returns what a copy in another process may know. It can't communicate."""
        shared = {"_connected", "_board", "_rows"}
        return {name: value for name, value in vars(self).items() if name not in shared} | {"_has_left": True}

    def __deepcopy__(self, memo: object) -> "ProcessGroup":
        """Returns this object, since connections can't be copied."""
        return self

    def gather(self, value: Any, purpose: str = "a value") -> list[Any]:
        """Returns the values of all processes; see `Processes.gather`."""
        content = pickled((purpose, time.monotonic(), value))
        with self._errors_explained(purpose):
            if self._board is not None:
                return self._values_of(self._board.exchange(content))
            return self._sent_values_of(self._connected.gather(self._messages.pack(content)), content)

    def now(self) -> float:
        """Returns the seconds of the clock of the main process; see `Processes.now`."""
        return self._now

    def for_another_thread(self) -> "ProcessGroup":
        """Returns the same processes in a group of their own; see `Processes.for_another_thread`."""
        with self._errors_explained("the connections of another thread"):
            group = dist.new_group(backend="gloo", timeout=self._time_limit)
        other = ProcessGroup(group, self._time_limit)
        other.members = self.members
        return other

    def leave(self) -> None:
        """Leaves shared memory, so that the others have an error if they wait for this process."""
        for board in (self._board, self._rows.board if isinstance(self._rows, SharedRows) else None):
            if board is not None:
                board.leave()

    def reduce(
        self,
        tensors: Sequence[torch.Tensor | None],
        like: Sequence[torch.Tensor],
        levels: Sequence[int] | None = None,
    ) -> list[torch.Tensor | None]:
        """Adds tensors of all processes in a fixed order; see `Processes.reduce`."""
        self._meet("a sum of tensors")
        return self._reduce(tensors, like, levels)

    def gather_and_reduce(
        self,
        value: Any,
        tensors: Sequence[torch.Tensor | None],
        like: Sequence[torch.Tensor],
        levels: Sequence[int] | None = None,
        purpose: str = "a value and a sum",
    ) -> tuple[list[Any], list[torch.Tensor | None]]:
        """Without a board, sends the value together with the first tensors; see `Processes.gather_and_reduce`."""
        # To read a value from a device would wait for all its work.
        if self._board is not None or not like or like[0].device.type != "cpu":
            return self.gather(value, purpose), self._reduce(tensors, like, levels)
        levels = [0] * self.count if levels is None else levels
        content = pickled((purpose, time.monotonic(), value))
        message = self._messages.pack(content)
        values: list[Any] = []

        def add(rows: torch.Tensor) -> torch.Tensor:
            if values:
                return self._add_rows(rows, levels)
            if self.count == 2:
                received_here = swap([message, rows], self._connected.host_group)
                # First, so that a process which is elsewhere is noticed, and not waited for.
                messages = torch.stack(self._in_order(message, next(received_here)))
                values.extend(self._sent_values_of(messages, content))
                return self._add_both(rows, *received_here)
            head = message.view(rows.dtype).expand(self.count, -1)
            received = self._connected.exchange(torch.cat([head, rows], dim=1))
            messages = received[:, : head.shape[1]].contiguous().view(torch.uint8)
            values.extend(self._sent_values_of(messages, content))
            return self._join_rows(received[:, head.shape[1] :], levels)

        with self._errors_explained(purpose):
            sums, sparse = self._sums.add(tensors, like, add)
        return values, self._with_sparse(sums, sparse, tensors, levels)

    def tell_tensors(self, tensors: Sequence[torch.Tensor], source: int = 0) -> None:
        """Copies the values of tensors of one process; see `Processes.tell_tensors`."""
        self._meet("the state of the network")
        with self._errors_explained("the state of the network"), torch.no_grad():
            for device in dict.fromkeys(tensor.device for tensor in tensors):
                own = [tensor for tensor in tensors if tensor.device == device]
                flat = torch.cat([as_bytes(tensor) for tensor in own])
                dist.broadcast(flat, src=source, group=self._connected.group_of(flat))
                if self.index != source:
                    for tensor, content in zip(own, torch.split(flat, [one.nbytes for one in own]), strict=True):
                        # A copy, since a view of other bytes may not be aligned.
                        tensor.copy_(content.clone().view(tensor.dtype).view(tensor.shape))

    def gather_tensor(self, tensor: torch.Tensor) -> torch.Tensor:
        """Returns the tensors of all processes; see `Processes.gather_tensor`."""
        self._meet("tensors of all processes")
        with self._errors_explained("tensors of all processes"):
            return self._rows_for(tensor).gather(tensor)

    def explaining(self, purpose: str) -> AbstractContextManager[None]:
        """Explains errors of `torch.distributed`; see `Processes.explaining`."""
        return self._errors_explained(purpose, in_own_code=False)

    def deal(self, rows: torch.Tensor | None, own: torch.Tensor, rows_of_one: int) -> None:
        """Sends each process its rows of a tensor; see `Processes.deal`."""
        self._meet("the first values of the network")
        size = rows_of_one * math.prod(own.shape[1:])
        received = torch.zeros(size * own.element_size(), dtype=torch.uint8, device="cpu")
        pieces: list[torch.Tensor] | None = None
        if rows is not None:
            flat = as_bytes(rows.cpu())
            padded = torch.zeros(len(received) * self.count, dtype=torch.uint8, device="cpu")
            padded[: len(flat)] = flat
            pieces = list(padded.view(self.count, -1))
        with self._errors_explained("the first values of the network"):
            dist.scatter(received, pieces, src=0, group=self._connected.host_group)
        own.copy_(received[: own.nbytes].view(own.dtype).view(own.shape))

    def _meet(self, purpose: str) -> None:
        """Compares where the processes are, if that takes no time, before they communicate without a value."""
        if self._board is not None:
            self.gather(None, purpose)

    def _reduce(
        self,
        tensors: Sequence[torch.Tensor | None],
        like: Sequence[torch.Tensor],
        levels: Sequence[int] | None,
    ) -> list[torch.Tensor | None]:
        levels = [0] * self.count if levels is None else levels
        with self._errors_explained("a sum of tensors"):
            sums, sparse = self._sums.add(tensors, like, lambda rows: self._add_rows(rows, levels))
        return self._with_sparse(sums, sparse, tensors, levels)

    def _rows_for(self, tensor: torch.Tensor) -> Rows:
        if tensor.device.type != "cpu":
            return self._connected
        if self._rows is None:
            board = self._open_board(AREA) if SHOWS_WRITES_IN_ORDER and self._board is not None else None
            self._rows = self._connected if board is None else SharedRows(board, self._compare_on)
        return self._rows

    def _open_board(self, area: int = 0) -> Board | None:
        gather = partial(self.gather, purpose="the memory that they share")
        return open_board(self.index, self.count, self._time_limit, gather, area)

    def _compare_on(self, board: Board, purpose: str) -> None:
        self._values_of(board.exchange(pickled((purpose, time.monotonic(), None))))

    def _sent_values_of(self, messages: torch.Tensor, content: bytes) -> list[Any]:
        capacity = self._messages.capacity_of_second_step(messages)
        if capacity:
            messages = self._connected.gather(message_of(content, capacity))
        return self._values_of(unpack(messages))

    def _values_of(self, contents: Sequence[bytes]) -> list[Any]:
        received = [pickle.loads(content) for content in contents]
        for index, (purpose, _, _) in enumerate(received):
            if purpose != received[0][0]:
                raise ProcessError(
                    f"The processes are at different places of the program: process 0 communicates for "
                    f"{received[0][0]}, and process {index} for {purpose}. To fix, make each decision on values that "
                    "are the same on each process, or on one process with run.processes.tell(…)."
                )
        self._now = received[0][1]
        return [value for _, _, value in received]

    def _add_rows(self, rows: torch.Tensor, levels: Sequence[int]) -> torch.Tensor:
        way = self._rows_for(rows)
        if self.count == 2 and way is self._connected and rows.device.type == "cpu":
            return self._add_both(rows, *swap([rows], self._connected.host_group))
        return self._join_rows(way.exchange(rows), levels)

    def _add_both(self, own: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        # Two processes send as many bytes in one step as they would in two, and wait once.
        first, second = self._in_order(own, other)
        return first.add_(second)

    def _in_order(self, own: torch.Tensor, other: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return (own, other) if self.index == 0 else (other, own)

    def _join_rows(self, rows: torch.Tensor, levels: Sequence[int]) -> torch.Tensor:
        total = TreeSum()
        for row, level in zip(rows, levels, strict=True):
            total.add([row], level)
        (sum_of_rows,) = total.total()
        row = rows[0] if sum_of_rows is None else sum_of_rows
        return self._rows_for(row).gather(row)

    def _with_sparse(
        self,
        sums: list[torch.Tensor | None],
        sparse: Sequence[int],
        tensors: Sequence[torch.Tensor | None],
        levels: Sequence[int],
    ) -> list[torch.Tensor | None]:
        if not sparse:
            return sums
        total = TreeSum()  # only whole tensors can be sent
        own = [tensors[position] for position in sparse]
        for received, level in zip(self.gather(own, "a sum of sparse tensors"), levels, strict=True):
            total.add(received, level)
        for position, tensor in zip(sparse, total.total(), strict=True):
            sums[position] = tensor
        return sums

    @contextmanager
    def _errors_explained(self, purpose: str, in_own_code: bool = True) -> Iterator[None]:
        if self._has_left:
            raise ProcessLostError(
                f"{self._name} has left the others after an earlier error, so it can't communicate for {purpose}. To "
                "fix, end the program after such an error, and resume the run."
            )
        try:
            yield
        except ProcessError:
            raise
        except BaseException as error:
            is_lost = is_of_communication(error)
            if is_lost or in_own_code:  # the others can't know how far this process was, such as if a handler raised
                self._leave(error)
            if not is_lost:
                raise
            what = "doesn't answer" if "timed out" in str(error).lower() else "has ended"
            raise ProcessLostError(
                f"{self._name} has lost the others, since one of them {what}. It was communicating for {purpose}. "
                f"The cause is: {error}"
            ) from error

    def _leave(self, error: BaseException) -> None:
        """Closes the connections, so that each process that waits for this one has the same error at once."""
        self._has_left = True
        self.leave()  # first, since the group may wait for others
        traceback.clear_frames(error.__traceback__)  # each reference to the group keeps its connections open
        if dist.is_initialized():
            group, self._connected.host_group = self._connected.host_group, None
            dist.destroy_process_group(group)
