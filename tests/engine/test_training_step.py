import pytest
import torch
from tiny import TinySession, config_with, read_scalars

from torchbase import BaseMetricsClass, Engine, Phase, Run, hookimpl
from torchbase.engine.training_step import TrainingStep
from torchbase.errors import StepError


def train(forward_pass, loss_function, hooks=(), epochs=1, **overrides):
    torch.manual_seed(0)
    network = torch.nn.Linear(2, 1)
    batches = [{"x": torch.full((3, 2), float(number))} for number in range(1, 4)]
    run = Run(
        training=Phase("training", batches, is_training=True),
        validation=(Phase("validation-v", batches),),
        max_epochs=epochs,
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=0.01),
    )
    for name, value in overrides.items():
        setattr(run, name, value)
    step = TrainingStep(
        lambda batch: forward_pass(network, batch),
        loss_function,
        lambda *, loss_tensor: loss_tensor,
        lambda batch: len(batch["x"]),
    )
    Engine(defaults=[step], hooks=hooks).run(run)
    return run


def forward(network, batch):
    return {"y": network(batch["x"]), "unused": 1}


def loss(*, y):
    return y.square().mean()


def test_it_trains_to_the_same_weights_as_a_hand_written_loop():
    run = train(forward, loss, epochs=3)
    torch.manual_seed(0)
    network = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    for _ in range(3):
        for number in range(1, 4):
            optimizer.zero_grad()
            network(torch.full((3, 2), float(number))).square().mean().backward()
            optimizer.step()
    for ours, theirs in zip(run.network.parameters(), network.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_the_network_is_in_the_mode_of_the_phase_and_validation_has_no_gradients():
    seen = []

    class Inspector:
        @hookimpl
        def on_loss_computed(self, run, phase, loss):
            seen.append((phase.name, run.network.training, loss.requires_grad))

    train(forward, loss, hooks=[Inspector()])
    assert set(seen) == {("training", True, True), ("validation-v", False, False)}


def test_gradients_accumulate_if_a_hook_returns_false_from_should_step_optimizer():
    class EveryThird:
        @hookimpl
        def should_step_optimizer(self, run):
            return run.progress.iterations % 3 == 2

    run = train(forward, loss, hooks=[EveryThird()])
    torch.manual_seed(0)
    network = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    for number in range(1, 4):
        network(torch.full((3, 2), float(number))).square().mean().backward()
    optimizer.step()
    assert torch.equal(run.network.weight, network.weight)


def test_a_wrapper_wraps_the_forward_pass():
    class Autocast:
        @hookimpl(wrapper=True)
        def run_forward(self):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return (yield)

    types = []

    def forward_and_record(network, batch):
        y = network(batch["x"])
        types.append(y.dtype)
        return {"y": y}

    train(forward_and_record, lambda *, y: y.float().square().mean(), hooks=[Autocast()])
    assert set(types) == {torch.bfloat16}


@pytest.mark.parametrize(
    ("forward_pass", "message"),
    [
        (lambda network, batch: network(batch["x"]), "forward_pass has to return a dictionary.*returned a Tensor"),
        (lambda network, batch: {}, "loss_function requires 'y', but forward_pass returned nothing"),
        (
            lambda network, batch: {"yy": network(batch["x"])},
            "requires 'y', but forward_pass returned 'yy'. Did you mean 'yy'?",
        ),
        (lambda network, batch: {"y": network(batch["x"]).detach()}, "The loss does not require a gradient"),
    ],
)
def test_invalid_outputs_are_refused(forward_pass, message):
    with pytest.raises(StepError, match=message):
        train(forward_pass, loss)


@pytest.mark.parametrize(
    ("loss_function", "message"),
    [
        (lambda *, y: y.square(), r"shape \(3, 1\), torch.float32.*\.mean\(\)"),
        (lambda *, y: 0.5, "returned a float.*don't call .item"),
        (lambda *, y: y.sum().long(), r"shape \(\), torch.int64"),
        (lambda y, /: y.mean(), "'y' can't be passed by keyword"),
        (lambda *ys: ys[0].mean(), r"'\*ys' can't be passed by keyword"),
    ],
)
def test_invalid_losses_are_refused(loss_function, message):
    with pytest.raises(StepError, match=message):
        train(forward, loss_function)


@pytest.mark.parametrize("missing", ["network", "optimizer"])
def test_a_run_without_network_or_optimizer_is_refused(missing):
    with pytest.raises(StepError, match=f"The run has no {missing}. To fix, pass it"):
        train(forward, loss, **{missing: None})


class WithParts(TinySession):
    def loss_function(self, *, output, target):
        error = (output - target).square().mean()
        penalty = 0.1 * output.square().mean()
        return {"loss": error + penalty, "error": error, "penalty": penalty, "factor": 0.1}


def test_the_parts_of_a_loss_are_recorded_and_averaged_like_the_loss(tmp_path):
    session = WithParts(config_with(), tmp_path)
    averages = session().averages
    for phase in ("training", "validation-valid", "validation-demo"):
        assert averages[phase].keys() == {"loss", "error", "penalty", "factor"}
        assert averages[phase]["loss"] == pytest.approx(averages[phase]["error"] + averages[phase]["penalty"])
    scalars = read_scalars(session.run_dir)
    assert len(scalars["training/penalty/iterations"]) == 10
    assert len(scalars["validation-valid/error/epochs"]) == 2


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ({"error": 1.0}, "without the key 'loss'"),
        ({}, "It has the keys none"),
        ({"loss": "the loss", "error": torch.zeros(3)}, r"The part 'error' of the loss.*shape \(3,\)"),
        ({"loss": "the loss", "error": "big"}, "but is str"),
    ],
)
def test_invalid_parts_of_a_loss_are_refused(tmp_path, returned, message):
    class Invalid(TinySession):
        def loss_function(self, *, output, target):
            loss = (output - target).square().mean()
            return {name: loss if value == "the loss" else value for name, value in returned.items()}

    with pytest.raises(StepError, match=message):
        Invalid(config_with(), tmp_path)()


def test_a_part_with_the_name_of_a_metric_is_refused(tmp_path):
    class Named(BaseMetricsClass):
        def penalty(self, *, output):
            return output.mean()

    class Clashing(WithParts):
        def init_metrics(self):
            return [Named()]

    with pytest.raises(StepError, match="The part 'penalty' of the loss has the name of a metric"):
        Clashing({**config_with(), "metrics": {"Named": ["penalty"]}}, tmp_path)()
