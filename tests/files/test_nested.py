from collections import OrderedDict

from torchbase.files.nested import map_leaves


def test_each_value_has_the_path_of_keys_and_positions():
    value = {"a": [1, (2, {"b": 3})], 4: None, "empty": {}}
    seen = []
    assert map_leaves(value, lambda path, one: seen.append((path, one)) or one) == value
    assert seen == [(("a", 0), 1), (("a", 1, 0), 2), (("a", 1, 1, "b"), 3), ((4,), None)]


def test_the_containers_are_new_and_of_the_same_type():
    value = OrderedDict(a=[1], b=(2,))
    value._metadata = {"version": 1}
    copied = map_leaves(value, lambda _, one: one + 10)
    assert copied == OrderedDict(a=[11], b=(12,))
    assert value == OrderedDict(a=[1], b=(2,))
    assert isinstance(copied, OrderedDict)
    assert copied._metadata == {"version": 1}


def test_a_value_alone_has_an_empty_path():
    assert map_leaves(3, lambda path, one: (path, one)) == ((), 3)
