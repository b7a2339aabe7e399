"""What every test module starts from."""

from __future__ import annotations

import os

import torch

# Triton reads this when it is imported: without a CUDA device its kernels run through the interpreter, on the CPU.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

# As the pipeline does: its share of the work is small, and a second thread waits for the cores of the first.
torch.set_num_threads(1)
