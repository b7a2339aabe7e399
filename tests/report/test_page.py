"""A page holds what it shows, whatever the names are, and nothing that tells of whom."""

from __future__ import annotations

import base64
import gzip
import json
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from reconstructions import brief, result, small

from slicesplat.report.coverage import coverage
from slicesplat.report.layers import Layer, cropped, padded
from slicesplat.report.of_result import contents_of, without_folders
from slicesplat.report.page import page
from slicesplat.result import Reconstruction

EVIL = "</script><script>document.title='taken'</script><img src=x onerror=alert(1)>.nii.gz"


def evil() -> Reconstruction:
    """A reconstruction of which one stack has a name that is markup."""
    first, *others = result().stacks
    return replace(result(), stacks=[replace(first, name=EVIL), *others], warnings=(f"{EVIL}: is <b>odd</b>",))


class Tags(HTMLParser):
    """Counts what begins in a page."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[str] = Counter()

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.count[tag] += 1


def data_of(text: str) -> dict:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found
    return json.loads(found[1])


def test_a_layer_gives_its_values_back_in_place() -> None:
    values = np.random.default_rng(0).uniform(0, 900, (5, 6, 7)).astype(np.float32)
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    affine[:3, 3] = [-3, 4, 5]
    told = Layer("a", "A", "B", values, affine).json()
    image = nib.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(told["nifti"])))
    assert image.get_data_dtype() == np.uint8
    np.testing.assert_allclose(image.affine, affine)
    # Half a level, and what is brighter than all but one voxel in 2000.
    assert np.abs(image.get_fdata() - values).max() < 900 / 255


def test_a_difference_keeps_its_sign() -> None:
    values = np.linspace(-5, 5, 27, dtype=np.float32).reshape(3, 3, 3)
    told = Layer("d", "D", "B", values, np.eye(4), "difference", window=(-5.0, 5.0), signed=True).json()
    image = nib.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(told["nifti"])))
    np.testing.assert_allclose(image.get_fdata(), values, atol=10 / 255)


def test_cropped_and_padded_images_stay_where_they_are() -> None:
    stack = result().stacks[0]
    (x, y, z), affine = cropped(stack, margin=4.0)
    place = np.argwhere(stack.mask)[0]
    moved = place - [x.start or 0, y.start or 0, z.start or 0]
    np.testing.assert_allclose(affine @ [*moved, 1], stack.affine @ [*place, 1])
    wide, wider = padded(stack.data, stack.affine, 4.0)
    around = (np.array(wide.shape) - stack.data.shape) // 2
    np.testing.assert_allclose(wider @ [*(place + around), 1], stack.affine @ [*place, 1])


def test_coverage_counts_slices_and_stacks() -> None:
    made = result()
    inside = np.asarray(made.mask.dataobj) > 0
    thickness = np.array([made.stacks[number].thickness for number in made.slices.stack])
    everything = np.ones(len(made.slices), bool)
    seen = coverage(inside, made.mask.affine, made.slices, everything, thickness)
    assert sum(seen.of_stacks) == pytest.approx(1.0) and len(seen.of_stacks) == 1 + len(made.stacks)
    # Slices that follow each other without gaps see every place once, but for what motion opens and the rim.
    assert 0.75 < seen.slices[seen.slices > 0].mean() / len(made.stacks) < 1.25
    alone = coverage(inside, made.mask.affine, made.slices, made.slices.stack == 0, thickness)
    assert alone.of_stacks[2:] == (0.0,) * (len(made.stacks) - 1)


def test_every_stack_and_slice_is_on_the_page() -> None:
    made = result()
    contents = contents_of(made)
    keys = [layer.key for layer in contents.layers]
    numbers = range(len(made.stacks))
    assert keys[0] == "volume" and {"mask", "coverage"} <= set(keys) and "uncertainty" not in keys
    assert [key for key in keys if key.startswith("stack")] == [f"stack-{n}" for n in numbers]
    assert [key for key in keys if key.startswith("predicted")] == [f"predicted-{n}" for n in numbers]
    assert sum(len(row) for row in contents.cells) == len(made.slices)
    data = data_of(page(contents))
    for number, row in enumerate(data["cells"]):
        boxes = data["sheets"][str(number)]["boxes"]
        assert sorted(map(int, boxes)) == sorted(cell["slice"] for cell in row)
    text = page(contents)
    assert made.verdict.grade in text and "Standard error" in text


def test_the_error_over_the_fit_is_kept_and_shown() -> None:
    made = brief(small().stacks, seed=3)  # one with which pixels are left out of so few
    assert len(made.sweeps) >= 4 and made.sweeps[-1].part == "all pixels"
    errors = [sweep.error for sweep in made.sweeps if sweep.part != "all pixels"]
    assert min(abs(error - made.expected_error) for error in errors) < 1e-4 * made.expected_error
    contents = contents_of(made)
    assert sum(len(line.points) for line in contents.fit[0].lines) == len(made.sweeps)
    assert float(dict(contents.figures)["Error at pixels left out"]) == pytest.approx(made.expected_error, rel=0.01)


def test_where_no_pixels_were_left_out_no_error_is_shown() -> None:
    made = result()
    none_left_out = replace(made, expected_error=0.0, sweeps=[replace(sweep, error=0.0) for sweep in made.sweeps])
    contents = contents_of(none_left_out)
    assert dict(contents.figures)["Error at pixels left out"] == "none were"
    assert not contents.fit


def test_names_are_text_wherever_they_stand() -> None:
    text = page(contents_of(evil(), ["slicesplat", f"--input-stacks={EVIL}"]))
    tags = Tags()
    tags.feed(text)
    assert tags.count["script"] == 3 and tags.count["img"] == 1 and "b" not in tags.count
    assert data_of(text)["layers"][1]["label"] == EVIL


def test_folders_are_left_out() -> None:
    line = "--input-stacks /home/ann/s1.nii.gz C:\\data\\s2.nii.gz --output-json=/tmp/o.json --seed 1 3/4"
    assert without_folders(line) == "--input-stacks s1.nii.gz s2.nii.gz --output-json=o.json --seed 1 3/4"


def test_the_page_needs_no_network(tmp_path: Path) -> None:
    result().report(tmp_path / "page.html", ["slicesplat", "reconstruct", "--input-stacks", "/home/ann/a.nii.gz"])
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "/home/ann" not in text and "a.nii.gz" in text
    head = text[: text.index("<script")]
    assert not re.search(r"(src|href)=\"(?!data:|#)", head)
    assert "default-src 'none'" in head and "connect-src data: blob:;" in head


def test_the_same_result_gives_the_same_page() -> None:
    assert page(contents_of(result())) == page(contents_of(result()))
