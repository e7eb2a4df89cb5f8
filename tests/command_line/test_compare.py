import re
from html.parser import HTMLParser

import pytest
from made_up import make_run, status_with

from torchbase.run_directory.status import Best


@pytest.fixture
def folders(tmp_path):
    other = {"training": [{"loss": 0.5}], "validation-valid": [{"loss": 0.125}]}
    return [
        make_run(tmp_path, "first", learning_rate=0.1),
        make_run(
            tmp_path,
            "second",
            learning_rate=0.3,
            weight_decay=0.5,
            averages=other,
            status=status_with(epochs_done=1, iterations=10, best_losses={"validation-valid": Best(0.125, 1)}),
        ),
    ]


def test_runs_are_compared_side_by_side(command, folders):
    status, out, err = command("compare", *folders)
    assert (status, err) == (0, "")
    assert out == (
        f"A  {folders[0]}\n"
        f"B  {folders[1]}\n"
        "\n"
        "                                      A            B\n"
        "run\n"
        "  state                        finished     finished\n"
        "  epochs                              3            1\n"
        "  iterations                         30           10\n"
        "  best epoch                          2            1\n"
        "config differences\n"
        "  session.learning_rate             0.1          0.3\n"
        "  session.weight_decay                -          0.5\n"
        "lowest loss\n"
        "  valid                       0.2500 @2  * 0.1250 @1\n"
        "  demo                      * 0.5000 @3            -\n"
        "averages of the best epoch\n"
        "  training loss                  0.5000       0.5000\n"
        "  training accuracy              0.7000            -\n"
        "  valid loss                     0.2500       0.1250\n"
        "\n"
        "which is better, by the best epochs on the sets that vote\n"
        "  valid loss  B is better: 0.1250 < 0.2500 of A\n"
        "\n"
        'bits: not compared, since no run has fingerprints; torchbase.hooks.Fingerprint("100it") records them\n'
    )


def test_equal_configs_have_no_differences(command, tmp_path):
    _, out, _ = command("compare", make_run(tmp_path, "a"), make_run(tmp_path, "b"))
    assert "config differences\n  none\n" in out


@pytest.mark.parametrize("width", [50, 80, 120])
def test_more_runs_than_fit_are_split_into_blocks(command, tmp_path, monkeypatch, width):
    folders = [make_run(tmp_path, f"run-{number:02d}", seed=number) for number in range(30)]
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.chdir(tmp_path)
    _, out, _ = command("compare", *(folder.name for folder in folders))
    assert max(map(len, out.splitlines())) <= width
    headers = [line.split() for line in out.splitlines() if re.fullmatch(r"( +[A-Z]{1,2})+", line)]
    labels = [label for header in headers for label in header]
    assert labels[:3] == ["A", "B", "C"]
    assert labels[25:] == ["Z", "AA", "AB", "AC", "AD"]
    assert len(headers) > 1


def test_the_page_says_which_run_is_better(command, folders, tmp_path):
    command("compare", *folders, "--html", tmp_path / "page.html")
    page = Page((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert page.open == []
    assert "B is better: 0.1250 < 0.2500 of A" in page.texts
    assert "which is better, by the best epochs on the sets that vote" in page.texts


def test_one_run_is_not_enough(command, folders):
    status, _, err = command("compare", folders[0])
    assert status == 2
    assert "required: RUN" in err


class Page(HTMLParser):
    """The tags, attributes and texts of a page."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.texts = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, *attribute) for attribute in attributes]
        if tag != "meta":  # the only tag without an end tag
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, *attribute) for attribute in attributes]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def test_the_page_is_self_contained(command, folders, tmp_path):
    file = tmp_path / "page.html"
    status, out, err = command("compare", *folders, "--html", file)
    assert (status, out, err) == (0, f"written: {file}\n", "")
    text = file.read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == []
    assert not {"script", "link", "img", "iframe", "object"} & set(page.tags)
    assert not [
        name for _, name, _ in page.attributes if name in {"src", "href", "xlink:href"} or name.startswith("on")
    ]
    assert "url(" not in text
    assert "@import" not in text
    assert ("meta", "content", "default-src 'none'; style-src 'unsafe-inline'") in page.attributes
    assert {"0.2500 @2", "session.learning_rate", "training accuracy"} <= set(page.texts)


def test_the_page_has_a_figure_for_each_average_of_each_phase(command, folders, tmp_path):
    command("compare", *folders, "--html", tmp_path / "page.html")
    page = Page((tmp_path / "page.html").read_text(encoding="utf-8"))
    described = [value for tag, name, value in page.attributes if (tag, name) == ("svg", "aria-label")]
    curves = ("training: loss", "valid: loss", "training: accuracy")
    assert described == [f"{curve} over the epochs" for curve in curves]
    assert page.tags.count("svg") == 3
    assert page.tags.count("polyline") == 5  # the second run has no accuracy
    assert "A, epoch 2: 0.2500" in page.texts
    assert "B, epoch 1: 0.1250" in page.texts


def test_names_of_runs_can_not_break_the_page(command, tmp_path):
    averages = {'training"><script>': [{"<b>loss</b>": 1.0}, {"<b>loss</b>": 2.0}]}
    config = {"session": {}, "network": {"<i>": "&amp;"}}
    names = ["<script>alert(1)</script>".replace("/", "_"), "b&b"]
    folders = [make_run(tmp_path, name, averages=averages, config={**config, "n": name}) for name in names]
    command("compare", *folders, "--html", tmp_path / "page.html")
    page = Page((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert page.open == []
    assert "script" not in page.tags
    assert not {"b", "i"} & set(page.tags) - {"b"}
    assert page.tags.count("b") == 2  # the labels
    assert "<b>loss</b>" in page.texts


def test_a_page_that_can_not_be_written_is_an_error(command, folders, tmp_path):
    status, _, err = command("compare", *folders, "--html", tmp_path / "missing" / "page.html")
    assert status == 2
    assert "can't write" in err
    assert "page.html" in err


def test_runs_without_averages_make_a_page_without_figures(command, tmp_path):
    folders = [make_run(tmp_path, name, status=None, averages={}) for name in "ab"]
    status, out, _ = command("compare", *folders, "--html", tmp_path / "page.html")
    assert status == 0
    assert "a: it ended before it started to train" in out
    assert "svg" not in Page((tmp_path / "page.html").read_text(encoding="utf-8")).tags


def test_a_damaged_run_is_compared_nevertheless(command, folders):
    (folders[0] / "status.json").write_bytes(b"{")
    status, out, _ = command("compare", *folders)
    assert status == 1
    assert "unknown" in out
    assert "status.json is damaged" in out
