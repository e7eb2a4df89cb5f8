import pytest
from every_technique import check_resumes_exactly, session_with, step_plainly, train_by_hand, training_differences
from tiny import KeepNetworks, TinySession

from torchbase.errors import HookError, IntervalError
from torchbase.files.bitwise import different_values
from torchbase.hooks import Freeze


def freezing_by_hand(tmp_path, pattern_of_names, until, epochs=4):
    iterations = []

    def step(session, batch):
        is_frozen = len(iterations) < 5 * until
        iterations.append(batch)
        for name, parameter in session.network.named_parameters():
            if name.startswith(pattern_of_names):
                parameter.requires_grad_(not is_frozen)
        step_plainly(session, batch)

    return train_by_hand(tmp_path, step, epochs=epochs, weight_decay=0.1)


@pytest.mark.parametrize(("until", "epochs"), [(None, 4), ("2ep", 2), ("1ep", 1)])
def test_training_equals_a_loop_by_hand(tmp_path, until, epochs):
    by_hand = freezing_by_hand(tmp_path, "layers.0.", epochs)
    hooks = [Freeze("layers.0.*", until), keep := KeepNetworks()]
    session = session_with(tmp_path, *hooks, num_epochs=4, weight_decay=0.1)
    first = {name: value.clone() for name, value in session.network.state_dict().items()}
    session()
    assert training_differences(session, by_hand) == []
    for epoch, network in keep.networks.items():
        has_changed = different_values(network["layers.0.weight"], first["layers.0.weight"]) != []
        assert has_changed == (epoch > epochs)
        assert different_values(network["layers.3.weight"], first["layers.3.weight"]) != []


@pytest.mark.parametrize("until", [None, "1ep", "2ep"])
def test_a_resumed_run_continues_exactly(tmp_path, until):
    check_resumes_exactly(tmp_path, lambda: [Freeze("layers.0.*", until)], num_epochs=3, stops=(2, 8, 12))


def test_two_patterns_can_be_frozen(tmp_path):
    session = session_with(tmp_path, Freeze("layers.0.*"), Freeze("layers.1.*", "1ep"))
    session()
    assert {"freeze layers.0.*", "freeze layers.1.*"} < set(session.hooks)
    requires_grad = {name: parameter.requires_grad for name, parameter in session.network.named_parameters()}
    assert requires_grad == {name: not name.startswith("layers.0") for name in requires_grad}


def test_invalid_arguments_raise_before_training(tmp_path):
    with pytest.raises(HookError, match=r"matches the pattern 'layer\.0\.weight'\. Did you mean 'layers\.0\.weight'"):
        session_with(tmp_path, Freeze("layer.0.weight"))()
    with pytest.raises(IntervalError, match="isn't possible here"):
        Freeze("*", until="10it")

    class FrozenByHand(TinySession):
        def init_network(self):
            network = super().init_network()
            network.layers[0].requires_grad_(False)
            return network

    session_with(tmp_path, Freeze("layers.0.*"), kind=FrozenByHand)()
    with pytest.raises(HookError, match="the optimizer doesn't contain it"):
        session_with(tmp_path, Freeze("layers.0.*", until="1ep"), kind=FrozenByHand)()
