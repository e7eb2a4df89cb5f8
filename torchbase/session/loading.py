"""Finds the class of a run's session again, from what the run directory tells of it."""

import importlib
import importlib.util
import inspect
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from torchbase.errors import RunDirectoryError
from torchbase.files.durable import read_json
from torchbase.session.base import TrainingBaseSession


def find_session_class(run_dir: Path, given: str | None = None) -> type[TrainingBaseSession]:
    """Imports the class with which a run was begun or last resumed.

    Its module is run by that, so a script has to train below ``if __name__ == "__main__":`` only.

    Args:
        run_dir: The path of the run directory.
        given: ``FILE:CLASS`` to take instead of what the run directory tells.

    Returns:
        The class.

    Raises:
        RunDirectoryError: If the class can't be found or imported.
    """
    if given is not None:
        file, _, name = given.rpartition(":")
        kept: dict[str, Any] = {"file": str(Path(file).absolute()), "module": "__main__", "class": name}
    else:
        # The names of later files hold the time, and "." comes before "_".
        environments = sorted(run_dir.glob("environment*.json"))
        kept = (read_json(environments[-1]).get("session") if environments else None) or {}
    if not kept.get("file") or "<" in kept["class"]:
        raise RunDirectoryError(
            f"{run_dir} doesn't tell where the class of its session is written"
            + (f" ({kept['class']} is inside a function or a notebook)" if kept else "")
            + ". To fix, give --session FILE:CLASS, or call session.verify(replay=…) in your program."
        )
    found: Any = _module(Path(kept["file"]), kept["module"])
    for name in kept["class"].split("."):
        found = getattr(found, name, None)
    if not inspect.isclass(found) or not issubclass(found, TrainingBaseSession):
        raise RunDirectoryError(
            f"There is no class '{kept['class']}' of a session in {kept['file']}. To fix, give --session FILE:CLASS."
        )
    return found


def _module(file: Path, name: str) -> ModuleType:
    if not file.is_file():
        raise RunDirectoryError(f"The file of the session, {file}, isn't there. To fix, give --session FILE:CLASS.")
    # As for the program that trained: a script imports from its own folder, a module of a package from above that.
    sys.path.insert(0, str(file.parents[name.count(".")]))
    try:
        return _import_script(file) if name == "__main__" else importlib.import_module(name)
    except Exception as error:
        raise RunDirectoryError(
            f"{file} can't be imported: {type(error).__name__}: {error}. To fix, run this where the run was begun, "
            "with the same packages."
        ) from error


def _import_script(file: Path) -> ModuleType:
    specification = importlib.util.spec_from_file_location(file.stem, file)
    if specification is None or specification.loader is None:
        raise ImportError(f"{file} isn't a file of Python")
    module = importlib.util.module_from_spec(specification)
    sys.modules.setdefault(file.stem, module)  # where workers that are started afresh look for it
    specification.loader.exec_module(module)
    return module
