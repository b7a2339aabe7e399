"""A stack is checked when it is made, and prints without what it shows or whom."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from slicesplat.geometry.slices import cut_slices
from slicesplat.geometry.stack import Stack

SHAPE = (12, 10, 5)
STACK = Stack(np.ones(SHAPE, np.float32), np.ones(SHAPE, bool), np.diag([1.1, 1.1, 3.3, 1.0]), 3.0, "Jane Doe.nii.gz")


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("data", np.ones(SHAPE[:2], np.float32), "shape"),
        ("data", np.ones(SHAPE, np.int16), "int16"),
        ("mask", np.ones(SHAPE, np.uint8), "uint8"),
        ("mask", np.ones(SHAPE[::-1], bool), "shape"),
        ("measured", np.ones(SHAPE, np.float32), "float32"),
        ("affine", np.eye(3), "affine"),
        ("affine", np.full((4, 4), np.nan), "affine"),
        ("affine", np.diag([1.0, 0.0, 1.0, 1.0]), "affine"),
        ("thickness", 0.0, "thickness"),
        ("thickness", -3.0, "thickness"),
        ("thickness", float("nan"), "thickness"),
        ("slice_axis", 3, "slice axis"),
        ("times", np.zeros(4), "times"),
        ("times", np.full(5, np.inf), "times"),
    ],
)
def test_what_is_no_stack_cannot_be_made(field: str, value: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as caught:
        replace(STACK, **{field: value})
    assert "\n" not in str(caught.value)


def test_stack_and_slices_print_in_a_line_without_names_or_values() -> None:
    assert repr(STACK) == "Stack(12 x 10 x 5 voxels of 1.1 x 1.1 x 3.3 mm, slices 3 mm thick, 100% in the mask)"
    assert repr(cut_slices([STACK])) == "Slices(5 slices of 1 stacks, 600 pixels, 100% in the mask)"
