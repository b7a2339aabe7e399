"""The forward model on the CPU, compiled by numba: pairs of slices and Gaussians, one module a step.

    tabulate    Gaussians as a table, and eight of them seen from a slice
    pairs       which Gaussian touches which slice
    project     a pair on the slice's pixel grid
    splat       from amplitudes to pixels
    gather      from pixels to amplitudes, the adjoint
    gradients   from the gradient at the pixels to that by every parameter
    pose        Gauss-Newton systems of the slices' poses

What is 3-D is done once per (slice, Gaussian) pair, eight pairs at a time; per pixel a 2-D quadratic and one exp are
left, two rows by eight columns at a time, in packed float32 (`simd`). With z = o - m_z fixed, o the offset of
the PSF's component, the exponent d' P d of docs/method.md is least at the conditional mean of the blurred Gaussian in
the slice plane, so every pair is an ordinary 2-D Gaussian about that centre:

    y(rho) = A exp(-z^2 / 2 S'_zz) exp(-1/2 rho' C^-1 rho),   C = S'_uv,uv - S'_uv,z S'_z,uv / S'_zz

Forward and backward both go slice by slice, each pair belonging to one slice; what pairs owe their Gaussian is summed
afterwards Gaussian by Gaussian, in the pairs' order. No atomics: the same bits for any number of threads.

A kernel that runs in parallel takes `part` and `parts` last and does its share of the slices or of the Gaussians;
`threads` hands the parts out. That compiles in a fraction of the time of numba's own parallel loops.
"""
