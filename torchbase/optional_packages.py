"""Optional packages, which only one hook needs: checks that they are installed, and imports them."""

from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

from torchbase.errors import HookError


def check_installed(package: str, needed_by: str) -> None:
    """Checks that a package is installed, before a run starts.

    Args:
        package: The name of the package. The extra of torchbase that installs it has the same name.
        needed_by: The name of the hook that needs the package, for the message.

    Raises:
        HookError: If the package isn't installed.
    """
    if find_spec(package) is None:
        raise HookError(
            f"{needed_by} needs the package '{package}', which isn't installed. To fix, {_install(package)}."
        )


def load(package: str, module: str | None = None, *, install: str | None = None) -> ModuleType:
    """Imports a package, or a module of it.

    Args:
        package: The name of the package.
        module: The full name of the module. By default the package itself.
        install: What to install if it can't be imported. By default the extra of torchbase with its name.

    Returns:
        The module.

    Raises:
        HookError: If the module can't be imported.
    """
    try:
        return import_module(package if module is None else module)
    except ImportError as error:
        raise HookError(
            f"The package '{package}' can't be imported: {error}. To fix, {_install(package, install)}."
        ) from error


def _install(package: str, install: str | None = None) -> str:
    return f"run: pip install {install}" if install is not None else f"run: pip install 'torchbase[{package}]'"
