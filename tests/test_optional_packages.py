import sys

import pytest
from tiny import TinySession, config_with

from torchbase.errors import HookError
from torchbase.hooks import MLflow, Wandb
from torchbase.optional_packages import check_installed, load
from torchbase.utils import export_network


@pytest.mark.parametrize(("package", "hook"), [("mlflow", MLflow), ("wandb", Wandb)])
def test_a_hook_with_a_missing_package_says_what_to_install(monkeypatch, package, hook):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(HookError) as caught:
        hook()
    assert str(caught.value) == (
        f"The hook {hook.__name__} needs the package '{package}', which isn't installed. To fix, run: "
        f"pip install 'torchbase[{package}]'."
    )


def test_an_installed_package_is_imported():
    check_installed("json", "A test")
    assert load("json").dumps([1]) == "[1]"
    assert load("json", "json.decoder").JSONDecoder


def test_a_package_that_cannot_be_imported_is_an_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "json.tool", None)
    with pytest.raises(HookError, match=r"The package 'json' can't be imported: .*To fix, run: pip install"):
        load("json", "json.tool")


@pytest.mark.parametrize(("package", "file"), [("safetensors", "a.safetensors"), ("onnxscript", "a.onnx")])
def test_an_export_with_a_missing_package_says_what_to_install(tmp_path, monkeypatch, package, file):
    monkeypatch.setitem(sys.modules, "onnx", sys)  # is checked first
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(HookError, match=rf"The package '{package}' can't be .* pip install 'torchbase\[export\]'"):
        export_network(tmp_path, tmp_path / file)


def test_a_session_without_tensorboard_says_what_to_install(tmp_path, monkeypatch):
    for module in ("tensorboard", "torch.utils.tensorboard", "torch.utils.tensorboard.summary"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(HookError, match=r"The package 'tensorboard' can't be imported: .*run: pip install tensorboard"):
        TinySession(config_with(), tmp_path)()
