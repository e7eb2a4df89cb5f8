"""What is public is sorted and documented."""

import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest

import torchbase

ROOT = Path(__file__).parents[2]
# What users may import from; everything else may move.
PLACES = (
    "torchbase",
    "torchbase.data",
    "torchbase.errors",
    "torchbase.hooks",
    "torchbase.logging_backends",
    "torchbase.metrics",
    "torchbase.testing",
    "torchbase.utils",
    "torchbase.utils.metrics_instances",
)
WRITTEN_FOR_USERS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "examples").rglob("*.py")),
]

MODULES = [importlib.import_module(one.name) for one in pkgutil.walk_packages(torchbase.__path__, "torchbase.")] + [
    torchbase
]
WITH_PUBLIC_NAMES = [module for module in MODULES if hasattr(module, "__all__")]
PUBLIC = [(module, name) for module in WITH_PUBLIC_NAMES for name in module.__all__]


def order(name):
    """Constants first, then classes, then functions, each by the alphabet."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


def defined_in(module, kind):
    return [
        one
        for name, one in vars(module).items()
        if not name.startswith("_") and kind(one) and one.__module__ == module.__name__
    ]


def methods_of(kind):
    """The public methods that a class defines itself, but for those whose event documents them."""
    for name, member in vars(kind).items():
        function = member.__func__ if isinstance(member, staticmethod | classmethod) else member
        is_hook = hasattr(function, "torchbase_impl")
        if inspect.isfunction(function) and not name.startswith("_") and not is_hook:
            yield function


def label(one):
    return f"{one.__module__}.{one.__qualname__}"


def public_callables():
    """The public functions, and the methods of the public classes with their class."""
    found = {}
    for module, name in PUBLIC:
        one = getattr(module, name)
        if inspect.isfunction(one):
            found[label(one)] = (one, None)
        elif inspect.isclass(one):
            found |= {label(method): (method, one) for method in methods_of(one)}
    return found


FUNCTIONS = [function for module in MODULES for function in defined_in(module, inspect.isfunction)]
CLASSES = [kind for module in MODULES for kind in defined_in(module, inspect.isclass)]
METHODS = [method for kind in CLASSES for method in methods_of(kind)]
PUBLIC_CALLABLES = public_callables()


@pytest.mark.parametrize("module", WITH_PUBLIC_NAMES, ids=lambda module: module.__name__)
def test_public_names_are_sorted_and_there(module):
    assert module.__all__ == sorted(set(module.__all__), key=order)
    assert all(hasattr(module, name) for name in module.__all__)


def test_only_these_places_have_public_names():
    assert sorted(module.__name__ for module in WITH_PUBLIC_NAMES) == sorted(PLACES)


def documented_in_the_reference():
    """The objects that the reference documents, each as often as it does."""
    text = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    found = []
    for directive in re.finditer(r"^\.\. auto(\w+):: ([\w.]+)\n((?: {3}.*\n)*)", text, re.MULTILINE):
        kind, name, options = directive.groups()
        if kind == "module":
            module = importlib.import_module(name)
            excluded = re.findall(r":exclude-members: (.*)", options)
            left_out = set(excluded[0].split(", ")) if excluded else set()
            assert left_out <= set(module.__all__), f"{name} has no {left_out - set(module.__all__)}"
            found += [getattr(module, one) for one in module.__all__ if one not in left_out]
        else:
            found.append(getattr(torchbase, name))  # the reference has them under currentmodule:: torchbase
    return found


def test_each_public_name_is_documented_once_in_the_reference():
    documented = [id(one) for one in documented_in_the_reference()]
    public = {id(getattr(module, name)): f"{module.__name__}.{name}" for module, name in PUBLIC}
    assert [name for one, name in public.items() if documented.count(one) != 1] == []
    assert set(documented) <= public.keys()


@pytest.mark.parametrize("file", WRITTEN_FOR_USERS, ids=lambda file: file.name)
def test_what_users_read_imports_public_names_alone(file):
    imports = re.findall(
        r"^\s*from (torchbase[\w.]*) import ([\w, ]+|\([^)]*\))", file.read_text("utf-8"), re.MULTILINE
    )
    for module, names in imports:
        if module.partition(".")[0] != "torchbase":  # a package whose name begins like ours
            continue
        assert module in PLACES
        places = {*importlib.import_module(module).__all__, *(one.rpartition(".")[2] for one in PLACES)}
        assert {name.split(" as ")[0] for name in re.findall(r"\w+(?: as \w+)?", names)} <= places


def test_the_package_exports_what_it_imports():
    imported = {name for name, one in vars(torchbase).items() if not name.startswith("_") and not inspect.ismodule(one)}
    assert imported == set(torchbase.__all__)


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_each_module_says_what_it_is_for(module):
    assert module.__doc__
    assert module.__doc__.splitlines()[0].endswith((".", ":"))


@pytest.mark.parametrize(("module", "name"), PUBLIC, ids=lambda one: getattr(one, "__name__", one))
def test_each_public_class_and_function_is_documented(module, name):
    one = getattr(module, name)
    is_an_instance = not inspect.isclass(one) and not inspect.isroutine(one)  # its docstring is that of its class
    assert is_an_instance or inspect.getdoc(one)


@pytest.mark.parametrize("one", [*CLASSES, *FUNCTIONS, *METHODS], ids=label)
def test_each_class_function_and_method_has_a_docstring(one):
    assert one.__doc__


def refers_elsewhere(function):
    return "; see `" in function.__doc__


@pytest.mark.parametrize("name", PUBLIC_CALLABLES)
def test_a_public_docstring_explains_the_arguments(name):
    function, owner = PUBLIC_CALLABLES[name]
    arguments = [argument for argument in inspect.signature(function).parameters if argument not in ("self", "cls")]
    described = set(re.findall(r"^ +\*{0,2}(\w+): \S", function.__doc__.partition("Args:")[2], re.MULTILINE))
    # A family of functions with the same arguments has them explained by the class.
    by_the_class = set(re.findall(r"``(\w+)``", owner.__doc__ or "")) if owner is not None else set()
    assert refers_elsewhere(function) or set(arguments) <= described | by_the_class


@pytest.mark.parametrize("name", PUBLIC_CALLABLES)
def test_a_public_docstring_says_what_is_returned(name):
    function, _ = PUBLIC_CALLABLES[name]
    gives_something = inspect.signature(function).return_annotation not in (None, "None")
    says_so_at_once = function.__doc__.split()[0] in {"Gives", "Return", "Returns", "Whether"}
    has_a_section = "Returns:" in function.__doc__ or "Yields:" in function.__doc__
    assert not gives_something or says_so_at_once or has_a_section or refers_elsewhere(function)
