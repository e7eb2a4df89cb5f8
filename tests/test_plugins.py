import sys
import textwrap
import types

import pytest
from tiny import CONFIG, TinySession, config_with

from torchbase.errors import HookError
from torchbase.hookspecs import hookimpl
from torchbase.plugins import EVENT_NAMES, HookRegistry, load_plugin, name_of


class Recorder:
    def __init__(self, calls, label):
        self.calls, self.label = calls, label

    @hookimpl
    def on_epoch_end(self, run):
        self.calls.append(self.label)


class HTTPLogWriter:
    @hookimpl
    def on_run_end(self):
        pass


class Named:
    name = "my_name"

    @hookimpl
    def on_run_end(self):
        pass


def test_hooks_run_in_the_order_in_which_they_are_listed():
    calls = []
    registry = HookRegistry()
    for label in "abc":
        registry.register(Recorder(calls, label), label)
    registry.call.on_epoch_end(run=None)
    assert calls == ["a", "b", "c"]
    assert list(registry.hooks) == ["a", "b", "c"]


def test_a_hook_that_wants_to_be_first_or_last_is():
    calls = []

    class First(Recorder):
        @hookimpl(tryfirst=True)
        def on_epoch_end(self, run):
            self.calls.append("first")

    class Last(Recorder):
        @hookimpl(trylast=True)
        def on_epoch_end(self, run):
            self.calls.append("last")

    registry = HookRegistry()
    for hook in (Last(calls, ""), Recorder(calls, "a"), First(calls, ""), Recorder(calls, "b")):
        registry.register(hook, str(id(hook)))
    registry.call.on_epoch_end(run=None)
    assert calls == ["first", "a", "b", "last"]


def test_of_two_wrappers_the_one_listed_first_stands_outermost():
    calls = []

    def wrapper(label):
        class Wrapper:
            @hookimpl(wrapper=True)
            def run_phase(self):
                calls.append(f"{label} begins")
                result = yield
                calls.append(f"{label} ends")
                return result

        return Wrapper()

    class Doer:
        @hookimpl
        def run_phase(self):
            calls.append("done")

    registry = HookRegistry()
    registry.register(Doer())
    registry.register(wrapper("outer"), "outer")
    registry.register(wrapper("inner"), "inner")
    registry.call.run_phase(run=None, phase=None)
    assert calls == ["outer begins", "inner begins", "done", "inner ends", "outer ends"]


@pytest.mark.parametrize(
    ("hook", "name"),
    [(HTTPLogWriter(), "http_log_writer"), (Named(), "my_name"), (types.ModuleType("package.some_hook"), "some_hook")],
)
def test_a_hook_is_named_by_its_attribute_else_by_its_class(hook, name):
    assert name_of(hook) == name


def test_a_name_that_is_no_text_is_refused():
    hook = Named()
    hook.name = 3
    with pytest.raises(HookError, match=r"name of Named .* is 3"):
        HookRegistry().register(hook)


def test_a_module_can_be_a_hook():
    calls = []
    module = types.ModuleType("my_hook")
    module.on_epoch_end = hookimpl(lambda run: calls.append(run))
    registry = HookRegistry()
    assert registry.register(module) == "my_hook"
    registry.call.on_epoch_end(run=7)
    assert calls == [7]


def test_unregistering_gives_the_hook_back_and_silences_it():
    calls = []
    hook = Recorder(calls, "a")
    registry = HookRegistry()
    registry.register(hook)
    assert registry.unregister("recorder") is hook
    registry.call.on_epoch_end(run=None)
    assert calls == []
    assert not registry.hooks


def test_the_listed_hooks_cannot_be_changed_behind_the_registry():
    with pytest.raises(TypeError):
        HookRegistry().hooks["a"] = object()


def test_unregistering_an_unknown_name_names_the_nearest():
    registry = HookRegistry()
    registry.register(Named())
    with pytest.raises(HookError, match=r"No hook is named 'my_nam'. Did you mean 'my_name'?"):
        registry.unregister("my_nam")


def test_a_class_is_refused():
    with pytest.raises(HookError, match=r"Named is a class.*Named\(\).*parentheses"):
        HookRegistry().register(Named)


def test_a_method_without_the_marker_is_refused():
    class Forgotten:
        def on_epoch_end(self, run):
            pass

    with pytest.raises(HookError, match=r"Forgotten has a method 'on_epoch_end'.*put @hookimpl above"):
        HookRegistry().register(Forgotten())


def test_a_misspelt_event_is_refused():
    class Misspelt:
        @hookimpl
        def on_epoch_and(self, run):
            pass

    with pytest.raises(HookError, match=r"marks 'on_epoch_and'.*Did you mean 'on_epoch_end'?"):
        HookRegistry().register(Misspelt())


def test_an_argument_that_the_event_lacks_is_refused():
    class Asking:
        @hookimpl
        def on_epoch_end(self, run, batch):
            pass

    with pytest.raises(HookError, match=r"Asking\.on_epoch_end asks for 'batch', and the event gives 'run'"):
        HookRegistry().register(Asking())


def test_a_hook_that_implements_nothing_is_refused():
    with pytest.raises(HookError, match="object implements no event"):
        HookRegistry().register(object())


