"""Runs a function in several forked processes that torchbase takes for those of a launcher."""

import importlib
from functools import partial

import pytest

from torchbase.errors import ConfigError
from torchbase.testing.forked import forked, wait_for

SECONDS = 120


def run(count, function, *arguments, killed=None, seconds=SECONDS):
    """Calls ``function(index, *arguments)`` in processes 0 to ``count`` - 1, and returns how each ended.

    ``killed(processes)`` is called once, to kill some of them. Those that still run after ``seconds`` are killed.
    """
    with forked(count, partial(_call, function, arguments)) as processes:
        if killed is not None:
            killed([one.process for one in processes])
        return wait_for(processes, seconds)


def import_sharding():
    """Imports once what each forked process of a sharded run would import, which takes seconds.

    Skips the tests of the module that calls it if this version of torch can't shard a network.
    """
    if (reason := reason_against_sharding()) is not None:
        pytest.skip(reason, allow_module_level=True)
    importlib.import_module("torch._dynamo")


def reason_against_sharding():
    """Why this version of torch can't shard a network; None if it can."""
    from torchbase.sharding.checks import check_torch_can_shard  # imports FSDP2, which most tests don't need

    try:
        check_torch_can_shard()
    except ConfigError as error:
        return str(error)
    return None


def values_of(count, function, *arguments, **settings):
    """As `run`, but returns what the functions returned, and raises the first error."""
    ended = run(count, function, *arguments, **settings)
    for index, one in enumerate(ended):
        if one.error is not None or one.exit_code != 0:
            raise AssertionError(f"process {index} of {count} (exit code {one.exit_code}): {one.error}")
    return [one.value for one in ended]


def _call(function, arguments, index):
    return function(index, *arguments)
