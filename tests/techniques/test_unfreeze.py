import pytest
import torch
from every_technique import check_resumes_exactly, session_with, step_plainly, train_by_hand, training_differences
from tiny import TinySession

from torchbase.errors import HookError, IntervalError
from torchbase.hooks import Freeze, Unfreeze


def hooks():
    return [Unfreeze("layers.3.*", at="1ep"), Freeze("*.bias"), Freeze("layers.0.*"), Unfreeze("layers.0.*", at="2ep")]


def test_training_equals_a_loop_by_hand(tmp_path):
    iterations = []

    def step(session, batch):
        epoch = len(iterations) // 5 + 1
        iterations.append(batch)
        for name, parameter in session.network.named_parameters():
            is_frozen = name.endswith("bias") or name.startswith("layers.0.")
            is_unfrozen = (name.startswith("layers.3.") and epoch > 1) or (name.startswith("layers.0.") and epoch > 2)
            parameter.requires_grad_(not is_frozen or is_unfrozen)
        step_plainly(session, batch)

    by_hand = train_by_hand(tmp_path, step, epochs=4, weight_decay=0.1)
    for order in (1, -1):  # in both orders
        session = session_with(tmp_path, *hooks()[::order], num_epochs=4, weight_decay=0.1)
        session()
        assert training_differences(session, by_hand) == []


def test_a_resumed_run_continues_exactly(tmp_path):
    check_resumes_exactly(tmp_path, hooks, num_epochs=4, stops=(2, 8, 12, 18))


def test_parameters_frozen_by_hand_can_be_unfrozen_if_the_optimizer_holds_them(tmp_path):
    class FrozenByHand(TinySession):
        def init_network(self):
            network = super().init_network()
            network.layers[0].requires_grad_(False)
            return network

    with pytest.raises(HookError, match="the optimizer doesn't contain it"):
        session_with(tmp_path, Unfreeze("layers.0.*", at="1ep"), kind=FrozenByHand)()

    class OptimizesAll(FrozenByHand):
        def init_optimizer(self):
            return torch.optim.Adam(self.network.parameters(), lr=0.05)

    check_resumes_exactly(tmp_path, lambda: [Unfreeze("layers.0.*", at="1ep")], kind=OptimizesAll, stops=(2, 8))


def test_invalid_arguments_raise(tmp_path):
    with pytest.raises(IntervalError, match="isn't possible here"):
        Unfreeze("*", at="10s")
    with pytest.raises(HookError, match=r"matches the pattern 'layers\.9\.\*'"):
        session_with(tmp_path, Unfreeze("layers.9.*", at="1ep"))()
