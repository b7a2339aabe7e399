"""The cohort's table and page: every subject has its line, whatever became of it and whatever it is called."""

from __future__ import annotations

import base64
import csv
import io
from dataclasses import asdict
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from cohorts import task
from PIL import Image

from slicesplat.cohort.figures import Figures, figures_of
from slicesplat.cohort.overview import COLUMNS, PAGE, TABLE, Line, lines_of, page_of, save_overview
from slicesplat.cohort.task import Outcome, Record
from slicesplat.io.files import save_json

FIGURES = Figures("check", ("looks <odd>",), 3, 60, 0.05, 0.97, 1.2, 1000, 31.0, 1.5e9)


def record(root: Path, name: str) -> Record:
    volume = root / name / "volume.nii.gz"
    volume.parent.mkdir(parents=True)
    volume.write_text("a volume")
    made = Record("hash", {f"{name}/volume.nii.gz": "hash"}, 33.0, FIGURES)
    path = task(root, name).record
    path.parent.mkdir(exist_ok=True)
    save_json(asdict(made), path)
    return made


def test_every_subject_has_a_line(tmp_path: Path) -> None:
    tasks = [task(tmp_path, name) for name in ("done", "failed", "of-another-shard", "waiting", "elsewhere")]
    outcomes = [
        Outcome("done", "written", record=record(tmp_path, "done")),
        Outcome("failed", "failed", "x.nii.gz: is no image; give one"),
        Outcome("elsewhere", "elsewhere", "another run is at it"),
    ]
    record(tmp_path, "of-another-shard")
    save_overview(lines_of(tasks, outcomes), tmp_path)
    with (tmp_path / TABLE).open(newline="") as file:
        found = {line["participant_id"]: line for line in csv.DictReader(file, delimiter="\t")}
    states = {name: line["state"] for name, line in found.items()}
    assert states == {
        "done": "done", "failed": "failed", "of-another-shard": "done", "waiting": "waiting",
        "elsewhere": "running elsewhere",
    }  # fmt: skip
    assert found["done"]["verdict"] == "check" and found["done"]["volume"] == "done/volume.nii.gz"
    assert found["failed"]["reasons"] == "x.nii.gz: is no image; give one" and found["failed"]["ncc"] == "n/a"
    page = (tmp_path / PAGE).read_text()
    assert all(f'<th scope="row">{name}</th>' in page for name in found)
    assert "looks &lt;odd&gt;" in page and "looks <odd>" not in page


def test_names_are_escaped_and_reports_are_linked() -> None:
    line = Line("<script>", "done", FIGURES, "", "v.nii.gz", 'a b"/report.html')
    page = page_of([line])
    assert "<script>alert" not in page and "&lt;script&gt;" in page
    assert 'href="a%20b%22/report.html"' in page


def test_figures_are_those_of_the_result(tmp_path: Path) -> None:
    slices = [{"stack": n % 2, "ncc": 0.9, "left_out": "no match" if n == 0 else None} for n in range(10)]
    steps = [{"seconds": 2.0, "peak_memory_mb": 500}, {"seconds": 3.0, "peak_memory_mb": 600}]
    save_json(
        {"verdict": {"grade": "pass", "reasons": []}, "slices": slices, "steps": steps, "noise": 2.0,
         "expected_error": 3.0, "gaussians": 7}, tmp_path / "result.json",
    )  # fmt: skip
    data = np.zeros((20, 30, 25), np.float32)
    data[5:15, 5:25, 5:20] = 1
    nib.save(nib.Nifti1Image(data, np.eye(4)), tmp_path / "volume.nii.gz")
    found = figures_of(tmp_path / "result.json", tmp_path / "volume.nii.gz")
    assert (found.verdict, found.stacks, found.slices, found.left_out) == ("pass", 2, 9, 0.1)
    assert (found.ncc, found.error, found.seconds, found.memory) == (0.9, 1.5, 5.0, 600 * 2**20)
    with Image.open(io.BytesIO(base64.b64decode(found.picture))) as picture:
        shown = np.asarray(picture) > 128
    # Three planes side by side, each as large as there is room, however small the volume.
    sizes = [np.ptp(np.argwhere(plane), axis=0) + 1 for plane in np.split(shown, 3, axis=1)]
    np.testing.assert_allclose(sizes, [(64, 32), (64, 43), (48, 64)], atol=3)


@pytest.mark.parametrize("content", [None, b"", b"{}"])
def test_figures_of_what_cannot_be_read_are_unknown(tmp_path: Path, content: bytes | None) -> None:
    for name in ("result.json", "volume.nii.gz"):
        if content is not None:
            (tmp_path / name).write_bytes(content)
    assert figures_of(tmp_path / "result.json", tmp_path / "volume.nii.gz") == Figures()


def test_a_line_has_all_columns() -> None:
    assert len(Line("a", "waiting", Figures(), "", "", "").cells()) == len(COLUMNS)
