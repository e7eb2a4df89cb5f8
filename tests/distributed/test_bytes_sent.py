"""How many bytes a process sends in an iteration without shared memory, counted by call of `torch.distributed`."""

from itertools import pairwise

import pytest
import several
import torch
import torch.distributed as dist
from divided import in_suite
from tiny import TinySession, config_with

from torchbase import hookimpl
from torchbase.distributed import board, process_group, rows

BYTES_OF_A_MESSAGE = 1040
FEATURES = 3000


class Session(TinySession):
    def init_network(self):
        return torch.nn.Sequential(torch.nn.Linear(3, FEATURES), torch.nn.ReLU(), torch.nn.Linear(FEATURES, 1))

    def forward_pass(self, mini_batch):
        return {"output": self.network(mini_batch["x"]).squeeze(1), "target": mini_batch["y"]}


class CountBytes:
    """Notes how many bytes this process has sent when each training iteration starts."""

    def __init__(self):
        self.sent, self.at_start = 0, []
        count = dist.get_world_size
        self._count(dist, "all_to_all_single", lambda received, sent: sent.nbytes * (count() - 1) // count())
        self._count(rows, "all_gather", lambda received, row: row.nbytes * (count() - 1))
        for module in (process_group, rows):
            self._count(module, "swap", lambda tensors, group: sum(tensor.nbytes for tensor in tensors))
        self._count(dist, "broadcast", lambda tensor: tensor.nbytes * (count() - 1))

    def _count(self, module, name, bytes_of):
        function = getattr(module, name)

        def counted(*tensors, **settings):
            self.sent += bytes_of(*tensors)
            return function(*tensors, **settings)

        setattr(module, name, counted)  # of this process alone, which ends with the test

    @hookimpl
    def on_iteration_start(self, phase):
        if phase.is_training:
            self.at_start.append(self.sent)


def sent_in_iterations(index, folder, parts):
    board.SHARES_MEMORY = False  # in this process alone
    count = CountBytes()
    config = {
        **config_with(num_epochs=1, mini_batch_size=8, mini_batch_parts=parts),
        "network": {"architecture": "Sequential"},
    }
    session = Session(config, folder)
    session.register(count)
    session()
    bytes_of_gradients = sum(parameter.nbytes for parameter in session.network.parameters())
    return [last - first for first, last in pairwise(count.at_start)], bytes_of_gradients


@pytest.mark.parametrize(("processes", "parts"), in_suite([(2, 2), (2, 8), (3, 8), (5, 5)], (2, 8), (3, 8)))
def test_a_process_sends_the_gradients_almost_twice_and_two_messages_to_each_other(tmp_path, processes, parts):
    for iterations, gradients in several.values_of(processes, sent_in_iterations, tmp_path, parts):
        numbers = 2 * 4 * 4 + 4 * processes  # whether there are gradients, and what fills the rows
        sums = 2 * (processes - 1) / processes * (gradients + numbers)
        messages = 2 * (processes - 1) * BYTES_OF_A_MESSAGE
        assert len(iterations) >= 2
        for sent in iterations:
            assert 0.99 * sums < sent <= sums + messages
