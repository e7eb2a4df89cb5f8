import copy
import pickle
from collections.abc import Mapping
from dataclasses import FrozenInstanceError

import pytest
from datasets import Dataset, DatasetDict
from hypothesis import given, settings
from hypothesis import strategies as st

from torchbase.data.validation_datasets import ValidationDatasetsDict
from torchbase.errors import DataError
from torchbase.intervals import Interval

PART = Dataset.from_dict({"x": [1, 2]})
VALID = Dataset.from_dict({"x": [3]})
EMPTY = Dataset.from_dict({"x": []})


@pytest.fixture
def both():
    return ValidationDatasetsDict(datasets=(PART, VALID), only_for_demo=(True, False), names=("train", "valid"))


def message_for(datasets=(PART, VALID), only_for_demo=(True, False), names=("train", "valid")) -> str:
    with pytest.raises(DataError) as caught:
        ValidationDatasetsDict(datasets=datasets, only_for_demo=only_for_demo, names=names)
    return str(caught.value)


def test_validation_datasets_are_a_mapping_from_name_to_dataset(both):
    assert isinstance(both, Mapping)
    assert both["train"] is PART
    assert both["valid"] is VALID
    assert list(both) == ["train", "valid"]
    assert len(both) == 2
    assert "valid" in both
    assert "test" not in both
    assert both.get("test") is None


def test_flags_are_found_by_name_and_determine_the_voting_names(both):
    assert both.is_only_for_demo("train") is True
    assert both.is_only_for_demo("valid") is False
    assert both.voting_names == ("valid",)


@pytest.mark.parametrize("look_up", [ValidationDatasetsDict.__getitem__, ValidationDatasetsDict.is_only_for_demo])
def test_an_unknown_name_raises_an_error_with_the_nearest_name(both, look_up):
    with pytest.raises(KeyError, match="'vaild' \\(did you mean 'valid'\\?\\)"):
        look_up(both, "vaild")


def test_lists_are_converted_to_tuples_and_their_later_changes_have_no_effect():
    names = ["train", "valid"]
    validation = ValidationDatasetsDict(datasets=[PART, VALID], only_for_demo=[True, False], names=names)
    names.append("test")
    assert validation.datasets == (PART, VALID)
    assert validation.only_for_demo == (True, False)
    assert validation.names == ("train", "valid")


def test_empty_tuples_are_allowed():
    none = ValidationDatasetsDict(datasets=(), only_for_demo=(), names=())
    assert dict(none) == {}
    assert none.voting_names == ()
    with pytest.raises(KeyError, match="available: none"):
        none["valid"]


def test_validation_datasets_are_read_only(both):
    with pytest.raises(FrozenInstanceError):
        both.names = ("a", "b")
    with pytest.raises(TypeError):
        both["train"] = VALID


def test_validation_datasets_can_be_copied_and_pickled(both):
    for copied in (copy.deepcopy(both), pickle.loads(pickle.dumps(both))):
        assert copied.names == both.names
        assert copied["train"]["x"][:] == [1, 2]


def test_equal_datasets_with_different_flags_are_not_equal(both):
    other = ValidationDatasetsDict(datasets=both.datasets, only_for_demo=(False, False), names=both.names)
    assert both != other
    assert both == ValidationDatasetsDict(both.datasets, both.only_for_demo, both.names)


def test_a_value_that_is_not_a_dataset_is_named_by_type_index_and_name():
    found = message_for((PART, 7))
    assert "datasets[1] ('valid') has to be a datasets.Dataset, " in found
    assert "but is an int. To fix, make one" in found


def test_a_dataset_dict_raises_an_error_with_the_hint_to_pass_a_split():
    splits = DatasetDict({"fit": PART, "check": VALID})
    assert "but is a DatasetDict. To fix, pass one of its splits: 'fit', 'check'" in message_for((PART, splits))
    assert "datasets is a DatasetDict. To fix, pass splits of it" in message_for(splits)


def test_an_empty_dataset_is_refused():
    assert "datasets[0] ('train') has 0 rows" in message_for((EMPTY, VALID))


