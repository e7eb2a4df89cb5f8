from torchbase import Engine, Phase, Run, hookimpl
from torchbase.checkpoints.muted_backends import mute_backends


class Backend:
    def __init__(self):
        self.logged = []

    @hookimpl
    def log_scalars(self, scalars):
        self.logged.append(scalars)

    def load_state_dict(self, state):
        raise AssertionError(state)


class Other:
    def __init__(self):
        self.called = 0

    @hookimpl
    def on_run_end(self):
        self.called += 1


def test_hooks_that_log_and_those_that_are_named_do_nothing_and_keep_their_names():
    backend, named, other = Backend(), Other(), Other()
    engine = Engine(lambda run, phase, batch: None)
    for name, hook in (("backend", backend), ("named", named), ("other", other)):
        engine.register(hook, name)
    mute_backends(engine, "named", "missing")
    assert {"backend", "named", "other"} <= engine.hooks.keys()
    run = Run(training=Phase("training", [1], is_training=True), max_epochs=1)
    engine.run(run)
    engine.call.log_scalars(run=run, scalars={"loss": 1.0}, step=1)
    assert (backend.logged, named.called, other.called) == ([], 0, 1)
    muted = engine.hooks["backend"]
    assert muted.state_dict() == {}
    muted.load_state_dict({"of the backend": 1})
