from collections import defaultdict

import pytest

from torchbase.engine.losses import KeywordFunction
from torchbase.errors import StepError


def test_a_missing_output_is_an_error_even_if_the_mapping_has_defaults():
    with pytest.raises(StepError, match="'target'"):
        KeywordFunction(lambda *, target: target)(defaultdict(int, output=1))


def test_a_function_is_called_with_the_outputs_that_it_names_and_its_defaults():
    outputs = {"a": 1, "b": 2, "c": 3}
    assert KeywordFunction(lambda *, a, c: (a, c))(outputs) == (1, 3)
    assert KeywordFunction(lambda *, a, d=7: (a, d))(outputs) == (1, 7)
    assert KeywordFunction(lambda *, a, b=7: (a, b))(outputs) == (1, 2)
    assert KeywordFunction(lambda **everything: everything)(outputs) == outputs
