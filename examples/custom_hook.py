"""A custom hook, which ends the run when the accuracy on a validation set no longer improves.

    python examples/custom_hook.py

A hook is any object with methods that are marked by ``@hookimpl`` and named after an event;
torchbase/engine/hookspecs.py lists the events. A method declares the arguments of the event that it needs, by name.
"""

from digits import CONFIG, DigitsSession

from torchbase import hookimpl


class EarlyStopping:
    def __init__(self, phase_name: str, patience: int) -> None:
        self.phase_name, self.patience = phase_name, patience
        self.best_accuracy, self.epochs_waited = 0.0, 0

    @hookimpl
    def on_phase_end(self, phase):
        if phase.name != self.phase_name:
            return
        self.epochs_waited += 1
        if phase.averages["accuracy"] > self.best_accuracy:
            self.best_accuracy, self.epochs_waited = phase.averages["accuracy"], 0

    @hookimpl
    def should_stop(self, run):
        if self.epochs_waited >= self.patience:
            run.request_stop(f"the accuracy on {self.phase_name} has not improved for {self.patience} epochs")

    # Every checkpoint saves this state, so a resumed run stops at the same epoch.
    def state_dict(self):
        return {"best_accuracy": self.best_accuracy, "epochs_waited": self.epochs_waited}

    def load_state_dict(self, state):
        self.best_accuracy, self.epochs_waited = state["best_accuracy"], state["epochs_waited"]


if __name__ == "__main__":
    config = {**CONFIG, "session": {**CONFIG["session"], "num_epochs": 100}}
    session = DigitsSession(config)
    session.register(EarlyStopping("validation-valid", patience=3))
    summary = session()
    print(f"stopped after {summary.epochs_done} epochs: {summary.stop_reason}")
    print(f"the run is in {summary.run_dir}")
