"""The documented events, hooks and config keys match the source, where Sphinx doesn't generate them."""

import importlib
import inspect
import re
from pathlib import Path

import config_keys
import pytest

from torchbase import hooks
from torchbase.engine import hookspecs
from torchbase.engine.hook_checks import EVENT_NAMES
from torchbase.logging_backends.base import LoggingBackend
from torchbase.run_directory.session_config import SessionConfig

ROOT = Path(__file__).parents[2]
PACKAGES_OF_HOOKS = ("hooks", "techniques", "logging_backends")
LOGGING_EVENTS = [name for name in EVENT_NAMES if name.startswith("log_")]
LOOP_EVENTS = [name for name in EVENT_NAMES if name not in LOGGING_EVENTS]


def section(text, title):
    """The text under a heading, down to the next heading of the same or a higher level."""
    (heading,) = re.findall(rf"^(#+) {re.escape(title)}$", text, re.MULTILINE)
    after = text.split(f"\n{heading} {title}\n")[1]
    return re.split(rf"^#{{1,{len(heading)}}} ", after, flags=re.MULTILINE)[0]


def table(text):
    """The cells of the rows of the first table, without its head."""
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def unquoted(cell):
    return cell.strip("`")


def arguments_of(event):
    return list(inspect.signature(getattr(hookspecs, event)).parameters)


def implements(kind, event):
    return hasattr(getattr(kind, event, None), "torchbase_impl")


def hooks_of_the_package():
    """The module of each hook, by the class name of the hook."""
    found = {}
    for package in PACKAGES_OF_HOOKS:
        for path in sorted((ROOT / "torchbase" / package).glob("[!_]*.py")):
            module = importlib.import_module(f"torchbase.{package}.{path.stem}")
            for name, kind in inspect.getmembers(module, inspect.isclass):
                is_public_here = kind.__module__ == module.__name__ and not name.startswith("_")
                is_hook = any(implements(kind, event) for event in EVENT_NAMES)
                if is_public_here and is_hook and not inspect.isabstract(kind):
                    found[name] = path
    return found


HOOKS = hooks_of_the_package()


@pytest.mark.parametrize("event", EVENT_NAMES)
def test_the_docstring_of_an_event_explains_each_argument(event):
    docstring = inspect.getdoc(getattr(hookspecs, event))
    section_of_arguments = docstring.partition("\nArgs:\n")[2].partition("\nReturns:\n")[0]
    assert re.findall(r"^    (\w+): \S", section_of_arguments, re.MULTILINE) == arguments_of(event)


@pytest.mark.parametrize("event", EVENT_NAMES)
def test_the_docstring_of_an_event_explains_a_return_value_that_is_used(event):
    specification = getattr(hookspecs, event)
    is_used = inspect.signature(specification).return_annotation is not None
    assert ("\nReturns:\n" in inspect.getdoc(specification)) == is_used


def test_the_drawing_of_the_loop_has_each_event_of_the_loop_with_its_arguments():
    drawing = hookspecs.__doc__.split("\n::\n")[1].split("\n\nThe ")[0]
    drawn = {name: arguments.split(", ") for name, arguments in re.findall(r"(\w+_\w+)\(([^)]*)\)", drawing)}
    assert drawn == {event: arguments_of(event) for event in LOOP_EVENTS}


def test_the_package_fires_each_event_of_the_loop():
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "torchbase").rglob("*.py")]
    fired = {event for source in sources for event in re.findall(r"\bcall\.(\w+)[(,]", source)}
    assert [event for event in LOOP_EVENTS if event not in fired] == []


@pytest.mark.parametrize("event", LOGGING_EVENTS)
def test_a_logging_backend_implements_each_event_for_logging(event):
    backends = [kind for kind in vars(hooks).values() if inspect.isclass(kind) and issubclass(kind, LoggingBackend)]
    assert any(implements(kind, event) for kind in backends)


@pytest.mark.parametrize("event", EVENT_NAMES)
def test_each_event_is_in_a_test(event):
    tests = [path for path in (ROOT / "tests").rglob("*.py") if "contract" not in path.parts]
    assert any(re.search(rf"\b{event}\b", path.read_text(encoding="utf-8")) for path in tests)


def test_each_hook_of_the_package_is_public():
    assert HOOKS.keys() == set(hooks.__all__)


@pytest.mark.parametrize("path", HOOKS.values(), ids=HOOKS.keys())
def test_each_hook_has_a_file_of_tests(path):
    assert (ROOT / "tests" / path.parent.name / f"test_{path.name}").is_file()


def test_the_page_on_hooks_generates_its_lists():
    page = (ROOT / "docs" / "hooks.md").read_text(encoding="utf-8")
    assert re.findall(r"^\.\. ([\w-]+):: *([\w.]*)$", page, re.MULTILINE) == [
        ("automodule", "torchbase.engine.hookspecs"),
        ("events", "loop"),
        ("events", "logging"),
        ("default-hooks", ""),
        ("other-hooks", ""),
    ]


def test_the_page_on_techniques_has_an_example_of_each_hook_that_it_lists():
    page = (ROOT / "docs" / "techniques.md").read_text(encoding="utf-8")
    listed = re.findall(r"`(\w+)`", " ".join(row[1] for row in table(page.partition("\n## ")[0])))
    assert listed
    assert set(listed) <= set(hooks.__all__)
    for name in listed:
        (title,) = re.findall(rf"^## (.*\b{name}\b.*)$", page, re.MULTILINE)
        assert f"{name}(" in "".join(re.findall(r"```python\n(.*?)```", section(page, title), re.DOTALL)), name


def test_the_page_on_writing_a_hook_recommends_events_that_exist():
    page = (ROOT / "docs" / "writing_a_hook.md").read_text(encoding="utf-8")
    recommended = re.findall(r"`(\w+_\w+)`", " ".join(row[1] for row in table(section(page, "Choose the event"))))
    assert recommended
    assert set(recommended) <= set(EVENT_NAMES)


def test_the_page_on_the_config_has_the_generated_table_of_keys():
    page = (ROOT / "docs" / "config.md").read_text(encoding="utf-8")
    assert config_keys.PLACE in section(page, "session").splitlines()
    rows = table(config_keys.table())
    assert [unquoted(row[0]) for row in rows] == list(SessionConfig.model_fields)
    for (_, *cells), field in zip(rows, SessionConfig.model_fields.values(), strict=True):
        assert cells[0].replace("`", "") == field.title
        assert cells[1:] == ["required" if field.is_required() else f"`{field.default!r}`", field.description]


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_the_links_of_a_page_lead_to_files(page):
    links = re.findall(r"\]\((?!https?://)([^)#]+)", (ROOT / page).read_text(encoding="utf-8"))
    assert [link for link in links if not (ROOT / link).exists()] == []
