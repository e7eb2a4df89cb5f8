"""Refuses an iteration that several processes would compute without sharing its gradients."""

from torchbase.engine.run import Run
from torchbase.errors import HookError
from torchbase.listeners import without_wrappers

EVENT = "run_iteration"


def check_gradients_are_shared(run: Run) -> None:
    """Checks that the hook which runs the iterations declares that it adds the gradients of all processes.

    Args:
        run: The run, with its hooks registered.

    Raises:
        HookError: If there are several processes, and the attribute ``shares_gradients`` of the hook isn't True.
    """
    count = run.processes.count
    if count == 1:
        return
    for name in without_wrappers(run.listeners[EVENT]):
        if getattr(run.hooks[name], "shares_gradients", False) is not True:
            raise HookError(
                f"'{name}' implements {EVENT} without sharing gradients, so each of the {count} processes "
                "would train a network of its own. To fix, let MiniBatchParts run the iterations, as a session does, "
                "and implement run_part in place of run_iteration: it computes the gradients of one part of a "
                "mini-batch. Or add the gradients in run_iteration with run.processes.reduce(…), and set the attribute "
                "shares_gradients = True of the hook or function."
            )
