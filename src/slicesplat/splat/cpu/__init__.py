"""The forward model on the CPU, compiled by numba."""
