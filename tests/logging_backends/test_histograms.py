import math

import torch
from every_technique import Recorder

from torchbase import Engine, Phase, Run, hookimpl
from torchbase.files.bitwise import different_values
from torchbase.logging_backends.histograms import log_histograms


def test_finite_values_of_any_kind_of_tensor_are_recorded():
    class LogTensors:
        @hookimpl
        def on_run_start(self, run):
            tensors = {
                "matrix": torch.tensor([[1.0, math.nan], [3.0, -math.inf]]),
                "nothing": torch.tensor([math.nan]),
                "sparse": torch.sparse_coo_tensor([[1, 1]], [2.0, 3.0], (4,), check_invariants=True),
                "half": torch.tensor([0.5], dtype=torch.bfloat16, requires_grad=True),
            }
            log_histograms(run, "weights", tensors, "epochs", step=7)

    run = Run(training=Phase("training", [1], is_training=True), max_epochs=0)
    Engine(lambda run, phase, batch: None, hooks=[LogTensors(), recorder := Recorder()]).run(run)
    expected = {
        ("training/weights/matrix/epochs", 7): torch.tensor([1.0, 3.0]),
        ("training/weights/sparse/epochs", 7): torch.tensor([5.0]),
        ("training/weights/half/epochs", 7): torch.tensor([0.5], dtype=torch.bfloat16),
    }
    assert different_values(recorder.histograms, expected) == []
