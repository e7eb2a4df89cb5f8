"""Plugins, loaded from packages that the tests create."""

import json
import sys
import textwrap
from pathlib import Path

import pytest
from tiny import CONFIG, TinySession, config_with

from torchbase.engine.entry_points import describe_plugin, load_plugin
from torchbase.errors import HookError


@pytest.fixture
def installed_plugin(tmp_path, monkeypatch):
    """A package on the path with an entry point, as an installed package has it."""
    (tmp_path / "some_plugin.py").write_text(
        "from torchbase import hookimpl\nclass Greeter:\n    @hookimpl\n    def on_run_start(self): ...\n"
    )
    information = tmp_path / "some_plugin-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: some-plugin\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[torchbase.hooks]\ngreeter = some_plugin:Greeter\n")
    monkeypatch.syspath_prepend(str(tmp_path))


def test_a_plugin_is_loaded_by_its_name_only(installed_plugin, tmp_path):
    assert type(load_plugin("greeter")).__name__ == "Greeter"
    assert "greeter" not in TinySession(CONFIG, tmp_path / "runs").hooks
    session = TinySession(config_with(plugins=["greeter"]), tmp_path / "runs")
    assert list(session.hooks)[-1] == "greeter"
    session()


def test_an_unknown_plugin_suggests_the_most_similar_name(installed_plugin, tmp_path):
    with pytest.raises(HookError, match=r"No installed package provides the plugin 'greter'. Did you mean 'greeter'\?"):
        TinySession(config_with(plugins=["greter"]), tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_two_plugins_with_the_same_name_are_refused(installed_plugin, tmp_path):
    other = tmp_path / "other_plugin-2.0.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: other-plugin\nVersion: 2.0\n")
    (other / "entry_points.txt").write_text("[torchbase.hooks]\ngreeter = some_plugin:Greeter\n")
    with pytest.raises(HookError, match="Several packages provide the plugin 'greeter'"):
        load_plugin("greeter")
    with pytest.raises(HookError, match="Several packages provide the plugin 'greeter'"):
        describe_plugin("greeter")


def test_the_environment_records_the_package_of_a_plugin(installed_plugin, tmp_path):
    session = TinySession(config_with(plugins=["greeter"]), tmp_path / "runs")
    environment = json.loads(Path(session.run_dir, "environment.json").read_text())
    greeter = {"distribution": "some-plugin", "version": "1.0", "object": "some_plugin:Greeter"}
    assert environment["plugins"] == {"greeter": greeter}
    assert describe_plugin("greeter") == greeter
    with pytest.raises(HookError, match=r"Did you mean 'greeter'\?"):
        describe_plugin("greter")


PACKAGE = """
    raise_at_import = 1 / {divisor}

    class NeedsArguments:
        def __init__(self, decay): ...

    class Refuses:
        def __init__(self):
            raise OSError("no such account")

    not_callable = 3

    def returns_nothing(): ...
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Puts a package with an entry point on the path. Its module has a name that no other test imports."""
    module = f"provides_{tmp_path.name.replace('-', '_')}"
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(value, divisor=1):
        (tmp_path / f"{module}.py").write_text(textwrap.dedent(PACKAGE.format(divisor=divisor)))
        information = tmp_path / "provider-1.2.dist-info"
        information.mkdir()
        (information / "METADATA").write_text("Metadata-Version: 2.1\nName: provider\nVersion: 1.2\n")
        (information / "entry_points.txt").write_text(f"[torchbase.hooks]\nprovided = {value.format(module)}\n")
        return module

    yield make
    sys.modules.pop(module, None)


def test_a_plugin_that_the_config_does_not_list_is_not_imported(install, installed_plugin, tmp_path):
    module = install("{}:Anything", divisor=0)
    TinySession(config_with(plugins=["greeter"], num_epochs=1), tmp_path / "runs")()
    assert module not in sys.modules
    with pytest.raises(HookError, match="ZeroDivisionError"):
        load_plugin("provided")


@pytest.mark.parametrize(
    ("value", "divisor", "cause", "message"),
    [
        ("{}:Anything", 0, ZeroDivisionError, "can't be imported: ZeroDivisionError: division by zero"),
        ("{}_missing:Anything", 1, ModuleNotFoundError, "can't be imported: ModuleNotFoundError: No module named"),
        ("{}:Misspelt", 1, AttributeError, "can't be imported: AttributeError: .*'Misspelt'"),
        ("{}:NeedsArguments", 1, TypeError, r"can't be created: TypeError: .*'decay'.*called without arguments"),
        ("{}:Refuses", 1, OSError, r"can't be created: OSError: no such account"),
        ("{}:not_callable", 1, TypeError, r"can't be created: TypeError: 'int' object is not callable"),
    ],
)
def test_the_error_of_a_plugin_has_its_package_and_entry_point(install, value, divisor, cause, message):
    module = install(value, divisor)
    named = rf"The plugin 'provided' of provider 1\.2 \({value.format(module)}\) {message}.* To fix, "
    with pytest.raises(HookError, match=named) as raised:
        load_plugin("provided")
    assert type(raised.value.__cause__) is cause


def test_a_plugin_that_fails_leaves_no_run_directory(install, tmp_path):
    install("{}:NeedsArguments")
    with pytest.raises(HookError, match="The plugin 'provided'"):
        TinySession(config_with(plugins=["provided"]), tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_the_error_of_a_plugin_that_returns_no_hook_has_its_package(install):
    install("{}:returns_nothing")
    with pytest.raises(
        HookError, match=r"The plugin 'provided' of provider 1\.2 \(.*can't be registered: NoneType impl"
    ):
        load_plugin("provided")
