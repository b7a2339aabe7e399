"""The forward model on a CUDA device, compiled by Triton: the steps of `slicesplat.splat.cpu`, one module each.

Each step gathers: a tile of pixels walks its list of pairs, a pair walks its box of pixels, a Gaussian walks its pairs,
a slice sums its pairs. No atomics and every sum in a fixed order: the same bits from run to run. Pixels are in float32,
and what is done once per pair is in float64.

Derivation of the formulae: docs/method.md, `slicesplat.splat.cpu`, and its `pose`.
"""
