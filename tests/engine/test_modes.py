import pytest
import torch
from torch import nn

from torchbase import Engine, Phase, Run, hookimpl
from torchbase.engine.modes import frozen_in_eval, modes_of, modes_restored, set_mode
from torchbase.engine.training_step import TrainingStep
from torchbase.hooks import Compile, ExponentialMovingAverage, Rehearsal, Unfreeze
from torchbase.testing import TinyNetwork, TinySession, tiny_config


def layers():
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Sequential(nn.Linear(4, 1)))


class Distilled(nn.Module):
    def __init__(self):
        super().__init__()
        self.teacher, self.student = layers(), layers()
        self.teacher.requires_grad_(False).eval()

    def forward(self, x):
        return self.student(x) + self.teacher(x)


def in_training(network):
    return {name for name, module in network.named_modules() if module.training}


ALL_OF_STUDENT = {"", "student", *(f"student.{name}" for name in ("0", "1", "2", "3", "3.0"))}


def test_what_is_frozen_and_in_evaluation_mode_stays_so():
    network = Distilled()
    stay = frozen_in_eval(network)
    for _ in range(2):
        set_mode(network, True, stay)
        assert in_training(network) == ALL_OF_STUDENT
        set_mode(network, False, stay)
        assert in_training(network) == set()


@pytest.mark.parametrize(
    "build",
    [
        lambda network: network.teacher.train(),  # frozen, in training mode
        lambda network: network.teacher.requires_grad_(True),  # in evaluation mode, not frozen
        lambda network: network.eval() and network.teacher.requires_grad_(True),
    ],
)
def test_what_is_not_both_is_in_training_mode(build):
    network = Distilled()
    build(network)
    stay = frozen_in_eval(network)
    set_mode(network, True, stay)
    assert in_training(network) == set(all_names(network))


def all_names(network):
    return [name for name, _ in network.named_modules()]


def test_a_part_that_is_unfrozen_trains_and_the_rest_stays():
    network = Distilled()
    stay = frozen_in_eval(network)
    network.teacher[3].requires_grad_(True)
    set_mode(network, True, stay)
    assert in_training(network) == ALL_OF_STUDENT | {"teacher", "teacher.2", "teacher.3", "teacher.3.0"}
    network.teacher.requires_grad_(True)
    set_mode(network, True, stay)
    assert in_training(network) == set(all_names(network))
    network.teacher.requires_grad_(False)
    set_mode(network, True, stay)
    assert in_training(network) == ALL_OF_STUDENT


def test_a_layer_that_was_built_in_training_mode_stays_in_training_mode_within_a_frozen_module():
    network = Distilled()
    network.teacher[2].train()  # dropout at inference, on purpose
    stay = frozen_in_eval(network)
    set_mode(network, True, stay)
    assert in_training(network) == ALL_OF_STUDENT | {"teacher.2"}


def test_modules_are_found_inside_a_wrapper():
    network = Distilled()
    stay = frozen_in_eval(network)
    wrapper = nn.Sequential(network)
    set_mode(wrapper, True, stay)
    assert in_training(network) == ALL_OF_STUDENT


class Merging(nn.Linear):
    """A layer that changes its weights when its mode changes, as LoRA does."""

    def __init__(self):
        super().__init__(2, 2)
        self.is_merged = False

    def train(self, mode=True):
        if mode == self.is_merged:
            with torch.no_grad():
                self.weight += -1 if mode else 1
            self.is_merged = not mode
        return super().train(mode)


def test_each_mode_is_restored_by_train():
    network = nn.Sequential(Merging(), nn.Dropout(), nn.Sequential(nn.Dropout(), Merging()))
    network[1].eval()
    network[2].eval()
    before, weights = modes_of(network), [one.weight.clone() for one in (network[0], network[2][1])]
    with modes_restored(network):
        network.eval()
        network[2].train()
    assert modes_of(network) == before
    assert [network[0].is_merged, network[2][1].is_merged] == [False, True]
    assert torch.allclose(network[0].weight, weights[0])
    assert torch.allclose(network[2][1].weight, weights[1])


def test_an_engine_and_the_rehearsal_leave_a_frozen_module_in_evaluation_mode():
    network, seen = Distilled(), []

    class Step:
        @hookimpl
        def run_iteration(self, run, phase, batch):
            run.call.run_forward(run=run, phase=phase, batch=batch)

        @hookimpl
        def run_forward(self, run, phase):
            seen.append((phase.is_training, frozenset(in_training(run.network))))
            return torch.zeros(())

    step = TrainingStep(lambda batch: {}, lambda: torch.zeros(()), lambda loss_tensor: loss_tensor, len)
    run = Run(
        training=Phase("training", [[1]], is_training=True),
        validation=(Phase("validation-valid", [[1]]),),
        max_epochs=2,
        network=network,
    )
    Engine(hooks=[Rehearsal(), Step()], defaults=[step]).run(run)
    assert seen == [(True, ALL_OF_STUDENT), (False, frozenset())] * 3


class TeacherNetwork(TinyNetwork):
    def __init__(self, dropout):
        super().__init__(dropout)
        self.teacher = TinyNetwork(0.5).requires_grad_(False).eval()

    def forward(self, x):
        return super().forward(x) + self.teacher(x)


class TeacherSession(TinySession):
    def init_network(self):
        return TeacherNetwork(self.config_network["dropout"])

    def init_optimizer(self):
        return torch.optim.SGD(self.network.parameters(), 0.01)


def teacher_session(tmp_path, *hooks):
    config = tiny_config()
    config["network"]["architecture"] = "TeacherNetwork"
    session = TeacherSession(config, tmp_path)
    for hook in hooks:
        session.register(hook)
    return session


@pytest.mark.parametrize(
    "hooks",
    [(), (lambda: Compile(backend="eager"),), (lambda: ExponentialMovingAverage(0.9),)],
    ids=["no hook", "compiled", "averaged"],
)
def test_a_teacher_is_left_as_it_was_built(tmp_path, hooks):
    session = teacher_session(tmp_path, *(make() for make in hooks))
    before = {name: value.clone() for name, value in session.network.teacher.state_dict().items()}
    session()
    after = session.network.teacher.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_a_teacher_that_is_unfrozen_is_in_training_mode_from_then_on(tmp_path):
    modes = {}

    class NoteModes:
        @hookimpl
        def on_iteration_start(self, run, phase):
            modes.setdefault((run.epoch, phase.is_training), set()).add(run.network.teacher.layers[1].training)

    teacher_session(tmp_path, Unfreeze("teacher.*", at="1ep"), NoteModes())()
    assert modes == {(1, True): {False}, (1, False): {False}, (2, True): {True}, (2, False): {False}}


def test_evaluation_restores_every_mode(tmp_path):
    session = teacher_session(tmp_path)
    for network_is_training in (True, False):
        session.network.train(network_is_training)
        session.network.teacher.layers[1].train(not network_is_training)
        before = modes_of(session.network)
        session.evaluate(session.dataset_train)
        assert modes_of(session.network) == before
        next(session.predict(session.dataset_train))
        assert modes_of(session.network) == before
