"""Runs a function in several threads that take turns, each with a `Processes` of its own, as several processes would.

Only one of them runs at a time, until it communicates. One that waits for another that has ended is an error.
"""

import pickle
import threading

from torchbase.distributed.processes import Processes


class _Shared:
    def __init__(self):
        self.turn = threading.Condition()
        self.rounds = {}
        self.ended = set()


class InTurns(Processes):
    def __init__(self, index, count, shared):
        self.index, self.count = index, count
        self.gathered = 0
        self._shared = shared

    def gather(self, value, purpose="a value"):
        values = self._shared.rounds.setdefault(self.gathered, {})
        self.gathered += 1
        values[self.index] = purpose, pickle.loads(pickle.dumps(value))
        self._shared.turn.notify_all()
        self._shared.turn.wait_for(lambda: len(values) == self.count or self._shared.ended - values.keys())
        if len(values) < self.count:
            raise AssertionError(f"process {self.index} waits for {self._shared.ended - values.keys()}, for {purpose}")
        if len({other for other, _ in values.values()}) > 1:
            raise AssertionError(f"the processes are at different places: {values}")
        return [values[index][1] for index in range(self.count)]

    def reduce(self, tensors, like, levels=None):
        raise NotImplementedError

    def tell_tensors(self, tensors, source=0):
        raise NotImplementedError

    def gather_tensor(self, *arguments):
        raise NotImplementedError

    def for_another_thread(self):
        raise NotImplementedError

    def now(self):
        return float(self.gathered)


def values_of(count, function, *arguments):
    """Calls ``function(processes, *arguments)`` once per process, and returns its values, or raises the first error."""
    shared = _Shared()
    results, errors = [None] * count, []

    def call(index):
        with shared.turn:
            try:
                results[index] = function(InTurns(index, count, shared), *arguments)
            except BaseException as error:
                errors.append(error)
            finally:
                shared.ended.add(index)
                shared.turn.notify_all()

    threads = [threading.Thread(target=call, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results
