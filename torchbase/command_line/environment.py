"""The environment of a run as text."""

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from torchbase.command_line.run_details import Details
from torchbase.command_line.terminal import plain
from torchbase.command_line.times import format_time


def describe_environment(details: Details) -> Iterator[tuple[str, str]]:
    """Describes the environment of a run.

    Args:
        details: The details of the run.

    Yields:
        A name and a text. Unknown values are skipped.
    """
    environment = details.environment
    if "python" in environment:
        yield "python", plain(f"{environment['python']} on {environment.get('platform', 'an unknown platform')}")
    packages = _mapping(environment, "packages")
    if packages:
        yield "packages", ", ".join(plain(f"{name} {version or 'not installed'}") for name, version in packages.items())
    torch = _mapping(environment, "torch")
    if torch:
        built_with = (f"{name} {torch[key]}" for name, key in (("CUDA", "cuda"), ("cuDNN", "cudnn")) if torch.get(key))
        yield "torch", plain(", ".join([str(torch.get("version")), *built_with]))
    plugins = _mapping(environment, "plugins")
    if plugins:
        yield "plugins", ", ".join(_plugin(name, plugins) for name in plugins)
    devices = _mapping(environment, "devices")
    if devices:
        accelerators = ", ".join(map(str, _list(devices, "accelerators"))) or "none"
        cores, threads = devices.get("cpu_count"), devices.get("thread_count")
        yield "devices", plain(f"CPU cores: {cores}; threads of torch: {threads}; accelerators: {accelerators}")
    is_shared = any(map(_has_several, (environment, *details.resumes)))
    if is_shared:
        yield "processes", _processes(environment)
    command_line = _list(environment, "command_line")
    if command_line:
        yield "command", plain(shlex.join(map(str, command_line)))
    session = _mapping(environment, "session")
    if session:
        yield "session", plain(f"{session.get('class')} in {session.get('file') or session.get('module')}")
    commit = _mapping(environment, "git")
    if commit:
        yield "commit", plain(f"{commit.get('commit')}{', with changes' if commit.get('dirty') else ''}")
    for resumed in details.resumes:
        changes = _list(resumed, "config_changes") or ["the same config"]
        before = resumed.get("iterations_before")
        after = [f"after {before:,} iterations"] if isinstance(before, int) else []
        on = [f"on {_processes(resumed)}"] if is_shared else []
        time = format_time(str(resumed.get("time", "at an unknown time")))
        yield "resumed", plain(f"{', '.join([time, *after, *on])}: {', '.join(map(str, changes))}")


def _mapping(environment: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = environment.get(name)
    return value if isinstance(value, Mapping) else {}


def _list(environment: Mapping[str, Any], name: str) -> list[Any]:
    value = environment.get(name)
    return value if isinstance(value, list) else []


def _has_several(environment: Mapping[str, Any]) -> bool:
    machines = _list(environment, "processes")
    return len(machines) > 1 or any(isinstance(one, Mapping) and one.get("count") != 1 for one in machines)


def _processes(environment: Mapping[str, Any]) -> str:
    machines = [one for one in _list(environment, "processes") if isinstance(one, Mapping)]
    described = [
        f"{one.get('count')} on {one.get('host')} ({', '.join(map(str, _list(one, 'devices')))}; threads of each: "
        f"{one.get('thread_count')})"
        for one in machines
    ]
    return plain(", ".join(described)) or "an unknown number"


def _plugin(name: str, plugins: Mapping[str, Any]) -> str:
    plugin = _mapping(plugins, name)
    package = [plugin.get("distribution") or "an unknown package", plugin.get("version") or ""]
    return plain(f"{name} ({' '.join(map(str, package)).strip()})")
