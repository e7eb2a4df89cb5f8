"""Strategies of Hypothesis that draw datasets with many types of columns, for the tests of reading."""

from pathlib import Path

import pyarrow as pa
from datasets import (
    Array2D,
    Array3D,
    Array4D,
    Array5D,
    ClassLabel,
    Dataset,
    Features,
    LargeList,
    List,
    Value,
    concatenate_datasets,
    load_from_disk,
)
from hypothesis import strategies as st

MOST_ROWS = 12
INTEGER_TYPES = {f"{sign}int{bits}": (sign, bits) for sign in ("", "u") for bits in (8, 16, 32, 64)}
ARRAYS = {2: Array2D, 3: Array3D, 4: Array4D, 5: Array5D}
STORAGES = ("in memory", "in chunks", "in a file", "saved")


def numbers_of(kind):
    """Draws values of a type: integers with their limits; floats with NaN, infinity and values outside of float32."""
    if kind == "bool":
        return st.booleans()
    if kind.startswith("float"):
        return st.floats(width=int(kind.removeprefix("float")))
    sign, bits = INTEGER_TYPES[kind]
    return st.integers(0, 2**bits - 1) if sign else st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def nested(values, widths):
    """Draws nested lists of these lengths, from outside to inside. A length is a number or a range (least, most)."""
    for width in reversed(widths):
        least, most = width if isinstance(width, tuple) else (width, width)
        values = st.lists(values, min_size=least, max_size=most)
    return values


def array_features(kind, shape):
    return ARRAYS[len(shape)](shape=shape, dtype=kind)


@st.composite
def number_columns(draw):
    """Draws a feature and the strategy of its cells: numbers, lists or arrays, also ragged or with nulls."""
    kind = draw(st.sampled_from([*INTEGER_TYPES, "float16", "float32", "float64", "bool"]))
    values = numbers_of(kind)
    form = draw(
        st.sampled_from(["number", "label", "lists", "lists of fixed length", "large lists", "ragged", "array"])
    )
    if form == "label":
        return ClassLabel(num_classes=5), st.integers(-1, 4)
    if form == "number":
        return Value(kind), values
    shape = draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
    if form == "array":
        shape = tuple(draw(st.lists(st.integers(1, 3), min_size=2, max_size=5)))
        first = draw(st.sampled_from([shape[0], (1, 3)])) if draw(st.booleans()) else None
        feature = array_features(kind, shape if first is None else (None, *shape[1:]))
        return feature, nested(values, [first or shape[0], *shape[1:]])
    feature = Value(kind)
    for width in reversed(shape):
        if form == "large lists":
            feature = LargeList(feature)
        else:
            feature = List(feature, length=width if form == "lists of fixed length" or draw(st.booleans()) else -1)
    if form == "ragged":
        feature = Value(kind)
        for _ in shape:
            feature = List(feature)
        shape = [draw(st.sampled_from([1, 2, (0, 3)])) for _ in shape]
    if draw(st.integers(0, 5)) == 0:
        values = st.none() | values
    return feature, nested(values, shape)


def other_columns():
    """Draws a feature and the strategy of its cells: strings, bytes and dictionaries."""
    text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=5)  # NumPy drops a trailing \0
    raw = st.binary(max_size=4).map(lambda value: value.replace(b"\0", b"1"))
    record = st.fixed_dictionaries({"a": st.integers(0, 9), "b": st.lists(st.floats(width=32), max_size=2)})
    record_feature = {"a": Value("int64"), "b": List(Value("float32"))}
    return st.sampled_from(
        [
            (Value("string"), text),
            (Value("large_string"), text),
            (Value("binary"), raw),
            (List(Value("string")), st.lists(text, max_size=3)),
            (record_feature, record),
            (List(record_feature), st.lists(record, max_size=2)),
        ]
    )


def arrow_array(cells, arrow_type):
    if isinstance(arrow_type, pa.ExtensionType):
        return pa.ExtensionArray.from_storage(arrow_type, pa.array(cells, arrow_type.storage_type))
    return pa.array(cells, arrow_type)


@st.composite
def tables(draw, folder):
    """Draws a dataset of row numbers and up to four columns, in memory or in a file, in one or several chunks."""
    number_of_rows = draw(st.integers(1, MOST_ROWS))
    features, cells = {"row": Value("int64")}, {"row": list(range(number_of_rows))}
    for position in range(draw(st.integers(1, 4))):
        name = f"column {position}"
        features[name], values = draw(st.one_of(number_columns(), number_columns(), other_columns()))
        if draw(st.integers(0, 4)) == 0 and not isinstance(features[name], tuple(ARRAYS.values())):
            values = st.none() | values
        cells[name] = draw(st.lists(values, min_size=number_of_rows, max_size=number_of_rows))
    schema = Features(features).arrow_schema
    arrays = [arrow_array(cells[field.name], field.type) for field in schema]
    return store(pa.table(arrays, schema=schema), draw(st.sampled_from(STORAGES)), draw(st.integers(1, 5)), folder)


def store(table, storage, chunk_size, folder):
    """Creates a dataset from a table, with this storage and this number of rows per chunk."""
    if storage == "in memory":
        return Dataset(table)
    if storage == "in chunks":
        return concatenate_datasets(
            [Dataset(table.slice(start, chunk_size)) for start in range(0, len(table), chunk_size)]
        )
    if storage == "saved":
        Dataset(table).save_to_disk(folder / "saved", max_shard_size=2**30)
        return load_from_disk(folder / "saved")
    path = Path(folder, "table.arrow")
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=chunk_size)
    return Dataset.from_file(str(path))


@st.composite
def any_datasets(draw, folder):
    """Draws a dataset from a table, with rows and columns selected in up to three steps."""
    dataset = draw(tables(folder))
    for step in draw(st.lists(st.sampled_from(STEPS), max_size=3)):
        dataset = step(draw, dataset)
    return dataset


def select_slice(draw, dataset):
    begin = draw(st.integers(0, len(dataset) - 1))
    return dataset.select(range(begin, draw(st.integers(begin + 1, len(dataset)))))


def select_any(draw, dataset):
    return dataset.select(draw(rows_of(dataset)))


def shuffle(draw, dataset):
    return dataset.shuffle(seed=draw(st.integers(0, 9)))


def filter_rows(draw, dataset):
    selected = {draw(st.sampled_from(dataset["row"][:]))}.union(draw(st.sets(st.integers(0, MOST_ROWS))))
    return dataset.filter(selected.__contains__, input_columns="row")


def sort_rows(draw, dataset):
    return dataset.sort("row", reverse=draw(st.booleans()))


def select_columns(draw, dataset):
    others = [name for name in dataset.column_names if name != "row"]
    return dataset.select_columns([*draw(st.permutations(others))[: draw(st.integers(0, len(others)))], "row"])


def concatenate_with_itself(draw, dataset):
    return concatenate_datasets([dataset, dataset])


STEPS = [select_slice, select_any, shuffle, filter_rows, sort_rows, select_columns, concatenate_with_itself]


def rows_of(dataset):
    """Draws positions in a dataset, with repetitions."""
    return st.lists(st.integers(0, len(dataset) - 1), min_size=1, max_size=8)
