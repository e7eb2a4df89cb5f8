"""Two processes with GPUs: by gloo if they share one, else by NCCL."""

import re
import textwrap

import pytest

SCRIPT = """
    import hashlib
    import sys

    from torchbase.testing import TinySession, tiny_config

    if __name__ == "__main__":
        settings = {"mini_batch_size": 8, "mini_batch_parts": 2, "deterministic": True}
        config = tiny_config(**settings, device_name=sys.argv[2])
        config["data"] = {"training_samples": 40}
        session = TinySession(config, sys.argv[1])
        session()
        if session.processes.is_main:
            values = session.network.state_dict().values()
            content = b"".join(value.cpu().numpy().tobytes() for value in values)
            print(hashlib.sha256(content).hexdigest(), session.processes.count)
"""


@pytest.fixture
def checksum(tmp_path, programs, device_name):
    script = tmp_path / "train.py"
    script.write_text(textwrap.dedent(SCRIPT))

    def train(count):
        words = (script, tmp_path / str(count), device_name)
        launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", count) if count > 1 else ()
        process = programs.start(*launcher, *words)
        done = process.communicate()
        assert done.returncode == 0, done.stderr
        return re.search(rf"(\w{{64}}) {count}", done.stdout).group(1)

    return train


def test_two_processes_have_the_bits_of_one_on_one_gpu_or_on_two(checksum):
    assert checksum(2) == checksum(1)
