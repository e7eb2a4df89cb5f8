"""The sessions in which torchbase is tested, checked, documented and measured: ``nox -l`` lists them."""

import nox
from packaging.requirements import Requirement

nox.options.default_venv_backend = "venv"
nox.options.sessions = ["lint", "types", "tests", "docs"]
nox.options.reuse_existing_virtualenvs = True
nox.options.error_on_missing_interpreters = False

PYPROJECT = nox.project.load_toml("pyproject.toml")
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
# Each process runs a half in its order, so that it makes most fixtures of modules alone, and takes over what the other
# still has to do at the end.
IN_PARALLEL = ("-n", "2", "--dist", "worksteal")
BACKEND_TESTS = (
    "tests/logging_backends/test_conformance.py",
    "tests/logging_backends/test_mlflow.py",
    "tests/logging_backends/test_wandb.py",
    "tests/logging_backends/test_wandb_file.py",
)

WITH_EXTRAS = "graphs_pyg or transformer or translation or onnx or optuna"
EXTRAS_TESTS = ("tests/examples/test_recipes.py", "tests/examples/test_sweeps.py", "tests/export/test_program.py")


def install(session: nox.Session, *groups: str) -> None:
    """Installs torchbase with the tested versions, and what the groups name."""
    needs = [need for group in groups for need in nox.project.dependency_groups(PYPROJECT, group)]
    session.install("-c", "constraints.txt", "-e", ".", *needs)


@nox.session
def tests(session: nox.Session) -> None:
    """Runs the tests; what follows -- goes to pytest."""
    install(session, "test")
    session.run("pytest", *IN_PARALLEL, *session.posargs)


def lowest_versions(needs: list[str]) -> list[str]:
    """Pins each need to the lowest version that it allows."""
    bounds = [
        (need.name, one.version) for need in map(Requirement, needs) for one in need.specifier if one.operator == ">="
    ]
    return [f"{name}=={version}" for name, version in bounds]


@nox.session
@nox.parametrize(
    ("python", "which"),
    [(PYTHONS[0], "lowest"), *((python, "newest") for python in PYTHONS)],
    ids=["lowest", *(f"newest-{python}" for python in PYTHONS)],
)
def versions(session: nox.Session, which: str) -> None:
    """Runs the tests with the newest versions that pyproject allows on each Python at hand, and with the lowest."""
    project = PYPROJECT["project"]
    extras = [need for needs in project["optional-dependencies"].values() for need in needs]
    needs = [*project["dependencies"], *extras, *nox.project.dependency_groups(PYPROJECT, "test")]
    chosen = lowest_versions(needs) if which == "lowest" else ["--upgrade", "--upgrade-strategy", "eager"]
    session.install("-e", ".", *needs, *chosen)
    session.run("pytest", *IN_PARALLEL, *session.posargs)


@nox.session
def kill(session: nox.Session) -> None:
    """Kills runs at random instants, then runs the thorough tests; what follows -- goes to the first script."""
    install(session, "test")
    session.run("python", "tests/kill/killing.py", *session.posargs)
    session.run("python", "tests/kill/restarting.py")
    session.run("pytest", *IN_PARALLEL, "-m", "thorough")


@nox.session
def gpu(session: nox.Session) -> None:
    """Runs on a GPU what needs one, and measures; what follows -- goes to the script (--markdown FILE)."""
    install(session, "test", "bench")
    session.run("python", "benchmarks/gpu.py", *session.posargs)


@nox.session
def browser(session: nox.Session) -> None:
    """Looks at what TensorBoard shows of runs; needs Chromium and its driver (Debian: chromium, chromium-driver)."""
    install(session, "test", "browser")
    session.run("pytest", "-m", "browser", "tests/browser", *session.posargs)


@nox.session
def backends(session: nox.Session) -> None:
    """Runs the tests of the logging backends that need packages of their own; what follows -- goes to pytest."""
    needs = nox.project.dependency_groups(PYPROJECT, "test")
    session.install("-c", "constraints.txt", "-e", ".[mlflow,wandb]", *needs)
    session.run("pytest", *BACKEND_TESTS, *session.posargs)


@nox.session
def extras(session: nox.Session) -> None:
    """Runs the tests that need packages of their own: recipes, sweeps, exports, programs of other libraries."""
    install(session, "test", "extras")
    session.run("pytest", "-m", "not browser and not peers", "-k", WITH_EXTRAS, *EXTRAS_TESTS, *session.posargs)
    session.run("pytest", "-m", "peers", "tests/examples/test_moving_over.py", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Checks the style of all code."""
    session.install("-c", "constraints.txt", *nox.project.dependency_groups(PYPROJECT, "lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Checks the types of the package, strictly."""
    install(session, "types")
    session.run("mypy")


@nox.session
def docs(session: nox.Session) -> None:
    """Builds the documentation; a warning is an error."""
    install(session, "docs")
    session.run("sphinx-build", "-W", "--keep-going", "-b", "html", "docs", "docs/_build/html")


@nox.session
def bench(session: nox.Session) -> None:
    """Measures what the promises say, both sides in one run; what follows -- names benchmarks."""
    install(session, "bench")
    session.run("python", "benchmarks/run.py", *session.posargs)
