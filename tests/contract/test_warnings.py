"""Which warnings fail a test: those of torchbase and of its tests, and a leak or a slip of whoever made it."""

import types
import warnings

import pytest

WARNS = """
import warnings
def warn(category):
    warnings.warn("something", category)
"""
OF_ITS_OWN_CODE = [DeprecationWarning, PendingDeprecationWarning, FutureWarning, RuntimeWarning]


def warn_from(name, category):
    module = types.ModuleType(name)
    exec(WARNS, vars(module))
    module.warn(category)


@pytest.mark.parametrize("category", [*OF_ITS_OWN_CODE, UserWarning, ResourceWarning])
@pytest.mark.parametrize("name", ["torchbase.files.durable", "tests.contract.test_warnings"])
def test_a_warning_of_torchbase_is_an_error(name, category):
    with pytest.raises(category):
        warn_from(name, category)


@pytest.mark.parametrize("category", [UserWarning, ResourceWarning])
def test_a_warning_of_another_package_about_what_was_done_with_it_is_an_error(category):
    with pytest.raises(category):
        warn_from("torch.optim.lr_scheduler", category)


@pytest.mark.parametrize("category", OF_ITS_OWN_CODE)
@pytest.mark.parametrize("name", ["torch._dynamo.guards", "sklearn.utils", "multiprocessing.popen_fork"])
def test_a_warning_of_another_package_about_itself_is_shown(name, category):
    with warnings.catch_warnings(record=True) as shown:
        warn_from(name, category)
    assert [one.category for one in shown] == [category]
