"""How much memory the checkpoint of a sharded run takes on each process, counted in bytes of new tensors."""

from types import SimpleNamespace

import pytest
import several
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from torchbase.checkpoints import run_state, writers
from torchbase.checkpoints.together import newest_together
from torchbase.distributed.joining import join
from torchbase.distributed.shards import local_of
from torchbase.engine.phase import Phase
from torchbase.engine.run import Run
from torchbase.files.background_writes import BackgroundWrites
from torchbase.testing.forked import reason_against_forking

several.import_sharding()
pytestmark = pytest.mark.skipif(reason_against_forking() is not None, reason=str(reason_against_forking()))

SIDE = 512
BYTES_OF_WEIGHTS = 2 * 4 * SIDE * SIDE
SMALL = 100_000  # biases, numbers, random streams


class CountNewBytes(TorchDispatchMode):
    """Counts the bytes of the memory of all tensors that operations make."""

    def __init__(self):
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        result = function(*arguments, **(keywords or {}))
        is_mapped = "set_" in str(function)  # the memory is a file
        if isinstance(result, torch.Tensor) and not is_mapped and not result.is_meta:
            before = {_memory_of(one) for one in torch.utils._pytree.tree_leaves(arguments) if _is_tensor(one)}
            if _memory_of(result) not in before:
                self.bytes += local_of(result).untyped_storage().nbytes()
        return result


def _is_tensor(value):
    return isinstance(value, torch.Tensor)


def _memory_of(tensor):
    return local_of(tensor).untyped_storage().data_ptr()


def run_with(processes, folder):
    """A sharded run after one step, without an engine."""
    from torch.distributed.fsdp import fully_shard

    torch.manual_seed(1)
    network = torch.nn.Sequential(torch.nn.Linear(SIDE, SIDE), torch.nn.Linear(SIDE, SIDE))
    if processes.count > 1:
        fully_shard(network)
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.ones(1, SIDE)).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    directory = None
    if processes.is_main:
        directory = SimpleNamespace(states=folder, writes=BackgroundWrites())
    training = Phase("training", (), is_training=True)
    return Run(training, 1, network=network, optimizer=optimizer, processes=processes, run_directory=directory)


def write_and_count(index, folder):
    processes = join()
    run = run_with(processes, folder)
    writer = writers.writer_of(run)
    counts = []
    for iteration in (1, 2):
        run.progress.iterations = iteration
        with CountNewBytes() as new:
            writer.write(run)
        counts.append(new.bytes)
        writer.wait()
    return counts


def restore_and_count(index, folder):
    processes = join()
    run = run_with(processes, folder)
    with CountNewBytes() as new:
        run_state.restore(run, newest_together(processes, folder, is_opened=True))
    return new.bytes


@pytest.mark.parametrize("count", [2, 4])
def test_a_process_holds_one_copy_of_its_rows_and_reads_no_others(tmp_path, count):
    rows = 3 * BYTES_OF_WEIGHTS / count  # weights, and two states of Adam
    for first, second in several.values_of(count, write_and_count, tmp_path):
        assert rows <= first <= rows + SMALL
        assert second <= SMALL  # the memory is used again
    for readers in (2, 4):
        share = 3 * BYTES_OF_WEIGHTS / readers
        for read in several.values_of(readers, restore_and_count, tmp_path):
            assert share <= read <= share + SMALL


def test_of_a_checkpoint_of_one_process_each_process_reads_its_rows(tmp_path):
    several.values_of(1, write_and_count, tmp_path)
    for read in several.values_of(2, restore_and_count, tmp_path):
        assert 3 * BYTES_OF_WEIGHTS / 2 <= read <= 3 * BYTES_OF_WEIGHTS / 2 + SMALL
