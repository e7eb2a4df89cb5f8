"""The sweeps end as uninterrupted ones, at whatever moment their programs are killed."""

import signal
from pathlib import Path

import pytest

from torchbase.files.bitwise import different_values
from torchbase.files.tensors import read_tensors

pytestmark = pytest.mark.thorough
EXAMPLES = Path(__file__).parents[2] / "examples"
SMALL = f"""
import os, signal, sys
sys.path.insert(0, {str(EXAMPLES)!r})
import {{name}} as sweep

def kill(owner, name, calls, is_before):
    method, left = getattr(owner, name), calls
    def killing(*arguments, **keywords):
        nonlocal left
        left -= 1
        result = None if is_before and left == 0 else method(*arguments, **keywords)
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    setattr(owner, name, killing)

{{change}}
sweep.main()
"""


def run(programs, folder, name, change, kill=""):
    folder.mkdir(exist_ok=True)
    done = programs.run("-c", SMALL.format(name=name, change=f"{change}\n{kill}"), cwd=folder)
    assert done.returncode == (-signal.SIGKILL if kill else 0), done.stderr
    assert "already reported" not in done.stderr
    return done.stdout


def networks_in(folder):
    return {str(path.relative_to(folder)): read_tensors(path) for path in sorted(folder.rglob("network.pth"))}


def test_a_sweep_in_a_loop_goes_on_with_the_run_that_has_not_ended(programs, tmp_path):
    name, change = "sweep_loop", "sweep.LEARNING_RATES, sweep.CHANNELS = (0.003, 0.03), (4,)"
    printed = run(programs, tmp_path / "whole", name, change)
    run(programs, tmp_path / "killed", name, change, "kill(sweep.DigitsSession, 'forward_pass', 300, False)")
    assert run(programs, tmp_path / "killed", name, change).split("is in")[0] == printed.split("is in")[0]
    found = [networks_in(tmp_path / which / "runs") for which in ("whole", "killed")]
    assert len(found[0]) == 6  # the best one of each of two runs, and those of two checkpoints
    assert different_values(*found) == []


def trials_in(folder):
    import optuna

    study = optuna.load_study(study_name="digits", storage=f"sqlite:///{folder}/runs/optuna/study.db")
    return [(one.number, one.state, one.params, one.values, one.intermediate_values) for one in study.trials]


# In this order: each interrupts what the one before has left.
KILLS = (
    "kill(sweep.optuna.Trial, 'suggest_int', 1, True)",  # with one of two hyper-parameters
    "kill(sweep.DigitsSession, 'forward_pass', 60, False)",  # in an epoch
    "kill(sweep.optuna.Trial, 'report', 2, False)",  # reported, not asked
    "kill(sweep.optuna.Trial, 'should_prune', 1, False)",  # asked, no checkpoint of that epoch
    "kill(sweep.optuna.Study, 'tell', 1, True)",  # ended, not told
    "kill(sweep.optuna.Study, 'tell', 2, True)",
    "kill(sweep.optuna.Study, 'tell', 2, True)",
)


def test_a_search_with_optuna_goes_on_with_the_trial_that_has_not_ended(programs, tmp_path):
    pytest.importorskip("optuna", reason="needs optuna; run by nox -s extras")
    change = "sweep.TRIALS = 5"
    printed = run(programs, tmp_path / "whole", "sweep_optuna", change)
    for kill in KILLS:
        run(programs, tmp_path / "killed", "sweep_optuna", change, kill)
    assert run(programs, tmp_path / "killed", "sweep_optuna", change) == printed
    whole, killed = trials_in(tmp_path / "whole"), trials_in(tmp_path / "killed")
    assert whole == killed
    assert {state.name for _, state, *_ in whole} == {"COMPLETE", "PRUNED"}
    assert different_values(networks_in(tmp_path / "whole"), networks_in(tmp_path / "killed")) == []
