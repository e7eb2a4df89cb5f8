import pytest
from tiny import CONFIG, TinySession

from torchbase.session.base import TrainingBaseSession

MISSPELT = {
    "init_optimiser": "init_optimizer",
    "init_schedular": "init_scheduler",
    "init_dataloader": "init_dataloaders",
    "init_metric": "init_metrics",
    "get_loss_values": "get_loss_value",
    "infer_minibatch_size": "infer_mini_batch_size",
    "dataloader_collate_fn": "dataloader_collate_function",
    "default_hook": "default_hooks",
}


def warnings_of(caplog, tmp_path, methods, base=TinySession):
    type("Wrong", (base,), methods)(CONFIG, tmp_path).close()
    return [record.getMessage() for record in caplog.records if "Did you mean" in record.getMessage()]


@pytest.mark.parametrize("name", MISSPELT)
def test_a_misspelt_override_is_named(caplog, tmp_path, name):
    expected = f"Wrong defines '{name}', which is not called. Did you mean '{MISSPELT[name]}'? To fix, rename it."
    inherited = type("Parent", (TinySession,), {name: lambda self: None})
    for base, methods in ((TinySession, {name: lambda self: None}), (inherited, {})):
        caplog.clear()
        assert warnings_of(caplog, tmp_path, methods, base) == [expected]


@pytest.mark.parametrize("name", MISSPELT)
def test_a_helper_of_the_class_is_meant_as_it_is(caplog, tmp_path, name):
    called = eval(f"lambda self: [self.{name}() for _ in range(1)]")
    assert warnings_of(caplog, tmp_path, {name: lambda self: None, "init_network": called}) == []


def test_other_methods_and_the_overrides_are_not_named(caplog, tmp_path):
    names = [*MISSPELT.values(), "plot_losses", "init_teacher", "predict_all", "evaluate_test_set"]
    assert warnings_of(caplog, tmp_path, {name: getattr(TinySession, name, lambda self: None) for name in names}) == []


def test_each_method_that_may_be_overridden_exists():
    assert all(hasattr(TrainingBaseSession, name) for name in MISSPELT.values())
