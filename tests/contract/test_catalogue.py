"""What README.md and docs list is what there is: events, default hooks, keys of the config."""

import ast
import inspect
import re
from pathlib import Path

import config_keys
import pytest
from tiny import TinySession, config_with

from torchbase import hooks
from torchbase.engine import hookspecs
from torchbase.engine.plugins import EVENT_NAMES
from torchbase.logging_backends.base import LoggingBackend
from torchbase.run_directory.config import SessionConfig

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CATALOGUE = (ROOT / "docs" / "hooks.md").read_text(encoding="utf-8")
SIGNATURE = re.compile(r"```python\n(def \w+\([^`]*?\) -> .+?: \.\.\.)\n```")


def section(text, title):
    """What stands under a heading, down to the next heading of its level or above."""
    (heading,) = re.findall(rf"^(#+) {re.escape(title)}$", text, re.MULTILINE)
    after = text.split(f"\n{heading} {title}\n")[1]
    return re.split(rf"^#{{1,{len(heading)}}} ", after, flags=re.MULTILINE)[0]


def table(text):
    """The cells of the rows of the first table, without its head."""
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def unquoted(cell):
    return cell.strip("`")


def default_hooks(tmp_path):
    return TinySession(config_with(deterministic=True), tmp_path).default_hooks()


def test_the_catalogue_has_a_section_for_each_event_in_the_order_of_hookspecs():
    assert re.findall(r"^### (\w+)$", CATALOGUE, re.MULTILINE) == list(EVENT_NAMES)


def signature_of(definition):
    """The arguments and the result of a function's source, as text; quotes around a type mean nothing."""
    return f"({ast.unparse(definition.args)}) -> {ast.unparse(definition.returns)}".replace("'", "")


SPECIFICATIONS = {
    one.name: one for one in ast.parse(inspect.getsource(hookspecs)).body if isinstance(one, ast.FunctionDef)
}


@pytest.mark.parametrize("event", EVENT_NAMES)
def test_the_catalogue_shows_the_exact_signature_of_an_event(event):
    (source,) = SIGNATURE.findall(section(CATALOGUE, event))
    (definition,) = ast.parse(source).body
    assert definition.name == event
    assert signature_of(definition) == signature_of(SPECIFICATIONS[event])


@pytest.mark.parametrize("event", EVENT_NAMES)
def test_the_catalogue_explains_each_argument_of_an_event(event):
    explained = re.findall(r"^- `(\w+)`: \S", section(CATALOGUE, event), re.MULTILINE)
    assert explained == list(inspect.signature(getattr(hookspecs, event)).parameters)


WHAT_BECOMES_OF_ANSWERS = {
    "on": "Answers are ignored.",
    "log": "Answers are ignored.",
    "compute": "The dictionaries of all hooks together",
    "is": "The first answer that isn't None counts",
    "should": "The first answer that isn't None counts",
    "run": "One hook does it",
}


@pytest.mark.parametrize("event", EVENT_NAMES)
def test_the_catalogue_says_what_becomes_of_an_answer(event):
    described = " ".join(section(CATALOGUE, event).split())
    assert WHAT_BECOMES_OF_ANSWERS[event.partition("_")[0]] in described


def test_the_loop_of_the_catalogue_names_each_event_of_the_loop_with_its_arguments():
    loop = section(CATALOGUE, "The loop")
    told = {name: arguments.split(", ") for name, arguments in re.findall(r"(\w+_\w+)\(([^)]*)\)", loop)}
    expected = {
        event: list(inspect.signature(getattr(hookspecs, event)).parameters)
        for event in EVENT_NAMES
        if not event.startswith("log_")
    }
    assert told == expected


def test_the_readme_lists_each_event_in_the_order_of_hookspecs():
    rows = table(section(README, "Hooks"))
    assert [unquoted(row[0]) for row in rows] == list(EVENT_NAMES)
    for name, when, answer in rows:
        assert when, name
        assert ("ignored" in answer) == unquoted(name).startswith(("on_", "log_")), name
        assert ("one hook does it" in answer) == unquoted(name).startswith("run_"), name


