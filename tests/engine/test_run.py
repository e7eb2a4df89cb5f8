"""How a run stops on several processes: one decision for all."""

from torchbase import Phase, Run
from torchbase.distributed.processes import SingleProcess


class Meanwhile(SingleProcess):
    """Two processes, of which this one receives a signal while it communicates."""

    count = 2

    def __init__(self):
        self.run = None

    def gather(self, value, purpose="a value"):
        self.run.request_stop("interrupted")  # as a signal handler does
        return [value, None]


def test_a_stop_that_is_requested_while_the_processes_decide_is_not_lost():
    processes = Meanwhile()
    run = processes.run = Run(training=Phase("training", (), is_training=True), max_epochs=1, processes=processes)
    assert not run.should_stop_now()
    assert run.should_stop_now()
    assert (run.stop_reason, run.stop_request) == ("interrupted", None)
