"""The forward model on a CUDA device, compiled by Triton."""
