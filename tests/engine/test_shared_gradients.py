"""An iteration that doesn't share its gradients is refused on several processes."""

import pytest
import several
import torch
from every_technique import session_with
from tiny import TinySession

from torchbase import Engine, Phase, Run, hookimpl
from torchbase.distributed.joining import join
from torchbase.errors import HookError
from torchbase.files.bitwise import different_values


def step(run, phase, batch):
    run.network.zero_grad()
    (run.network(batch) * (run.processes.index + 1)).sum().backward()
    parameters = list(run.network.parameters())
    sums = run.processes.reduce([parameter.grad for parameter in parameters], parameters)
    for parameter, total in zip(parameters, sums, strict=True):
        parameter.grad = total
    run.optimizer.step()


def trained_by_function(index, is_declared):
    torch.manual_seed(0)
    network = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)

    def declared(run, phase, batch):
        step(run, phase, batch)

    declared.shares_gradients = True
    training = Phase("training", [torch.ones(3, 2)] * 2, is_training=True)
    run = Run(training=training, max_epochs=1, network=network, optimizer=optimizer, processes=join())
    Engine(declared if is_declared else step).run(run)
    return network.state_dict()


def test_a_function_that_does_not_declare_it_is_refused_on_each_process():
    for ended in several.run(2, trained_by_function, False):
        assert "HookError: 'run_iteration' implements run_iteration without sharing gradients, so each" in ended.error
        assert "implement run_part in place of run_iteration" in ended.error


def test_a_function_that_declares_it_runs():
    first, second = several.values_of(2, trained_by_function, True)
    assert different_values(first, second) == []
    assert first["bias"] != trained_by_function(0, False)["bias"]  # one process may run any function


class OwnIteration:
    @hookimpl
    def run_iteration(self, run, phase, batch):
        raise AssertionError("never called")


def refusals(index, parent):
    messages = []
    for change in (
        lambda session: session.register(OwnIteration()),
        lambda session: session.unregister("mini_batch_parts") and session(),
        lambda session: session.unregister("mini_batch_parts") and session.register(OwnIteration()) and session(),
    ):
        with pytest.raises(HookError) as refused:
            change(session_with(parent, mini_batch_size=9))
        messages.append(str(refused.value))
    return messages


def test_a_session_without_the_parts_that_share_gradients_is_refused_before_training(tmp_path):
    for both, without, own in several.values_of(2, refusals, tmp_path):
        assert "'mini_batch_parts' and 'own_iteration' both implement run_iteration" in both
        assert "Or implement run_part instead" in both
        assert "'training_step' implements run_iteration without sharing gradients" in without
        assert "'own_iteration' implements run_iteration without sharing gradients" in own


class TwoLosses:
    """A part of its own, with a backward pass for each of two losses."""

    @hookimpl
    def run_part(self, run, phase, batch, share):
        with torch.set_grad_enabled(phase.is_training):
            output = run.network(batch["x"])
            losses = [(output - batch["y"]).square().mean(), output.abs().mean()]
        phase.outputs, phase.loss = {"output": output}, losses[0].detach()
        phase.samples, phase.values = len(output), {"loss": losses[0].detach()}
        for loss in losses if phase.is_training else ():
            (loss * share).backward(retain_graph=True)


def trained_by_parts(index, parent):
    session = session_with(parent, TwoLosses(), kind=TinySession, dropout=0.3, mini_batch_size=9, mini_batch_parts=3)
    session.unregister("rehearsal")
    session()
    return session.network.state_dict()


def test_a_part_of_its_own_trains_the_same_network_on_any_number_of_processes(tmp_path):
    expected = trained_by_parts(0, tmp_path / "one")
    for network in several.values_of(2, trained_by_parts, tmp_path / "two"):
        assert different_values(network, expected) == []
