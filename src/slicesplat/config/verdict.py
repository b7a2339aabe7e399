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
    agreement : float
        Correlation of a stack with what the others show, in units of what it has to reach, below which it does not
        show the same.
    pose_error : float
        Median standard error of the poses, mm, from which on the result is to be looked at.
    """

    checked_share: float = 0.25
    failed_share: float = 0.5
    lost_stack: float = 0.5
    agreement: float = 1.0
    pose_error: float = 1.0
