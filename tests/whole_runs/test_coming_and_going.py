"""The program and the scripts of the page on machines that come and go, started as the page says."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

PAGE = Path(__file__).parents[2] / "docs" / "coming_and_going.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SECONDS = 300

# In the middle of an epoch, the first life waits until a signal has reached it.
WAITS = """
from pathlib import Path
import os
import time
from torchbase import hookimpl


class WaitsForSignal:
    @hookimpl
    def on_iteration_end(self, run, phase):
        if phase.is_training and run.progress.iterations == 6 and not Path("reached").exists():
            Path("pid").write_text(str(os.getpid()))
            Path("reached").touch()
            while run.stop_reason is None:
                time.sleep(0.01)


session.register(WaitsForSignal())
summary = session()
"""

# It signals a job once as the job asks for, and runs it again if it is requeued.
SBATCH = r"""#!/bin/bash
signal=$(sed -n 's/^#SBATCH.*--signal=\([^@]*\)@.*/\1/p' "$1")
export SLURM_JOB_ID=7 SLURM_JOB_NODELIST=localhost
while true; do
    rm -f requeued
    bash "$1" & job=$!
    while [ ! -e signalled ] && kill -0 $job && [ ! -e reached ]; do sleep 0.05; done
    if [ -e reached ] && [ ! -e signalled ]; then
        touch signalled
        case "$signal" in
            B:*) kill -"${signal#B:}" $job ;;
            *) kill -"$signal" "$(cat step)" ;;
        esac
    fi
    wait $job
    status=$?
    echo $status >> statuses
    [ -e requeued ] || exit $status
done
"""
SRUN = """#!/bin/bash
echo $$ > step
exec "$@"
"""
SCONTROL = """#!/bin/bash
case "$1" in
    show) echo 127.0.0.1 ;;
    requeue) [ "$2" = 7 ] && touch requeued ;;
