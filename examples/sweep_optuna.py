"""A search for hyper-parameters with Optuna, which stops unpromising runs early and may be killed at any moment.

    python examples/sweep_optuna.py

Needs ``pip install optuna``. The study is in a SQLite file, and each trial is a run whose name has the trial's number.
After any end, the same command goes on: the trial that hasn't ended is found in the study, and its run is resumed from
its newest checkpoint. The search ends as one that was never interrupted. One process at a time works on the study.
"""

from pathlib import Path

import optuna
from digits import CONFIG, DigitsSession
from optuna.trial import TrialState

from torchbase.hooks import Pruning

FOLDER = Path("runs", "optuna")
NAME = "digits"
TRIALS = 8
SPACE = {"learning_rate": (1e-4, 1e-1), "channels": (2, 16)}


def config_of(trial):
    # A sampler with a seed of its own for each value, so that it doesn't matter how often the program was started.
    seeds = range(1000 * trial.number, 1000 * trial.number + len(SPACE))
    values = {}
    for (name, (low, high)), seed in zip(SPACE.items(), seeds, strict=True):
        trial.study.sampler = optuna.samplers.TPESampler(seed=seed)
        suggest = trial.suggest_int if isinstance(low, int) else trial.suggest_float
        values[name] = suggest(name, low, high, log=True)
    return {
        **CONFIG,
        "session": {**CONFIG["session"], "group": NAME, "num_epochs": 4, "learning_rate": values["learning_rate"]},
        "network": {**CONFIG["network"], "channels": values["channels"]},
    }


def next_trial(study, storage):
    """Returns the trial that hasn't ended, or a new one, and the values that were reported to it."""
    unfinished = study.get_trials(states=(TrialState.RUNNING,))
    if not unfinished:
        return study.ask(), {}
    study_id = storage.get_study_id_from_name(study.study_name)
    trial_id = storage.get_trial_id_from_study_id_trial_number(study_id, unfinished[0].number)
    return optuna.Trial(study, trial_id), unfinished[0].intermediate_values


def train(study, trial, reported):
    session = DigitsSession.begin_or_resume(config_of(trial), FOLDER, tag=f"trial-{trial.number:03d}")
    pruning = Pruning(trial, "loss", "validation-valid", reported=reported)
    session.register(pruning)
    summary = session()
    if pruning.is_pruned:
        study.tell(trial, state=TrialState.PRUNED)
    else:
        study.tell(trial, summary.averages["validation-valid"]["loss"])


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    storage = optuna.storages.RDBStorage(f"sqlite:///{FOLDER / 'study.db'}")
    pruner = optuna.pruners.MedianPruner(n_startup_trials=3)
    study = optuna.create_study(
        study_name=NAME, storage=storage, direction="minimize", pruner=pruner, load_if_exists=True
    )
    ended = (TrialState.COMPLETE, TrialState.PRUNED)
    while len(study.get_trials(states=ended)) < TRIALS:
        train(study, *next_trial(study, storage))
    print(f"{len(study.get_trials(states=(TrialState.PRUNED,)))} of {TRIALS} trials were pruned")
    print(f"lowest loss: {study.best_value:.4f}, with {study.best_params}")
    print(f"the best run is in {FOLDER / f'trial-{study.best_trial.number:03d}'}")


if __name__ == "__main__":
    main()
