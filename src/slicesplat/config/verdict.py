"""Settings of the verdict on a reconstruction."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class VerdictSettings:
    """From where on something speaks against a reconstruction.

    Attributes
    ----------
    checked_share, failed_share : float
        Slices that are left out, of all, from which on the result is to be looked at, or has failed.
    lost_stack : float
        Share of a stack's slices that are left out, from which on the stack is to be looked at.
    gap : float
        By how much less than possible a stack correlates with what the others show, from which on it is to be looked
        at. On 32 sound cases of `benchmarks/bench_verdict.py`, most of them coarse: 0.01 to 0.14 on 26 of them, up to
        0.45 where motion is severe or the subject turned; 0.05 to 0.24 where a stack is of another subject.
    failed_stacks : float
        Share of the stacks that agree by far too little, from which on the result has failed: there is no majority to
        go by.
    excess : float
        What is left of a stack's pixels without their prediction, over their noise, from which on the volume does not
        explain it; where the noise can be measured. 0.9 to 1.7 on all cases of the benchmark.
    flat_share : float
        Share of the region's surface that looks the same way, from which on it ends in a plane. Measured: 0.05 to 0.08
        on the masks of 16 fetal, neonatal and infant brains, 0.17 to 0.20 on half brains.
    pose_error : float
        Median standard error of the poses, mm, from which on the result is to be looked at. Up to 1.1 in sound cases of
        severe motion and coarse pixels.
    contrast : float
        Standard deviation of the volume inside its mask, over that of the noise, below which the noise is too much.
        Measured: 2.9 to 4 with usual noise, 0.4 with five to ten times as much.
    """

    checked_share: float = 0.25
    failed_share: float = 0.5
    lost_stack: float = 0.5
    gap: float = 0.15
    failed_stacks: float = 0.5
    excess: float = 3.0
    flat_share: float = 0.14
    pose_error: float = 1.5
    contrast: float = 2.0
