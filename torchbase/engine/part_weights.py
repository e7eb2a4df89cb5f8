"""How much the parts of a mini-batch weigh in averages of its loss, if not by their samples."""

from collections.abc import Mapping
from typing import Any

from torchbase.data.parts import SplitMiniBatch, split_mini_batch
from torchbase.engine.loss_weights import Weight
from torchbase.engine.run import Run


def weights_of_parts(run: Run, parts: Mapping[int, Any]) -> dict[int, Weight] | None:
    """Returns how much each part of this process weighs; None for its samples.

    Args:
        run: The run.
        parts: The parts by number.
    """
    if run.loss_weights is None:
        return None
    weights = {number: run.loss_weights.of(part) for number, part in parts.items()}
    if run.processes.count == 1:
        return weights
    return {number: float(weight) for number, weight in weights.items()}  # to send them


def weight_of_whole(run: Run, batch: Any, number: int, weights: Mapping[int, Weight]) -> Weight:
    """Returns how much a mini-batch weighs that this process has as a whole. Nothing is sent.

    Args:
        run: The run.
        batch: The mini-batch.
        number: The number of parts.
        weights: How much the parts of this process weigh, by number.
    """
    if run.processes.count == 1 or isinstance(batch, SplitMiniBatch):
        return sum(weights.values())
    of_all = weights_of_parts(run, dict(enumerate(split_mini_batch(batch, number)))) or {}
    return sum(of_all.values())


def samples_and_weight_of_all(run: Run, sizes: Mapping[int, int], weights: Mapping[int, Weight]) -> tuple[int, Weight]:
    """Returns the samples and the weight of a mini-batch whose parts are read by several processes.

    Args:
        run: The run.
        sizes: The number of samples of each part of this process, by number.
        weights: How much each part of this process weighs, by number.

    Raises:
        ProcessError: If another process has ended or doesn't answer.
    """
    every = run.processes.gather((dict(sizes), dict(weights)), "the samples and weights of a mini-batch")
    by_number = {number: weight for _, of_process in every for number, weight in of_process.items()}
    total = sum(by_number[number] for number in sorted(by_number))  # the order of additions decides the last bits
    return sum(sum(of_process.values()) for of_process, _ in every), total
