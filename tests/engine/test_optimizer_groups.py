import pytest
import torch

from torchbase.engine.optimizer_groups import changed_values, values_of_groups


def test_the_values_of_each_group_are_copied_without_parameters_and_what_schedulers_write():
    first, second = (torch.nn.Parameter(torch.zeros(1)) for _ in range(2))
    rate = torch.tensor(0.1)
    optimizer = torch.optim.Adam([{"params": [first], "name": "a"}, {"params": [second], "betas": (0.5, 0.6)}], lr=rate)
    torch.optim.lr_scheduler.StepLR(optimizer, 3)
    values = values_of_groups(optimizer)
    rate.fill_(3.0)
    assert [(group["lr"], group["betas"], group.get("name")) for group in values] == [
        (torch.tensor(0.1), (0.9, 0.999), "a"),
        (torch.tensor(0.1), (0.5, 0.6), None),
    ]
    assert all({"params", "initial_lr"}.isdisjoint(group) for group in values)


@pytest.mark.parametrize(
    ("then", "now", "is_changed"),
    [
        (0.1, 0.1, False),
        (0.1, 0.2, True),
        (torch.tensor(0.5), torch.tensor(0.5, dtype=torch.float64), False),
        (torch.tensor(0.5), 0.5, False),
        (0.5, torch.tensor(0.25), True),
        ((0.9, torch.tensor(0.5)), (0.9, torch.tensor(0.5)), False),
        ((0.9, 0.99), (0.9, 0.999), True),
        ((0.9,), (0.9, 0.99), True),
        (None, True, True),
        (None, torch.tensor(1.0), True),
        ("a", "b", True),
    ],
)
def test_a_value_is_changed_if_it_is_another_number_or_text(then, now, is_changed):
    assert changed_values({"value": then, "old": 1}, {"value": now, "new": 2}) == ({"value": now} if is_changed else {})
