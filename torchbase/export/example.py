"""The network of a run, and what its session calls it with, for mini-batches of several sizes."""

import copy
import logging
import shlex
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from torchbase.data.device_copies import map_tensors
from torchbase.distributed.joining import has_others
from torchbase.errors import ProcessError, StepError
from torchbase.files.durable import write_json
from torchbase.files.tensors import write_tensors
from torchbase.hooks.seed_capture import SEEDS_FILE
from torchbase.run_directory.config_snapshot import CONFIG_FILE, snapshots
from torchbase.run_directory.names import NETWORK_FILE
from torchbase.session.loading import find_session_class
from torchbase.session.run_source import saved_config

if TYPE_CHECKING:
    from torchbase.session.base import TrainingBaseSession

SIZES = (3, 2)  # torch.export takes a dimension of length 1 for one that is always 1
MINI_BATCHES = 4  # of each size, since padded lengths differ between them

_logger = logging.getLogger("torchbase")


class Call(NamedTuple):
    """What a network was called with.

    Attributes:
        args: The arguments by position.
        kwargs: The arguments by name.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def network_with_calls(
    run_dir: Path, file: Path, state: Mapping[str, Any], session_class: "type[TrainingBaseSession] | None"
) -> tuple[torch.nn.Module, list[Call]]:
    """Builds the network of a run, and passes mini-batches through ``forward_pass``.

    The session opens a copy of what it needs of the run directory, so the run may be training meanwhile.

    Args:
        run_dir: The path of the run directory.
        file: The file to write, for messages.
        state: What the ``state_dict`` of the network returned.
        session_class: The class of the session; None for the one that the run directory names.

    Returns:
        The network on the CPU, in evaluation mode, and its calls for mini-batches of several sizes.

    Raises:
        RunDirectoryError: If the session class of the run can't be found.
        ProcessError: If this is one of several processes.
        StepError: If ``forward_pass`` doesn't call the network.
    """
    command = f"torchbase export {shlex.quote(str(run_dir))} {shlex.quote(str(file))}"
    if has_others():
        raise ProcessError(
            "A program can't be exported by one of several processes, since it builds another session. To fix, run "
            f"after the training: {command}"
        )
    remedy = f"run: {command} --session FILE.py:CLASS"
    found = session_class or find_session_class(run_dir, remedy=f"pass session_class, or {remedy}")
    with tempfile.TemporaryDirectory(prefix="torchbase-export-") as parent:
        copied = Path(parent, run_dir.name)
        _copy_run(run_dir, state, copied)
        with found.resume(copied.parent, copied.name) as session:
            session.load_best_network()
            return session.network.eval(), _calls_in(session)


def _copy_run(run_dir: Path, state: Mapping[str, Any], copied: Path) -> None:
    config = copy.deepcopy(saved_config(run_dir))
    own = {"device_name": "cpu", "validation_mini_batch_size": SIZES[0], "mini_batch_parts": None}
    config["session"] |= {**own, "dataloader_num_workers": 0, "plugins": []}
    (copied / SEEDS_FILE).parent.mkdir(parents=True)
    write_json(copied / CONFIG_FILE, config)
    for name in (SEEDS_FILE, *(one.name for one in snapshots(run_dir, "environment"))):
        (copied / name).write_bytes((run_dir / name).read_bytes())
    write_tensors(copied / NETWORK_FILE, state)


def _calls_in(session: "TrainingBaseSession") -> list[Call]:
    validation = list(session.datasets_valid_dict.values())
    dataset = validation[0] if validation else session.dataset_train
    calls: list[Call] = []
    numbers = []
    for size in SIZES:
        changes = {"validation_mini_batch_size": size}
        session.config_session = session.config_session.model_copy(update=changes)
        with _recording_calls(session.network) as recorded:
            for _ in islice(session.predict(dataset), MINI_BATCHES):
                calls += recorded[:1]
                numbers.append(len(recorded))
                recorded.clear()
    _check_numbers(session, numbers)
    return calls


@contextmanager
def _recording_calls(network: torch.nn.Module) -> Iterator[list[Call]]:
    calls: list[Call] = []

    def record(_: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        # Copies, since the network may change its inputs in place.
        calls.append(Call(*map_tensors((args, kwargs), lambda tensor: tensor.detach().clone())))

    handle = network.register_forward_pre_hook(record, with_kwargs=True)
    try:
        yield calls
    finally:
        handle.remove()


def _check_numbers(session: "TrainingBaseSession", numbers: Sequence[int]) -> None:
    """Checks how often the network was called for each mini-batch."""
    name = type(session.network).__name__
    if 0 in numbers:
        raise StepError(
            f"forward_pass of {type(session).__name__} doesn't call self.network(…) itself, only parts of it, so what "
            f"the program has to compute isn't known. To fix, let {name}.forward compute it, or export the weights, "
            "to a file that ends with .safetensors."
        )
    if max(numbers) > 1:
        _logger.warning(
            "forward_pass calls the network %d times for a mini-batch. The program computes one call of %s.forward, "
            "with inputs like those of the first.",
            max(numbers),
            name,
        )
