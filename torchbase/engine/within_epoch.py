"""What the loop does between two iterations of an epoch: validate, vote, and end at the last iteration of the run."""

from torchbase.engine.phase import Phase
from torchbase.engine.run import Run


def ends_within_epoch(run: Run, training: Phase) -> bool:
    """Validates after a training iteration where this is due.

    After the last iteration of the run, all validation sets are validated and the network is voted on, unless the
    iteration ends an epoch, which then does both.

    Args:
        run: The run.
        training: The training phase.

    Returns:
        Whether the run ends after this iteration, within the epoch: it is the last one, or a stop was requested.
    """
    _validate(run, training)
    if run.should_stop_now():
        return True
    if not run.has_done_all_iterations or training.is_at_end_of(run.epoch):
        return False
    if not run.validation:
        run.read_values()
        run.current_phase = None
        decide_whether_best(run)
    training.progress.done_after = run.progress.iterations
    return True


def run_from_start_if_done(run: Run, phase: Phase) -> None:
    """Runs a phase, from its first mini-batch if it was done some iterations ago in this epoch.

    Args:
        run: The run.
        phase: The phase.
    """
    if phase.progress.is_done:
        phase.progress.mini_batches, phase.progress.is_done = 0, False
    run.call.run_phase(run=run, phase=phase)


def decide_whether_best(run: Run) -> None:
    """Fires `is_best_epoch` and, if the network is the best so far, `on_best_epoch`.

    Args:
        run: The run.
    """
    is_best = run.call.is_best_epoch(run=run)
    if run.processes.tell(is_best, "the decision on the best network"):
        run.call.on_best_epoch(run=run)


def _validate(run: Run, training: Phase) -> None:
    due = run.phases_due_within_training
    if not due:
        return
    run.read_values()
    for phase in due:
        if not run.should_stop_now():
            run_from_start_if_done(run, phase)
    if run.stop_reason is None or not run.phases_due_within_training:
        decide_whether_best(run)
    run.current_phase = training
    run.call.on_phase_start(run=run, phase=training)
    run.is_between_iterations = True
