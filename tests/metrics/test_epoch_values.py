import math

import pytest
import torch

from torchbase.errors import MetricsError
from torchbase.metrics import BaseMetricsClass, mean_over_samples
from torchbase.metrics.selection import select_metrics


class Demanding(BaseMetricsClass):
    """Metrics that fail for some mini-batches, or for all."""

    def of_two_classes(self, *, labels):
        if len(labels.unique()) < 2:
            raise RuntimeError("one class only")
        return labels.float().mean()

    def broken(self, *, labels):
        return labels.no_such_method()

    @mean_over_samples
    def mean_of_two(self, *, labels):
        if len(labels) < 2:
            raise ValueError("two samples are needed")
        return labels.float().mean()

    @mean_over_samples
    def undefined(self, *, labels):
        return math.nan


def epoch_of(name):
    selected = select_metrics([Demanding()], {"Demanding": [name]})
    epoch = selected.begin_epoch()

    def measure(*labels):
        outputs = {"labels": torch.tensor(labels)}
        return epoch.measure(outputs, selected.on_host(outputs), len(labels))[name]

    return epoch, measure


def test_a_metric_that_the_epoch_has_so_far_is_nan_for_a_mini_batch_that_lacks_it():
    epoch, measure = epoch_of("of_two_classes")
    assert measure(0, 1) == 0.5
    with pytest.warns(UserWarning, match="^of_two_classes of Demanding is NaN: RuntimeError: one class only.$"):
        assert math.isnan(measure(1, 1))
    assert epoch.compute()[0] == {"of_two_classes": 0.75}


def test_a_metric_that_the_epoch_lacks_too_is_an_error_that_names_the_metric():
    _, measure = epoch_of("of_two_classes")
    with pytest.raises(RuntimeError, match="one class only") as raised:
        measure(1, 1)
    assert raised.value.__notes__ == ["in metric 'of_two_classes' of Demanding"]


def test_a_broken_metric_is_an_error_unless_there_is_a_single_sample():
    epoch, measure = epoch_of("broken")
    with pytest.warns(UserWarning, match="^broken of Demanding is NaN: AttributeError: .*no_such_method"):
        assert math.isnan(measure(1))
    with pytest.warns(UserWarning, match="^broken of Demanding is NaN: AttributeError: .*no_such_method"):
        assert math.isnan(epoch.compute()[0]["broken"])
    with pytest.raises(AttributeError, match="no_such_method"):
        measure(0, 1)
    with pytest.raises(AttributeError, match="no_such_method"):
        epoch.compute()


def test_a_mean_over_samples_needs_each_mini_batch():
    _, measure = epoch_of("mean_of_two")
    assert measure(0, 1) == 0.5
    with pytest.raises(ValueError, match="two samples are needed"):
        measure(1)


def test_a_mean_over_samples_is_nan_with_a_warning_if_that_of_a_mini_batch_is():
    epoch, measure = epoch_of("undefined")
    assert math.isnan(measure(0, 1))
    with pytest.warns(UserWarning, match="^undefined of Demanding is NaN: it is NaN for a mini-batch"):
        assert math.isnan(epoch.compute()[0]["undefined"])


def test_a_mini_batch_of_unknown_size_is_never_a_single_sample():
    with pytest.raises(AttributeError, match="no_such_method"):
        select_metrics([Demanding()], {"Demanding": ["broken"]})({"labels": torch.tensor([1])})
    with pytest.raises(MetricsError, match="'labels', for broken"):
        select_metrics([Demanding()], {"Demanding": ["broken"]})({})
