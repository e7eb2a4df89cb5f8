import math

import torch
from torchbase_weight_norms import WeightNorms

from torchbase import hookimpl
from torchbase.testing import HookTrial, TinySession, check_hook, read_scalars, tiny_config


def test_it_follows_the_rules_of_a_hook():
    print(check_hook(WeightNorms, observes=True, processes=2))  # pytest -rP shows the report


class ByHand:
    """Computes the norms in another way."""

    def __init__(self):
        self.norms = []

    @hookimpl
    def on_iteration_end(self, run, phase):
        if phase.is_training:
            squares = sum(parameter.double().square().sum().item() for parameter in run.network.parameters())
            self.norms.append(math.sqrt(squares))


def test_the_curves_match_the_weights(tmp_path):
    session = TinySession({**tiny_config(), "data": {"weight_norms": {"decay": 0.5}}}, tmp_path)
    by_hand = ByHand()
    session.register(WeightNorms())
    session.register(by_hand)
    session()
    curves = {tag: torch.tensor([value for _, value in curve]) for tag, curve in read_scalars(session.run_dir).items()}
    means = by_hand.norms[:1]
    for norm in by_hand.norms[1:]:
        means.append(0.5 * means[-1] + 0.5 * norm)
    torch.testing.assert_close(curves["training/weight_norm/iterations"], torch.tensor(by_hand.norms))
    torch.testing.assert_close(curves["training/weight_norm_mean/iterations"], torch.tensor(means))


def test_the_settings_come_from_the_config():
    config = {**tiny_config(), "data": {"weight_norms": {"decay": 0.0}}}
    scalars = HookTrial(WeightNorms, config=config).unbroken.outcome["scalars"]
    assert scalars["training/weight_norm_mean/iterations"] == scalars["training/weight_norm/iterations"]
