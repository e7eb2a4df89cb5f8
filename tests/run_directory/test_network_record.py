import pytest

from torchbase.errors import RunDirectoryError
from torchbase.run_directory.network_record import (
    ModuleRecord,
    NetworkRecord,
    TensorRecord,
    describe_network,
    format_count,
    format_size,
    read_network,
    write_network,
)

TENSORS = (
    TensorRecord("weight", (3, 4), "float32", False, True, None),
    TensorRecord("shift", None, "int64", True, False, "other.shift"),
)


def network_of(parameters, trainable, modules, size):
    network = ModuleRecord("", "Network", parameters, trainable, size, TENSORS)
    return NetworkRecord((network,) * modules, {"generator": 12})


def test_what_is_written_is_read_again(tmp_path):
    record = network_of(12, 12, 2, 48)
    write_network(tmp_path, record)
    assert read_network(tmp_path) == record


def test_a_run_that_wrote_none_has_none(tmp_path):
    assert read_network(tmp_path) is None


@pytest.mark.parametrize(
    "text", ["[]", '{"modules": 3}', '{"format_version": 2}', '{"format_version": 1, "modules": []}']
)
def test_a_file_that_is_no_record_is_an_error(tmp_path, text):
    (tmp_path / "network.json").write_text(text)
    with pytest.raises(RunDirectoryError, match=r"isn't what torchbase writes there.*To fix, restore it, or remove it"):
        read_network(tmp_path)


def test_the_description_of_a_huge_network_has_less_than_80_columns():
    record = network_of(999_900_000_000_000, 999_800_000_000_000, 12_345, 4 * 999_900_000_000_000)
    line = f"network: {describe_network(record)}"
    assert line == "network: 999.9T parameters (999.8T trainable) in 12,345 modules, 3,637.6 TiB"
    assert len(line) <= 80


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0"), (999_999, "999,999"), (1_000_000, "1M"), (7_241_732_096, "7.242B"), (5 * 10**15, "5,000T")],
)
def test_counts(count, text):
    assert format_count(count) == text


@pytest.mark.parametrize(("size", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (2**45, "32.0 TiB")])
def test_sizes(size, text):
    assert format_size(size) == text
