import shutil

import pytest
from made_up import make_run
from run_directory.test_fingerprints import RUN, part, state, write
from run_directory.test_traces import iteration_of

from torchbase.run_directory.fingerprints import FINGERPRINTS_FILE, StateHashes
from torchbase.run_directory.traces import TraceFile


@pytest.fixture
def bits(command, tmp_path, monkeypatch):
    """Compares runs with fingerprints; returns the lines about their bits."""
    monkeypatch.chdir(tmp_path)

    def compare(*runs):
        for name, states in zip("abcdef", runs, strict=False):
            shutil.rmtree(tmp_path / name, ignore_errors=True)
            folder = make_run(tmp_path, name)
            if states:
                write(folder, states)
        status, out, err = command("compare", *"abcdef"[: len(runs)])
        assert (status, err) == (0, "")
        lines = out.splitlines()
        first = next(number for number, line in enumerate(lines) if line.startswith("bits"))
        return lines[first:]

    return compare


def test_equal_runs_are_the_same_until_their_end(bits):
    assert bits(RUN, RUN) == ["bits of A and B: the same until iteration 7, the end (6 fingerprints)"]


def test_the_first_difference_is_named_and_each_part(bits):
    other = [*RUN[:2], state(4, (98, 99)), *RUN[3:4], state(6, (7, 8), (3, 77), epochs_done=1)]
    assert bits(RUN, other) == [
        "bits of A and B: the same until iteration 2, different at iteration 4: network.0.weight and 1 more",
        "  the network: first different at iteration 4 (0.weight, 0.bias)",
        "  the optimizer: first different at iteration 6 (0.bias)",
    ]


def with_streams(iteration, *each):
    parts = {**state(iteration).parts, "random": part(*each, names=("random", "numpy", "torch"))}
    return StateHashes(iteration, 0, "iteration", f"{each}", parts)


def test_random_streams_that_part_for_a_while_are_described(bits):
    first = [with_streams(100 * number, 1, 2, 3) for number in range(1, 1235)]
    other = [*first[:12], with_streams(1300, 1, 2, 99), *first[13:]]
    assert bits(first, other) == [
        "bits of A and B: the same until iteration 1,200, different at iteration 1,300: random.torch",
        "  the network: never different",
        "  the optimizer: never different",
        "  the random streams: first different at iteration 1,300 (torch)",
        "  the same again at the last fingerprint that both have, iteration 123,400",
    ]


def test_runs_that_never_agree_differ_from_their_first_fingerprint_on(bits):
    lines = bits(RUN, [state(0, (1, 9), after="start"), *RUN[1:]])
    assert lines[0] == "bits of A and B: different from the start (iteration 0) on: network.0.bias"


def test_common_iterations_are_compared(bits):
    assert bits(RUN, [state(3, (9, 9)), RUN[4]]) == [
        "bits of A and B: the same at the only fingerprint that both have, until iteration 6; "
        "A has some until iteration 7, the end and B has some until iteration 6"
    ]
    assert bits(RUN, RUN[:3]) == [
        "bits of A and B: the same at all 3 fingerprints that both have, until iteration 4; "
        "A has some until iteration 7, the end and B has some until iteration 4"
    ]


def test_runs_without_a_common_iteration_are_not_compared(bits):
    assert bits(RUN[1:], [state(3), state(5)]) == [
        "bits of A and B: not compared, since no iteration has a fingerprint in both: A has 5 from iteration 2 to "
        "iteration 7, the end, and B has 2 from iteration 3 to iteration 5"
    ]


def test_names_that_one_run_has_alone_are_listed(bits):
    assert bits([state(2)], [state(2, names=("0.weight", "1.bias"))]) == [
        "bits of A and B: the same until iteration 2 (1 fingerprint)",
        "  only in A: network.0.bias",
        "  only in B: network.1.bias",
    ]


def test_runs_without_fingerprints_get_to_know_how_to_record_them(bits):
    how = 'torchbase.hooks.Fingerprint("100it") records them'
    assert bits(RUN, (), RUN) == [
        f"bits of A and B: not compared, since B has no fingerprints; {how}",
        "bits of A and C: the same until iteration 7, the end (6 fingerprints)",
    ]
    assert bits((), (), ()) == [f"bits: not compared, since no run has fingerprints; {how}"]


def test_a_damaged_line_is_noted(command, tmp_path):
    folders = [make_run(tmp_path, name) for name in "ab"]
    for folder in folders:
        write(folder, RUN)
    with (folders[1] / FINGERPRINTS_FILE).open("a") as file:
        file.write("{}\n")
    status, out, _ = command("compare", *folders)
    assert status == 1
    assert "the same until iteration 7" in out
    assert f"{folders[1] / FINGERPRINTS_FILE} is damaged: 1 of its lines can't be read" in out


def test_traces_are_compared(command, tmp_path):
    changed = iteration_of(3, run_optimizer_step=(1, 9))
    for name, steps in {"a": iteration_of(3), "b": iteration_of(3), "c": changed, "d": iteration_of(9)}.items():
        file = TraceFile(tmp_path / name)
        for one in steps:
            file.append(one)
    a, b, c, d = (tmp_path / name for name in "abcd")
    assert command("compare", a, b, c, d) == (
        0,
        f"{a} and {b}: the same until iteration 3 (5 steps)\n"
        f"{a} and {c}: in iteration 3, the optimizer step (run_optimizer_step) makes a difference: network.b\n"
        f"{a} and {d}: not compared, since they have no iteration in common\n",
        "",
    )


def test_the_page_has_the_sentences(command, tmp_path):
    folders = [make_run(tmp_path, name) for name in "ab"]
    write(folders[0], RUN)
    write(folders[1], [*RUN[:2], state(4, (98, 99))])
    command("compare", *folders, "--html", tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert (
        "<p>bits of A and B: the same until iteration 2, different at iteration 4: network.0.weight and 1 more" in text
    )
