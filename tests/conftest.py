import os

import torch

# One thread a process: the tests run side by side, and so do the subprocesses they start.
os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)
