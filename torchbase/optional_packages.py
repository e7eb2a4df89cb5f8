"""Packages that only one of the hooks needs, and that are installed by those who use it."""

from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

from torchbase.errors import HookError


def check_installed(package: str, who: str) -> None:
    """Refuses what can't work, before a run begins.

    Args:
        package: The name of the package, which is also that of the extra of torchbase that installs it.
        who: What needs it, for the message.

    Raises:
        HookError: If it isn't installed.
    """
    if find_spec(package) is None:
        raise HookError(f"{who} needs the package '{package}', which isn't installed. To fix, {_install(package)}.")


def load(package: str, module: str | None = None) -> ModuleType:
    """Imports a package, or a module of it.

    Args:
        package: The name of the package.
        module: The module; the package itself without one.

    Returns:
        The module.

    Raises:
        HookError: If it can't be imported.
    """
    try:
        return import_module(package if module is None else module)
    except ImportError as error:
        raise HookError(f"The package '{package}' can't be imported: {error}. To fix, {_install(package)}.") from error


def _install(package: str) -> str:
    return f"run: pip install 'torchbase[{package}]'"