@pytest.mark.parametrize(
    ("arguments", "lengths"),
    [
        ({"datasets": (PART,)}, "1 datasets, 2 only_for_demo, 2 names"),
        ({"only_for_demo": ()}, "2 datasets, 0 only_for_demo, 2 names"),
        ({"names": ("a", "b", "c")}, "2 datasets, 2 only_for_demo, 3 names"),
        ({"datasets": (), "only_for_demo": ()}, "0 datasets, 0 only_for_demo, 2 names"),
    ],
)
def test_different_lengths_are_listed(arguments, lengths):
    assert lengths in message_for(**arguments)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"datasets": PART}, "datasets has to be a tuple or list, but got a single Dataset. To fix, add a comma"),
        ({"names": "valid"}, "names has to be a tuple or list, but got a single str. To fix, add a comma"),
        ({"only_for_demo": True}, "only_for_demo has to be a tuple or list, but got a single bool"),
        ({"datasets": None}, "datasets has to be a tuple or list, but got NoneType"),
        ({"names": {"train", "valid"}}, "names has to be a tuple or list, but got set"),
    ],
)
def test_values_that_are_not_sequences_are_refused_with_a_hint(arguments, expected):
    message = message_for(**arguments)
    assert expected in message
    assert message.count("\n- ") == 1


@pytest.mark.parametrize("flag", [0, 1, None, "False"])
def test_flags_that_are_not_bool_are_refused(flag):
    message = message_for(only_for_demo=(True, flag))
    assert f"only_for_demo[1] has to be True or False, but got {flag!r} ({type(flag).__name__})" in message


@pytest.mark.parametrize("name", ["", "-a", ".a", "_a", "a b", "a/b", "a\n", "..", "ä", "a:b", "²"])
def test_names_that_cannot_be_tags_and_file_names_are_refused(name):
    assert f"names[1] is {name!r}" in message_for(names=("train", name))


@settings(max_examples=40)
@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._\-]{0,8}", fullmatch=True))
def test_names_of_allowed_characters_are_accepted(name):
    validation = ValidationDatasetsDict(datasets=(VALID,), only_for_demo=(False,), names=(name,))
    assert validation[name] is VALID


def test_names_of_another_type_and_repeated_names_are_refused():
    assert "names[0] has to be a str, but got 3 (int)" in message_for(names=(3, "valid"))
    assert "names[1] repeats 'valid' of names[0]" in message_for(names=("valid", "valid"))


def test_all_problems_are_in_one_error():
    message = message_for(datasets=(EMPTY, 5, VALID), only_for_demo=(1, False), names=("a/b", "a/b"))
    lines = message.splitlines()[1:]
    for text in ("3 datasets, 2", "datasets[0]", "datasets[1]", "only_for_demo[0]", "names[0]", "names[1]"):
        assert sum(text in line for line in lines) == 1
    assert len(lines) == 6


def test_each_dataset_has_an_interval():
    dataset = Dataset.from_dict({"x": [1.0]})
    arguments = {"datasets": (dataset, dataset), "only_for_demo": (False, True), "names": ("a", "b")}
    assert ValidationDatasetsDict(**arguments).every == (Interval(1, "ep"), Interval(1, "ep"))
    assert ValidationDatasetsDict(**arguments, every="5it").every == (Interval(5, "it"), Interval(5, "it"))
    validation = ValidationDatasetsDict(**arguments, every=["2ep", Interval(3, "it")])
    assert validation.interval_of("a") == Interval(2, "ep")
    assert validation.interval_of("b") == Interval(3, "it")


@pytest.mark.parametrize(
    ("every", "message"),
    [
        ("60s", r"every\[0\]: 60s isn't possible here. To fix, use the unit it or ep"),
        (("1ep", "often"), r"every\[1\]: An interval has to be .* but got 'often'"),
        (("1ep",), "2 datasets, 2 only_for_demo, 2 names, 1 every"),
        (3, "every has to be a tuple or list, but got int"),
    ],
)
def test_invalid_intervals_are_refused(every, message):
    dataset = Dataset.from_dict({"x": [1.0]})
    with pytest.raises(DataError, match=message):
        ValidationDatasetsDict(datasets=[dataset] * 2, only_for_demo=[False] * 2, names=["a", "b"], every=every)
