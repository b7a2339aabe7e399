"""Where no mask is given: what is found, what is told, what is left as it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from command_line import write

from slicesplat.config.segmentation import SegmentationSettings
from slicesplat.errors import InputError
from slicesplat.io.nifti import Image
from slicesplat.prepare import segmentation
from slicesplat.prepare.cutout import is_cut_out
from slicesplat.prepare.load import load_stacks
from slicesplat.segment.agree import FoundMask
from slicesplat.segment.look import Seen

SHAPE = (40, 40, 10)
SETTINGS = SegmentationSettings()


def image(name: str, zero: float = 0.0) -> Image:
    """A stack of noise, of which a share is zero around the middle."""
    data = np.random.default_rng(0).rayleigh(10.0, SHAPE).astype(np.float32)
    if zero:
        half = round(20 * float(np.sqrt(1 - zero)))
        kept = np.zeros(SHAPE, bool)
        kept[20 - half : 20 + half, 20 - half : 20 + half] = True
        data[~kept] = 0
    return Image(None, data, np.diag([2.0, 2.0, 4.0, 1.0]), label=name)


def box() -> np.ndarray:
    inside = np.zeros(SHAPE, bool)
    inside[10:30, 10:30, 2:8] = True
    return inside


def brain(**different: object) -> FoundMask:
    inside = box()
    sure = np.where(inside.any(axis=(0, 1)), 0.95, np.nan)
    known = {"mask": inside, "slice_confidence": sure, "confidence": 0.95, "volume": 40.0}
    return FoundMask(**{**known, **different})


def nothing() -> FoundMask:
    return FoundMask(np.zeros(SHAPE, bool), np.full(SHAPE[2], np.nan), 0.2)


@pytest.fixture
def finds(monkeypatch: pytest.MonkeyPatch):
    """Lets the network find what the test says; how many stacks it was shown."""
    shown: list[int] = []

    def stand_in(*found: FoundMask) -> list[int]:
        def find(seen: Sequence[Seen], settings: SegmentationSettings) -> list[FoundMask]:
            shown.append(len(seen))
            return list(found)

        monkeypatch.setattr(segmentation, "find_masks", find)
        return shown

    return stand_in


def test_sure_masks_come_with_a_note_and_no_warning(finds) -> None:
    finds(brain(), brain(confidence=0.97))
    out = segmentation.segmented([image("a"), image("b")], SETTINGS)
    assert not out.warnings
    assert "a: no mask given; the network finds a brain, in the womb, 40 cm3 of it, confidence 0.95" in out.notes
    np.testing.assert_array_equal(out.masks[1], box())


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (brain(confidence=0.7), "its mask is doubtful (confidence 0.70)"),
        (brain(volume=80.0), "its mask holds 80 cm3, those of the other stacks 40"),
        (brain(others=1), "more than one that looks like a brain"),
        (brain(cut=True), "reaches the edge of what it shows"),
        (brain(slice_confidence=np.where(np.arange(10) < 5, 0.5, 0.95)), "slices 0, 1, 2, 3, 4 (counting from 0)"),
        (nothing(), "it is left out"),
    ],
)
def test_every_doubt_is_told_with_the_remedy(finds, found: FoundMask, words: str) -> None:
    finds(brain(), brain(), found)
    told = segmentation.segmented([image("a"), image("b"), image("c")], SETTINGS).warnings
    assert len(told) == 1
    assert told[0].startswith("c: ") and words in told[0]
    assert found.cut or "--stack-masks" in told[0]


def test_no_brain_at_all_is_refused_with_the_remedy(finds) -> None:
    finds(nothing(), nothing())
    with pytest.raises(InputError, match=r"no brain is found; draw a mask on one stack .* --no-segmentation"):
        segmentation.segmented([image("a"), image("b")], SETTINGS)


def test_stacks_that_are_cut_out_are_left_alone(finds) -> None:
    shown = finds(brain())
    out = segmentation.segmented([image("a", zero=0.7), image("b")], SETTINGS)
    assert shown == [1]
    np.testing.assert_array_equal(out.masks[0], image("a", zero=0.7).data != 0)
    assert out.confidence[0] is None and out.confidence[1] is not None


def test_dark_corners_of_a_scan_are_no_cut_out_brain() -> None:
    assert is_cut_out(image("a", zero=0.7).data, np.array([2.0, 2.0, 4.0]))
    assert not is_cut_out(image("a", zero=0.2).data, np.array([2.0, 2.0, 4.0]))
    # As much is zero, but what is left is larger than any head.
    assert not is_cut_out(image("a", zero=0.7).data, np.array([10.0, 10.0, 10.0]))


def test_stack_without_a_brain_has_an_empty_mask_and_the_others_theirs(finds, tmp_path: Path) -> None:
    finds(brain(), nothing())
    files = [write(tmp_path / f"{name}.nii.gz", image(name).data, image(name).affine) for name in "ab"]
    first, second = load_stacks(files, segmentation=True)
    assert first.mask.any() and not first.shows_nothing
    assert second.shows_nothing


def test_masks_that_are_given_are_not_looked_for(finds, tmp_path: Path) -> None:
    shown = finds(brain())
    file = write(tmp_path / "a.nii.gz", image("a").data, image("a").affine)
    mask = write(tmp_path / "mask.nii.gz", box().astype(np.float32), image("a").affine)
    for given in ({"masks": [mask]}, {"volume_mask": mask}, {"otsu_thresholding": True}, {"segmentation": False}):
        assert load_stacks([file], **{"segmentation": True, **given})[0].found is None
    assert not shown


def test_stacks_with_drawn_masks_are_the_same_whether_brains_are_looked_for_or_not(finds, tmp_path: Path) -> None:
    finds(brain())
    file = write(tmp_path / "a.nii.gz", image("a").data, image("a").affine)
    mask = write(tmp_path / "mask.nii.gz", box().astype(np.float32), image("a").affine)
    one, other = (load_stacks([file], [mask], segmentation=looked)[0] for looked in (True, False))
    assert one.data.tobytes() == other.data.tobytes() and one.mask.tobytes() == other.mask.tobytes()
    assert one.affine.tobytes() == other.affine.tobytes() and one.thickness == other.thickness