def test_a_name_that_is_taken_is_refused_and_nothing_changes():
    registry = HookRegistry()
    first = Named()
    registry.register(first)
    with pytest.raises(HookError, match=r"'my_name' is registered already.*another name"):
        registry.register(Named())
    assert registry.hooks == {"my_name": first}


def test_the_same_hook_twice_is_refused():
    registry = HookRegistry()
    hook = Named()
    registry.register(hook)
    with pytest.raises(HookError, match="Named is registered already, as 'my_name'"):
        registry.register(hook, "another")


def test_properties_are_not_evaluated_by_registering():
    class Lazy(Named):
        @property
        def network(self):
            raise RuntimeError("not built yet")

    registry = HookRegistry()
    registry.register(Named(), "other")
    with pytest.raises(RuntimeError, match="not built yet"):
        _ = Lazy().network
    assert name_of(Lazy()) == "my_name"


def test_the_events_are_those_of_the_catalogue():
    assert EVENT_NAMES[0] == "on_setup_start"
    assert "log_scalars" in EVENT_NAMES
    assert {name.partition("_")[0] for name in EVENT_NAMES} == {"on", "run", "is", "should", "compute", "log"}


def test_hooks_given_at_once_run_behind_the_defaults():
    registry = HookRegistry([Recorder([], "a")], defaults=[Named()])
    assert list(registry.hooks) == ["my_name", "recorder"]
    with pytest.raises(HookError, match="'my_name' is registered already"):
        HookRegistry([Named()], defaults=[Named()])


@pytest.fixture
def installed_plugin(tmp_path, monkeypatch):
    """A package on the path that offers a plugin, as an installed one does."""
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


def test_an_unknown_plugin_names_the_nearest(installed_plugin, tmp_path):
    with pytest.raises(HookError, match=r"No installed package offers a plugin 'greter'. Did you mean 'greeter'\?"):
        TinySession(config_with(plugins=["greter"]), tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_two_plugins_of_one_name_are_refused(installed_plugin, tmp_path):
    other = tmp_path / "other_plugin-2.0.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: other-plugin\nVersion: 2.0\n")
    (other / "entry_points.txt").write_text("[torchbase.hooks]\ngreeter = some_plugin:Greeter\n")
    with pytest.raises(HookError, match="Several packages offer a plugin 'greeter'"):
        load_plugin("greeter")


PACKAGE = """
    raise_at_import = 1 / {divisor}

    class NeedsArguments:
        def __init__(self, decay): ...

    class Refuses:
        def __init__(self):
            raise OSError("no such account")

    not_callable = 3

    def gives_nothing(): ...
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Puts a package that offers a plugin on the path; its module gets a name that no other test has imported."""
    module = f"offers_{tmp_path.name.replace('-', '_')}"
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(value, divisor=1):
        (tmp_path / f"{module}.py").write_text(textwrap.dedent(PACKAGE.format(divisor=divisor)))
        information = tmp_path / "offers-1.2.dist-info"
        information.mkdir()
        (information / "METADATA").write_text("Metadata-Version: 2.1\nName: offers\nVersion: 1.2\n")
        (information / "entry_points.txt").write_text(f"[torchbase.hooks]\noffered = {value.format(module)}\n")
        return module

    yield make
    sys.modules.pop(module, None)


def test_a_plugin_that_is_not_named_is_not_imported(install, installed_plugin, tmp_path):
    module = install("{}:Anything", divisor=0)
    TinySession(config_with(plugins=["greeter"], num_epochs=1), tmp_path / "runs")()
    assert module not in sys.modules
    with pytest.raises(HookError, match="ZeroDivisionError"):
        load_plugin("offered")


@pytest.mark.parametrize(
    ("value", "divisor", "cause", "message"),
    [
        ("{}:Anything", 0, ZeroDivisionError, "can't be imported: ZeroDivisionError: division by zero"),
        ("{}_missing:Anything", 1, ModuleNotFoundError, "can't be imported: ModuleNotFoundError: No module named"),
        ("{}:Misspelt", 1, AttributeError, "can't be imported: AttributeError: .*'Misspelt'"),
        ("{}:NeedsArguments", 1, TypeError, r"can't be made: TypeError: .*'decay'.*called without arguments"),
        ("{}:Refuses", 1, OSError, r"can't be made: OSError: no such account"),
        ("{}:not_callable", 1, TypeError, r"can't be made: TypeError: 'int' object is not callable"),
    ],
)
def test_a_plugin_that_fails_is_named_with_its_package_and_entry_point(install, value, divisor, cause, message):
    module = install(value, divisor)
    named = rf"The plugin 'offered' of offers 1\.2 \({value.format(module)}\) {message}.* To fix, "
    with pytest.raises(HookError, match=named) as raised:
        load_plugin("offered")
    assert type(raised.value.__cause__) is cause


def test_a_plugin_that_fails_leaves_no_run_directory(install, tmp_path):
    install("{}:NeedsArguments")
    with pytest.raises(HookError, match="The plugin 'offered'"):
        TinySession(config_with(plugins=["offered"]), tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_a_plugin_that_gives_no_hook_is_named_with_its_package(install):
    install("{}:gives_nothing")
    with pytest.raises(HookError, match=r"The plugin 'offered' of offers 1\.2 \(.*can't be registered: NoneType impl"):
        load_plugin("offered")
