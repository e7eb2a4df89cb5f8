"""Importing the session class of an earlier run."""

import importlib
import importlib.util
import inspect
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from torchbase.errors import RunDirectoryError
from torchbase.files.durable import read_json
from torchbase.run_directory.config_snapshot import snapshots
from torchbase.session.base import TrainingBaseSession

REMEDY = "pass --session FILE:CLASS, or call session.verify(replay=…) in your program"


def find_session_class(run_dir: Path, chosen: str | None = None, remedy: str = REMEDY) -> type[TrainingBaseSession]:
    """Imports the session class with which a run was started or last resumed.

    The import runs its module. A script must therefore train below ``if __name__ == "__main__":``.

    Args:
        run_dir: The path of the run directory.
        chosen: ``FILE:CLASS`` to use instead of the class that the run directory names.
        remedy: What to do if there is no such class, for the error.

    Returns:
        The class.

    Raises:
        RunDirectoryError: If the class can't be found or imported.
    """
    if chosen is not None:
        file, _, name = chosen.rpartition(":")
        path = Path(file).absolute()
        saved: dict[str, Any] = {"file": str(path), "module": _module_in_package(path), "class": name}
    else:
        environments = snapshots(run_dir, "environment")
        saved = (read_json(environments[-1]).get("session") if environments else None) or {}
    if not saved.get("file") or "<" in saved["class"]:
        raise RunDirectoryError(
            f"{run_dir} doesn't name the file of its session class"
            + (f" ({saved['class']} is inside a function or a notebook)" if saved else "")
            + f". To fix, {remedy}."
        )
    found: Any = _import_module(Path(saved["file"]), saved["module"], remedy)
    for name in saved["class"].split("."):
        found = getattr(found, name, None)
    if not inspect.isclass(found) or not issubclass(found, TrainingBaseSession):
        raise RunDirectoryError(f"There is no session class '{saved['class']}' in {saved['file']}. To fix, {remedy}.")
    return found


def _module_in_package(file: Path) -> str:
    """Returns the dotted name of a file in a package, which may have relative imports; ``__main__`` for a script."""
    if not (file.parent / "__init__.py").exists():
        return "__main__"
    names = [] if file.stem == "__init__" else [file.stem]
    for folder in file.parents:
        if not (folder / "__init__.py").exists():
            break
        names.insert(0, folder.name)
    return ".".join(names)


def _import_module(file: Path, name: str, remedy: str) -> ModuleType:
    if not file.is_file():
        raise RunDirectoryError(f"The file of the session, {file}, isn't there. To fix, {remedy}.")
    # As in the program that trained: a script imports from its own folder, a package from the folder above it.
    sys.path.insert(0, str(file.parents[name.count(".") + (file.name == "__init__.py")]))
    sys.path.append(str(file.parent))  # a script in the folder of a package imports from that folder, too
    try:
        return _import_script(file) if name == "__main__" else importlib.import_module(name)
    except Exception as error:
        raise RunDirectoryError(
            f"{file} can't be imported: {type(error).__name__}: {error}. To fix, run this where the run was started, "
            "with the same packages."
        ) from error


def _import_script(file: Path) -> ModuleType:
    specification = importlib.util.spec_from_file_location(file.stem, file)
    if specification is None or specification.loader is None:
        raise ImportError(f"{file} isn't a Python file")
    module = importlib.util.module_from_spec(specification)
    sys.modules.setdefault(file.stem, module)  # where spawned workers look for it
    specification.loader.exec_module(module)
    return module
