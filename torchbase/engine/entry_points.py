"""Plugins: hooks that installed packages provide by entry points."""

from importlib.metadata import EntryPoint, entry_points

from torchbase.engine.hook_checks import check_hook
from torchbase.errors import HookError, nearest_or_all

ENTRY_POINT_GROUP = "torchbase.hooks"


def load_plugin(name: str) -> object:
    """Creates a hook from an entry point in the group ``torchbase.hooks``.

    Args:
        name: The name of the entry point. It refers to a class or a function, which is called without arguments.

    Returns:
        The hook.

    Raises:
        HookError: If no installed package, or more than one, provides the entry point. If it can't be imported or
            called; the original error is the cause. If its return value can't be registered.
    """
    entry_point = _find_entry_point(name)
    distribution = entry_point.dist
    package = f"{distribution.name} {distribution.version}" if distribution is not None else "a package without a name"
    plugin = f"The plugin '{name}' of {package} ({entry_point.value})"
    try:
        factory = entry_point.load()
    except Exception as error:  # importing a module may raise anything
        raise HookError(
            f"{plugin} can't be imported: {type(error).__name__}: {error}. To fix, install the packages that it needs "
            "or another version of it, or remove its name from session.plugins."
        ) from error
    try:
        hook: object = factory()
    except Exception as error:
        raise HookError(
            f"{plugin} can't be created: {type(error).__name__}: {error}. It is called without arguments. To fix, add "
            "a default to each of its parameters, and read settings from run.config when the run starts."
        ) from error
    try:
        check_hook(hook)
    except HookError as error:
        raise HookError(f"{plugin} can't be registered: {error}") from error
    return hook


def describe_plugin(name: str) -> dict[str, str | None]:
    """Describes where a plugin comes from.

    Args:
        name: The name of the entry point.

    Returns:
        A dictionary for JSON: the ``distribution`` and its ``version``, None if the package has no metadata, and the
        ``object`` that the entry point refers to.

    Raises:
        HookError: If no installed package, or more than one, provides the entry point.
    """
    entry_point = _find_entry_point(name)
    distribution = entry_point.dist
    name_and_version = (None, None) if distribution is None else (distribution.name, distribution.version)
    return {"distribution": name_and_version[0], "version": name_and_version[1], "object": entry_point.value}


def _find_entry_point(name: str) -> EntryPoint:
    installed = entry_points(group=ENTRY_POINT_GROUP)
    found = list(installed.select(name=name))
    if not found:
        known = sorted(installed.names)
        suggestion = nearest_or_all(name, known)
        raise HookError(
            f"No installed package provides the plugin '{name}'.{suggestion} "
            "To fix, install the package, or remove the name from session.plugins."
        )
    if len(found) > 1:
        packages = ", ".join(one.dist.name if one.dist is not None else one.value for one in found)
        raise HookError(f"Several packages provide the plugin '{name}': {packages}. To fix, uninstall all but one.")
    return found[0]