esac
"""


def blocks(language):
    return [code for found, code in BLOCK.findall(PAGE.read_text(encoding="utf-8")) if found == language]


def block_with(language, text):
    (block,) = [block for block in blocks(language) if text in block]
    return block


@pytest.fixture
def folder(tmp_path):
    """A folder with the commands of SLURM, and the Python of the tests as python and torchrun."""
    (tmp_path / "bin").mkdir()
    commands = {"sbatch": SBATCH, "srun": SRUN, "scontrol": SCONTROL}
    commands["python"] = f'#!/bin/bash\nexec "{sys.executable}" "$@"\n'
    commands["torchrun"] = f'#!/bin/bash\nexec "{sys.executable}" -m torch.distributed.run "$@"\n'
    for name, content in commands.items():
        (tmp_path / "bin" / name).write_text(content)
        (tmp_path / "bin" / name).chmod(0o755)
    return tmp_path


def write_program(folder, preemption_signal):
    (program,) = blocks("python")
    program = program.replace('"seed": 1,', f'"seed": 1, "preemption_signal": {preemption_signal!r},')
    assert program.endswith("summary = session()\n")
    (folder / "train.py").write_text(program.replace("summary = session()\n", WAITS))


def variables(folder):
    # Where torchbase is imported from, also in the folder of the test.
    path = os.pathsep.join([str(PAGE.parents[1]), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": path}


def start(folder, *command):
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=folder, env=variables(folder), stdout=pipe, stderr=pipe, text=True)


def wait_until_it_trains(folder, process):
    while not (folder / "reached").exists() and process.poll() is None:
        time.sleep(0.05)


def check_ended(folder):
    """The run has ended, in two lives, of which the first did six iterations."""
    (run_dir,) = (folder / "runs").iterdir()
    status = json.loads((run_dir / "status.json").read_text())
    assert (run_dir.name, status["state"], status["iterations"]) == ("my-run", "finished", 12)
    (second,) = run_dir.glob("environment_*.json")
    assert json.loads(second.read_text())["iterations_before"] == 6


def test_the_loop_starts_the_program_until_its_run_has_ended(folder):
    write_program(folder, "SIGTERM")
    with start(folder, "bash", "-c", block_with("bash", "until python")) as loop:
        wait_until_it_trains(folder, loop)
        os.kill(int((folder / "pid").read_text()), signal.SIGTERM)
        _, errors = loop.communicate(timeout=SECONDS)
    assert loop.returncode == 0, errors
    check_ended(folder)


@pytest.mark.parametrize(("status", "starts"), [(1, 1), (137, 3), (75, 3)])
def test_the_loop_ends_with_an_error_and_not_with_what_passes(folder, status, starts):
    program = f'echo >> starts\n[ "$(wc -l < starts)" -lt 3 ] && exit {status}\nexit 0\n'
    (folder / "bin" / "python").write_text(f"#!/bin/bash\n{program}")
    with start(folder, "bash", "-c", block_with("bash", "until python")) as loop:
        loop.communicate(timeout=SECONDS)
    assert loop.returncode == (status if starts == 1 else 0)
    assert (folder / "starts").read_text() == "\n" * starts


def submit(folder, job):
    (folder / "job.sh").write_text(job)
    with start(folder, "sbatch", "job.sh") as job:
        _, errors = job.communicate(timeout=SECONDS)
    assert job.returncode == 0, errors
    return (folder / "statuses").read_text().split()


# In place of the program: it waits for a signal, saves, and has ended its run the next time. Otherwise it fails.
COMMANDS = {
    "python": "trap 'touch saved; exit 75' USR1",
    "torchrun": "trap 'sleep 0.1; touch saved; exit 1' TERM",
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_job_is_requeued_after_a_signal_until_its_program_has_ended(folder, command):
    wait = "touch reached\nwhile true; do sleep 0.05; done"
    ends = "echo >> starts\n[ -e saved ] && exit 0\n[ -e reached ] && exit 1"
    (folder / "bin" / command).write_text(f"#!/bin/bash\n{ends}\n{COMMANDS[command]}\n{wait}\n")
    first, second = submit(folder, block_with("bash", f"srun {command}"))
    assert (first != "0", second) == (True, "0")
    assert (folder / "starts").read_text() == "\n" * 2


@pytest.mark.thorough
def test_the_job_of_one_process_is_requeued_until_its_run_has_ended(folder):
    write_program(folder, "SIGUSR1")
    assert submit(folder, block_with("bash", "srun python")) == ["75", "0"]
    check_ended(folder)


@pytest.mark.thorough
def test_the_job_of_torchrun_is_requeued_until_its_run_has_ended(folder):
    write_program(folder, None)
    job = block_with("bash", "srun torchrun")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    for of_page, of_test in (("--nnodes 2 --nproc-per-node 8", "--nnodes 1 --nproc-per-node 1"), ("29500", str(port))):
        assert of_page in job
        job = job.replace(of_page, of_test)
    first, second = submit(folder, job)
    assert (first != "0", second) == (True, "0")
    check_ended(folder)


def test_the_container_asks_for_another_pod_until_its_run_has_ended(folder, programs):
    job = yaml.safe_load(block_with("yaml", "kind: Job"))["spec"]
    pod = job["template"]["spec"]
    (container,) = pod["containers"]
    python, *words = container["command"]
    assert python == "python"
    write_program(folder, "SIGTERM")
    first = programs.start(*words, cwd=folder, env=variables(folder))
    while not (folder / "reached").exists():
        time.sleep(0.01)
    os.kill(first.pid, signal.SIGTERM)
    ended = first.communicate()
    (codes,) = [rule["onExitCodes"] for rule in job["podFailurePolicy"]["rules"] if "onExitCodes" in rule]
    assert codes == {"containerName": container["name"], "operator": "In", "values": [ended.returncode]}, ended.stderr
    assert pod["restartPolicy"] == "Never"  # else a policy is refused
    assert {one["mountPath"] for one in container["volumeMounts"]} == {container["workingDir"]}
    assert programs.run(*words, cwd=folder, env=variables(folder)).returncode == 0
    check_ended(folder)
