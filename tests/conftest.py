"""What every test module starts from."""

from __future__ import annotations

import os

# Threads that wait for work sleep: workers and their threads share the cores. OpenMP reads this when it is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numba
import torch

# Triton reads this when it is imported: without a CUDA device its kernels run through the interpreter, on the CPU.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

# PyTorch gets one thread, as in the pipeline: its share of the work is small. Numba comes first: when its threads are
# launched they give OpenMP all cores, and PyTorch with it.
numba.set_num_threads(numba.get_num_threads())
torch.set_num_threads(1)
