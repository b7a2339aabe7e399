"""What cannot be reconstructed is refused in one line that names it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from reconstructions import small

from slicesplat.config import Config, FitSettings
from slicesplat.errors import InputError
from slicesplat.pipeline import reconstruct, register
from slicesplat.progress import Progress


def test_stack_without_signal_is_refused() -> None:
    dark = replace(small().stacks[1], data=np.zeros_like(small().stacks[1].data), name="dark.nii.gz")
    with pytest.raises(InputError, match=r"dark\.nii\.gz: more than half of its mask has no signal; check the mask"):
        reconstruct([small().stacks[0], dark], Config())
    with pytest.raises(InputError, match=r"dark\.nii\.gz"):
        register([dark], Config())


def test_masks_with_a_few_pixels_in_every_slice_are_refused() -> None:
    stacks = []
    for stack in small().stacks:
        mask = np.zeros_like(stack.mask)
        middle = np.array(stack.data.shape) // 2
        mask[middle[0] : middle[0] + 3, middle[1] : middle[1] + 3, :] = stack.data.min() >= 0
        stacks.append(replace(stack, mask=mask & (stack.data > 0)))
    with pytest.raises(InputError, match="check the masks"):
        reconstruct(stacks, Config())


def test_more_packages_than_slices_are_refused_by_the_name_of_the_stack() -> None:
    few = replace(small().stacks[1], name="few.nii.gz")
    problem = rf"few\.nii\.gz: interleave {few.n_slices + 1}, but only {few.n_slices} slices; give "
    for compute in (reconstruct, register):
        with pytest.raises(InputError, match=problem):
            compute([few], Config(interleave=few.n_slices + 1))


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        (FitSettings(prior="lasso"), "prior 'lasso': choose one of curvature, ridge"),
        (FitSettings(strategy="cloud"), "field strategy 'cloud': choose one of lattice, primitives"),
    ],
)
def test_prior_and_strategy_that_nobody_knows_are_refused_before_anything_is_done(
    wrong: FitSettings, problem: str
) -> None:
    told: list[Progress] = []
    with pytest.raises(InputError) as refusal:
        reconstruct(small().stacks, Config(fit=wrong), told.append)
    assert str(refusal.value) == problem
    assert not told
