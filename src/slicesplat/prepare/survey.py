"""What stacks are like as they were given, before anything is reconstructed."""

from __future__ import annotations

from collections.abc import Sequence

from slicesplat.errors import InputError
from slicesplat.geometry.stack import Stack
from slicesplat.prepare.assess import StackAssessment
from slicesplat.prepare.assess import assess as assess_signal
from slicesplat.prepare.intensity import signal


def assess(stacks: Sequence[Stack]) -> list[StackAssessment]:
    """Look at every stack: motion, lost slices, packages, shading, what the mask covers.

    Parameters
    ----------
    stacks : sequence of Stack
        As `load_stacks` or `Stack.from_image` gives them, whatever offset their intensities have.

    Returns
    -------
    list of StackAssessment
        In the order given.

    Raises
    ------
    InputError
        No stack is given.
    """
    if not stacks:
        raise InputError("no stack given; name one or more")
    return assess_signal(signal(stacks)[0])
