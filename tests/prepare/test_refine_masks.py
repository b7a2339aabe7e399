"""One mask for all stacks: carried-over masks become what the slices show of the region."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest
from balls import full
from brains import errors, errors_as_scanned, in_place, one_mask, registered, scan

from slicesplat.config import Config, MaskSettings
from slicesplat.errors import InputError
from slicesplat.geometry.slices import cut_slices
from slicesplat.pipeline import register
from slicesplat.prepare.assess import least_motion
from slicesplat.prepare.refine_masks import refine_masks


def test_carried_masks_become_what_the_slices_show_of_the_region() -> None:
    slices = in_place(one_mask())
    tight = refine_masks(one_mask(), slices, full(slices), 1.5)
    np.testing.assert_array_equal(tight[0].mask, one_mask()[0].mask)
    for own, wide, found in zip(scan("mild").stacks[1:], one_mask()[1:], tight[1:], strict=True):
        kept, pixels = (own.mask & found.mask).sum() / own.mask.sum(), own.mask.sum()
        assert kept > 0.98
        # 1.5 mm around a region of 22 mm radius.
        assert found.mask.sum() < 1.35 * pixels < 1.8 * pixels < wide.mask.sum()


def test_stack_that_does_not_show_the_region_is_refused() -> None:
    first, second, third = one_mask()
    far = third.affine.copy()
    far[:3, 3] += 200.0
    stacks = [first, second, replace(third, affine=far, name="far")]
    slices = cut_slices(stacks)
    with pytest.raises(InputError, match=r"far: does not show the region of the mask; leave it out"):
        refine_masks(stacks, slices, full(slices), 1.5)


def test_one_mask_on_a_stack_that_lost_most_slices_still_gives_the_region(caplog: pytest.LogCaptureFixture) -> None:
    """Two thirds of the slices that the mask was drawn on keep a fifth of their signal."""
    first, second, third = one_mask("mild")
    data, seen = first.data.copy(), np.flatnonzero(first.mask.any(axis=(0, 1)))
    lost = seen[np.isin(np.arange(len(seen)) % 6, (0, 1, 2, 5))]
    data[:, :, lost] *= 0.2
    with caplog.at_level(logging.INFO, "slicesplat"):
        found = register([replace(first, data=data), second, third], Config(threads=1))
    own = found.slices.stack == 0
    # The outermost one shows too little of the region to be told.
    assert set(found.slices.index[own & found.dropout]) >= set(lost[1:])
    assert any("slices left out" in r.message and r.levelname == "WARNING" for r in caplog.records)
    error = errors("mild", found)
    # Uncorrected it is 1.6 mm; taken by the lost slices, the other stacks end tens of degrees away.
    assert error.tre_median < 1.4
    assert error.over_2mm_used <= 0.2 * error.used, error


def test_masks_that_were_found_become_the_region_that_most_of_them_show() -> None:
    """In one stack the network missed the end slices, and took something else for brain."""
    stacks = [replace(stack, found=np.full(stack.n_slices, 0.9)) for stack in scan("mild").stacks]
    own = stacks[0].mask
    shown = np.flatnonzero(own.any(axis=(0, 1)))
    spoilt = own.copy()
    spoilt[:, :, [*shown[:2], *shown[-2:]]] = False
    spoilt[:5, :5, shown[4]] = True
    exactly = Config(threads=1, masks=MaskSettings(of_found=0.0))
    found = register([replace(stacks[0], mask=spoilt), *stacks[1:]], exactly)
    assert [step.step for step in found.steps][-2:] == ["refine masks", "register"]
    mended = found.stacks[0].mask
    before, after = (2 * (mask & own).sum() / (mask.sum() + own.sum()) for mask in (spoilt, mended))
    assert after > before
    assert mended[:, :, shown[1]].any() and mended[:, :, shown[-2]].any()
    assert not mended[:5, :5].any()
    # Without a network nothing is touched.
    np.testing.assert_array_equal(registered("mild").stacks[0].mask, own)


def test_frame_is_the_stack_that_the_mask_was_drawn_on() -> None:
    carried_and_still, drawn = replace(scan("none").stacks[0], carried=True), scan("moderate").stacks[1]
    assert least_motion([carried_and_still, drawn]) == 1
    assert least_motion([replace(carried_and_still, carried=False), drawn]) == 0


def test_one_mask_for_all_stacks_is_enough() -> None:
    found = register(one_mask("moderate"), Config(threads=1))
    assert found.reference == 0
    assert [step.step for step in found.steps][-2:] == ["refine masks", "register"]
    own, wide = (
        sum(stack.mask.sum() for stack in stacks) for stacks in (scan("moderate").stacks, one_mask("moderate"))
    )
    assert found.slices.mask.sum() < 1.35 * own < 1.5 * own < wide
    assert errors("moderate", found).tre_median < 0.5 * errors_as_scanned("moderate").tre_median
