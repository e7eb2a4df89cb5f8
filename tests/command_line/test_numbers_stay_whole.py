"""In a terminal of 80 columns, no command breaks or crops a number, whatever the names and the values are."""

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_up import make_run, status_with

from torchbase.run_directory.record import Epoch
from torchbase.run_directory.status import Best
from torchbase.run_directory.value_ranges import extend

NUMBER = re.compile(r"[-+]?\b(?:\d[\d,]*\.?\d*(?:e[-+]?\d+)?|nan|inf)\b")
WIDTH = 80

# Letters that make no number, and no names that are numbers: "e", "n" and "i" are in 1e5, nan and inf.
names = st.text("abcdxyz_", min_size=1, max_size=70)
numbers = st.floats() | st.sampled_from([0.123456789, 1.23456e-300, -123456789.0, 0.1 + 0.2])
counts = st.integers(1, 10**12)
finite = st.floats(allow_nan=False, allow_infinity=False)
config_values = finite | st.integers(-(2**63), 2**63) | st.lists(counts | finite, max_size=9)


@st.composite
def runs(draw):
    """The arguments of two runs of a group, which have the names of their values in common."""
    phases = ["training", *(f"validation-{name}" for name in draw(st.lists(names, max_size=6, unique=True)))]
    values = draw(st.lists(names, min_size=1, max_size=5, unique=True))
    keys = draw(st.lists(names, min_size=1, max_size=5, unique=True))
    made = []
    for seed in range(2):
        averages = {phase: [{name: draw(numbers) for name in ("loss", *values)}] for phase in phases}
        epochs = [Epoch(draw(counts), phase, 1, of_phase[0]) for phase, of_phase in averages.items()]
        status = status_with(
            seconds=draw(st.none() | st.floats(0, 1e9)),
            iterations=draw(counts),
            max_iterations=draw(st.none() | counts),
            best_losses={epoch.phase: Best(epoch.averages["loss"], epoch.epoch) for epoch in epochs[1:]},
            values=extend({}, epochs),
            directions={"loss": "min", **dict.fromkeys(values, "max")},
        )
        session = {
            "seed": seed,
            "group": draw(names),
            "learning_rate": draw(finite),
        }
        config = {"session": session, "network": {key: draw(config_values) for key in keys}}
        made.append({"averages": averages, "status": status, "config": config})
    return made, f"{phases[-1]}/{values[0]}/highest"


@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(runs())
def test_each_number_is_whole(command, tmp_path_factory, drawn):
    made, key = drawn
    folder = tmp_path_factory.mktemp("folder")
    for tag, arguments in zip(("first", "second"), made, strict=True):
        make_run(folder / "runs", tag, **arguments)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for words in (
            ("runs",),
            ("runs", "--show", key, "--sort", key),
            ("show", "first"),
            ("tail", "first"),
            ("compare", "first", "second"),
        ):
            patch.setenv("COLUMNS", "5000")
            wide = command(*words)
            patch.setenv("COLUMNS", str(WIDTH))
            narrow = command(*words)
            assert narrow[::2] == wide[::2] == (0, "")
            assert max(map(len, narrow[1].splitlines())) <= WIDTH
            shown, all_numbers = (set(NUMBER.findall(out)) for _, out, _ in (narrow, wide))
            assert shown <= all_numbers
            assert shown == all_numbers or (words[0] == "runs" and "too wide to show: " in narrow[1])
