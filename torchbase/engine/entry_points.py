"""Hooks that installed packages offer: found by name, made, and told apart by their packages."""

from importlib.metadata import EntryPoint, entry_points

from torchbase.engine.plugins import check_hook
from torchbase.errors import HookError, did_you_mean

ENTRY_POINT_GROUP = "torchbase.hooks"


def load_plugin(name: str) -> object:
    """Makes a hook that an installed package offers under the entry-point group ``torchbase.hooks``.

    Args:
        name: The name of the entry point. It refers to a class, or a function, that is called without arguments.

    Returns:
        The hook.

    Raises:
        HookError: If no installed package offers one of that name, or several do; if it can't be imported or made, with
            the error that was raised as its cause; if what it gives can't be registered.
    """
    offer = _find_offer(name)
    package = f"{offer.dist.name} {offer.dist.version}" if offer.dist is not None else "a package without a name"
    plugin = f"The plugin '{name}' of {package} ({offer.value})"
    try:
        factory = offer.load()
    except Exception as error:  # a module may raise anything
        raise HookError(
            f"{plugin} can't be imported: {type(error).__name__}: {error}. To fix, install what it needs, or another "
            "version of it, or take its name out of session.plugins."
        ) from error
    try:
        hook: object = factory()
    except Exception as error:
        raise HookError(
            f"{plugin} can't be made: {type(error).__name__}: {error}. It is called without arguments. To fix, give "
            "each of them a default; settings are read from run.config when the run starts."
        ) from error
    try:
        check_hook(hook)
    except HookError as error:
        raise HookError(f"{plugin} can't be registered: {error}") from error
    return hook


def describe_plugin(name: str) -> dict[str, str | None]:
    """Tells which installed package offers a plugin.

    Args:
        name: The name of the entry point.

    Returns:
        Its ``distribution`` and ``version``, None where it has no metadata, and what the entry point refers to, as
        ``object``; ready for JSON.

    Raises:
        HookError: If no installed package offers one of that name, or several do.
    """
    offer = _find_offer(name)
    name_and_version = (None, None) if offer.dist is None else (offer.dist.name, offer.dist.version)
    return {"distribution": name_and_version[0], "version": name_and_version[1], "object": offer.value}


def _find_offer(name: str) -> EntryPoint:
    offered = entry_points(group=ENTRY_POINT_GROUP)
    found = list(offered.select(name=name))
    if not found:
        known = sorted(offered.names)
        there_are = did_you_mean(name, known) or f" There are: {', '.join(known) or 'none'}."
        raise HookError(
            f"No installed package offers a plugin '{name}'.{there_are} "
            "To fix, install the package, or take the name out of session.plugins."
        )
    if len(found) > 1:
        packages = ", ".join(one.dist.name if one.dist is not None else one.value for one in found)
        raise HookError(f"Several packages offer a plugin '{name}': {packages}. To fix, uninstall all but one.")
    return found[0]
