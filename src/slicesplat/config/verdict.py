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
        at. Measured on cases of `benchmarks/bench_verdict.py`: up to 0.018 on sound ones, 0.021 and 0.029 on two real
        examinations, 0.02 to 0.2 where a stack shows something else.
    gap_and_thinner : tuple of float
        A smaller gap, and more than which `thinner` is too much beside it: two signs of which neither is enough alone.
        Sound simulated stacks have a gap of up to 0.018, of 0.011 where they look thinnest, 0.974; real ones one of
        0.029, and look thicker there, 1.03. A stack of another subject that cost 5 dB: 0.034 and 0.975.
    gap_and_excess : tuple of float
        The same with `excess`, where the noise can be measured. Sound stacks have a gap of up to 0.018 in 96 simulated
        cases, with an excess of 1.01, and an excess of up to 1.08, with a gap of 0.012; stacks of another subject that
        cost 3, 4 and 5 dB 0.022, 0.024 and 0.034 with 1.08, 1.09 and 1.17.
    failed_stacks : float
        Share of the stacks that agree by far too little, from which on the result has failed: there is no majority to
        go by.
    excess : float
        What is left of a stack's pixels without their prediction, over their noise, from which on the volume does not
        explain it; where the noise can be measured. Up to 1.05 on sound cases, up to 2.5 on others.
    thickness_share : float
        Slice thickness over the distance of the slices, up to which it is to be checked: no protocol leaves that much
        out. 0.9 to 1 is usual, and more where slices overlap.
    thinner : float
        Error of predicted slices if they were thinner, over what is expected, up to which a stack's thickness is to be
        checked. 0.984 to 1.04 on sound cases and on two real examinations, 0.85 to 0.92 where slices are half as thick
        as was said, 0.90 to 0.97 where a stack shows something else.
    mirror_lead : float
        By how much more a stack's mirror image correlates with the others than the stack does, from which on its
        orientation is to be checked. Up to 0.011 on sound cases, of brains that are nearly symmetric. Looked at only
        where a stack agrees less than it could (`evidence.consistency.LEAST_GAP`).
    flat_share : float
        Share of the region's surface that looks the same way, from which on it ends in a plane. Measured: 0.05 to 0.08
        on the masks of 16 fetal, neonatal and infant brains, 0.17 to 0.20 on half brains.
    pose_error : float
        Median standard error of the poses, mm, from which on the result is to be looked at. Up to 1.1 in sound cases of
        severe motion and coarse pixels.
    contrast : float
        Standard deviation of the volume inside its mask, over that of the noise, below which the noise is too much.
        Measured: 4 to 11 with usual noise, 0.4 to 0.8 with five to ten times as much.
    """

    checked_share: float = 0.25
    failed_share: float = 0.5
    lost_stack: float = 0.5
    gap: float = 0.08
    gap_and_thinner: tuple[float, float] = (0.025, 0.985)
    gap_and_excess: tuple[float, float] = (0.02, 1.07)
    failed_stacks: float = 0.5
    excess: float = 1.5
    thickness_share: float = 0.6
    thinner: float = 0.975
    mirror_lead: float = 0.03
    flat_share: float = 0.14
    pose_error: float = 1.5
    contrast: float = 2.0