@pytest.mark.parametrize("event", EVENT_NAMES)
def test_each_event_is_in_a_test(event):
    tests = [path for path in (ROOT / "tests").rglob("*.py") if "contract" not in path.parts]
    assert any(re.search(rf"\b{event}\b", path.read_text(encoding="utf-8")) for path in tests)


def test_the_page_on_the_config_has_the_generated_table_of_keys():
    page = (ROOT / "docs" / "config.md").read_text(encoding="utf-8")
    assert config_keys.PLACE in section(page, "session").splitlines()
    rows = table(config_keys.table())
    assert [unquoted(row[0]) for row in rows] == list(SessionConfig.model_fields)
    for (_, *cells), field in zip(rows, SessionConfig.model_fields.values(), strict=True):
        assert cells[0].replace("`", "") == field.title
        assert cells[1:] == ["required" if field.is_required() else f"`{field.default!r}`", field.description]


def test_the_design_names_each_module():
    house = section((ROOT / "docs" / "design.md").read_text(encoding="utf-8"), "The house")
    modules = [*(ROOT / "torchbase").glob("*.py"), *(ROOT / "torchbase" / "data").glob("[!_]*.py")]
    assert [path.name for path in sorted(modules) if f"`{path.name}`" not in house] == []


def test_the_readme_lists_the_default_hooks_in_their_order(tmp_path):
    rows = table(section(README, "Default hooks"))
    assert [unquoted(row[0]) for row in rows] == [type(hook).__name__ for hook in default_hooks(tmp_path)]


def marks_of(hook):
    """By event that a hook implements, where it asks to stand."""
    marks = {}
    for name in EVENT_NAMES:
        options = getattr(getattr(type(hook), name, None), "torchbase_impl", None)
        if options is not None:
            marks[name] = " (first)" if options["tryfirst"] else " (last)" if options["trylast"] else ""
    return marks


def test_the_catalogue_lists_what_each_default_hook_listens_to(tmp_path):
    session = TinySession(config_with(deterministic=True), tmp_path)
    rows = table(section(CATALOGUE, "The default hooks"))
    assert [unquoted(row[0]) for row in rows] == list(session.hooks)[2:]
    for (_, class_name, events), hook in zip(rows, list(session.hooks.values())[2:], strict=True):
        assert re.match(r"`(\w+)`", class_name)[1] == type(hook).__name__
        listed = dict(re.findall(r"`(\w+…?)`( \(\w+\))?", events))
        if "log_…" in listed:  # stands for all of them
            mark = listed.pop("log_…")
            listed |= {name: mark for name in EVENT_NAMES if name.startswith("log_")}
        assert listed == marks_of(hook)


def test_the_page_of_techniques_shows_each_hook_that_is_no_default(tmp_path):
    text = (ROOT / "docs" / "techniques.md").read_text(encoding="utf-8")
    own = {type(hook).__name__ for hook in default_hooks(tmp_path)} | {"NanSkip"}  # which a config puts in place
    # These have a page of their own, that of the logging backends.
    own |= {name for name in hooks.__all__ if issubclass(getattr(hooks, name), LoggingBackend)} | {"NetworkGraph"}
    listed = re.findall(r"`(\w+)`", " ".join(row[1] for row in table(text.partition("\n## ")[0])))
    assert sorted(listed) == sorted(set(hooks.__all__) - own)
    for name in listed:
        (title,) = re.findall(rf"^## (.*\b{name}\b.*)$", text, re.MULTILINE)
        assert f"{name}(" in "".join(re.findall(r"```python\n(.*?)```", section(text, title), re.DOTALL)), name


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_the_links_of_a_page_lead_to_files(page):
    links = re.findall(r"\]\((?!https?://)([^)#]+)", (ROOT / page).read_text(encoding="utf-8"))
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_page_on_hooks_finds_an_event_for_each_wish():
    page = (ROOT / "docs" / "writing_a_hook.md").read_text(encoding="utf-8")
    rows = table(section(page, "Choose the event"))
    named = [name for _, cell in rows for name in re.findall(r"`(\w+)`", cell)]
    assert set(named) <= set(EVENT_NAMES)
    passed_over = {"on_phase_start", "on_loss_computed"}  # rarely the answer to a wish
    assert set(EVENT_NAMES) - set(named) == passed_over
