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


def mistakes_of(datasets=(PART, VALID), only_for_demo=(True, False), names=("train", "valid")) -> str:
    with pytest.raises(DataError) as caught:
        ValidationDatasetsDict(datasets=datasets, only_for_demo=only_for_demo, names=names)
    return str(caught.value)


def test_it_is_a_mapping_from_name_to_dataset(both):
    assert isinstance(both, Mapping)
    assert both["train"] is PART
    assert both["valid"] is VALID
    assert list(both) == ["train", "valid"]
    assert len(both) == 2
    assert "valid" in both
    assert "test" not in both
    assert both.get("test") is None


def test_flags_are_found_by_name_and_tell_which_names_vote(both):
    assert both.is_only_for_demo("train") is True
    assert both.is_only_for_demo("valid") is False
    assert both.voting_names == ("valid",)


@pytest.mark.parametrize("look_up", [ValidationDatasetsDict.__getitem__, ValidationDatasetsDict.is_only_for_demo])
def test_an_unknown_name_gets_the_nearest_one(both, look_up):
    with pytest.raises(KeyError, match="'vaild' \\(did you mean 'valid'\\?\\)"):
        look_up(both, "vaild")


def test_lists_are_kept_as_tuples_and_later_changes_of_them_have_no_effect():
    names = ["train", "valid"]
    made = ValidationDatasetsDict(datasets=[PART, VALID], only_for_demo=[True, False], names=names)
    names.append("test")
    assert made.datasets == (PART, VALID)
    assert made.only_for_demo == (True, False)
    assert made.names == ("train", "valid")


def test_no_datasets_at_all_are_allowed():
    none = ValidationDatasetsDict(datasets=(), only_for_demo=(), names=())
    assert dict(none) == {}
    assert none.voting_names == ()
    with pytest.raises(KeyError, match="known: none"):
        none["valid"]


def test_it_is_read_only(both):
    with pytest.raises(FrozenInstanceError):
        both.names = ("a", "b")
    with pytest.raises(TypeError):
        both["train"] = VALID


def test_it_survives_copying_and_pickling(both):
    for twin in (copy.deepcopy(both), pickle.loads(pickle.dumps(both))):
        assert twin.names == both.names
        assert twin["train"]["x"][:] == [1, 2]


def test_two_with_equal_datasets_but_different_flags_differ(both):
    other = ValidationDatasetsDict(datasets=both.datasets, only_for_demo=(False, False), names=both.names)
    assert both != other
    assert both == ValidationDatasetsDict(both.datasets, both.only_for_demo, both.names)


def test_what_is_no_dataset_is_named_by_type_index_and_name():
    assert "datasets[1] ('valid') has to be a datasets.Dataset, but a builtins.list came" in mistakes_of((PART, [1]))


def test_a_dataset_dict_gets_the_hint_to_pick_a_split():
    splits = DatasetDict({"fit": PART, "check": VALID})
    assert "datasets[1] ('valid') is a DatasetDict" in mistakes_of((PART, splits))
    assert "pick one of its splits: 'fit', 'check'" in mistakes_of((PART, splits))
    assert "datasets is a DatasetDict; pick splits of it" in mistakes_of(splits)


def test_an_empty_dataset_is_refused():
    assert "datasets[0] ('train') has 0 rows" in mistakes_of((EMPTY, VALID))


@pytest.mark.parametrize(
    ("given_fields", "lengths"),
    [
        ({"datasets": (PART,)}, "1 datasets, 2 only_for_demo, 2 names"),
        ({"only_for_demo": ()}, "2 datasets, 0 only_for_demo, 2 names"),
        ({"names": ("a", "b", "c")}, "2 datasets, 2 only_for_demo, 3 names"),
        ({"datasets": (), "only_for_demo": ()}, "0 datasets, 0 only_for_demo, 2 names"),
    ],
)
def test_lengths_that_differ_are_stated(given_fields, lengths):
    assert lengths in mistakes_of(**given_fields)


@pytest.mark.parametrize(
    ("given_fields", "said"),
    [
        ({"datasets": PART}, "datasets is a single Dataset, not a tuple or list: is a comma missing"),
        ({"names": "valid"}, "names is a single str, not a tuple or list: is a comma missing"),
        ({"only_for_demo": True}, "only_for_demo is a single bool"),
        ({"datasets": None}, "datasets has to be a tuple or list, but a NoneType came"),
        ({"names": {"train", "valid"}}, "names has to be a tuple or list, but a set came"),
    ],
)
def test_what_is_no_sequence_is_refused_with_a_hint(given_fields, said):
    message = mistakes_of(**given_fields)
    assert said in message
    assert message.count("\n- ") == 1


@pytest.mark.parametrize("flag", [0, 1, None, "False"])
def test_flags_that_are_not_bool_are_refused(flag):
    message = mistakes_of(only_for_demo=(True, flag))
    assert f"only_for_demo[1] has to be True or False, but {flag!r} ({type(flag).__name__}) came" in message


@pytest.mark.parametrize("name", ["", "-a", ".a", "_a", "a b", "a/b", "a\n", "..", "ä", "a:b", "²"])
def test_names_that_cannot_be_tags_and_file_names_are_refused(name):
    assert f"names[1] is {name!r}" in mistakes_of(names=("train", name))


@settings(max_examples=40, deadline=None)
@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._\-]{0,8}", fullmatch=True))
def test_names_of_allowed_characters_are_accepted(name):
    made = ValidationDatasetsDict(datasets=(VALID,), only_for_demo=(False,), names=(name,))
    assert made[name] is VALID


def test_names_of_another_type_and_repeated_names_are_refused():
    assert "names[0] has to be a str, but 3 (int) came" in mistakes_of(names=(3, "valid"))
    assert "names[1] repeats 'valid' of names[0]" in mistakes_of(names=("valid", "valid"))


def test_all_mistakes_come_in_one_error():
    message = mistakes_of(datasets=(EMPTY, 5, VALID), only_for_demo=(1, False), names=("a/b", "a/b"))
    lines = message.splitlines()[1:]
    for said in ("3 datasets, 2", "datasets[0]", "datasets[1]", "only_for_demo[0]", "names[0]", "names[1]"):
        assert sum(said in line for line in lines) == 1
    assert len(lines) == 6


def test_says_how_often_each_set_is_validated_on():
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
        (("1ep", "often"), r"every\[1\]: An interval has to be .* but is 'often'"),
        (("1ep",), "2 datasets, 2 only_for_demo, 2 names, 1 every"),
        (3, "every has to be a tuple or list, but a int came"),
    ],
)
def test_refuses_an_interval_at_which_nothing_can_be_validated_on(every, message):
    dataset = Dataset.from_dict({"x": [1.0]})
    with pytest.raises(DataError, match=message):
        ValidationDatasetsDict(datasets=[dataset] * 2, only_for_demo=[False] * 2, names=["a", "b"], every=every)
