"""Stacks are chosen by a measure, in assess and in a reconstruction, and keep their numbers."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from command_line import refused

from slicesplat.cli import main
from slicesplat.validation.files import save
from slicesplat.validation.phantom import brain_phantom
from slicesplat.validation.simulate import SimulationConfig, simulate


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three stacks; of the first, half of the mask is missing."""
    folder = tmp_path_factory.mktemp("case")
    volume, affine, inside = brain_phantom(size_mm=40.0, spacing=1.6)
    scan = simulate(volume, affine, inside, SimulationConfig(motion="none", pixel=1.6, noise=0.01, seed=1))
    save(scan, folder / "scan", volume, affine, inside)
    mask = nib.load(folder / "scan" / "mask-1.nii.gz")
    values = np.asarray(mask.dataobj).copy()
    values[values.shape[0] // 2 :] = 0
    (folder / "masks").mkdir()
    nib.save(nib.Nifti1Image(values, mask.affine), folder / "masks" / "mask-1.nii.gz")
    for number in (2, 3):
        nib.save(nib.load(folder / "scan" / f"mask-{number}.nii.gz"), folder / "masks" / f"mask-{number}.nii.gz")
    return folder


def given(case: Path) -> list[str]:
    return [
        *("--input-stacks", str(case / "scan" / "stack-?.nii.gz"), "--stack-masks", str(case / "masks")),
        *("--thicknesses", "3"),
    ]


BY_VOLUME = ["--metric", "volume", "--filter-method", "bottom", "--cutoff", "1"]


def test_assess_ranks_by_the_metric_and_writes_measures(
    case: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["assess", *given(case), "--output-json", str(tmp_path / "a.json")]
    assert main([*args, *BY_VOLUME]) == 0
    out, err = capsys.readouterr()
    assert "stack-1.nii.gz: left out, 3 of 3 by volume" in err
    assert [line.split()[-1] for line in out.splitlines() if line.strip().startswith("stack-")][-3:] == [
        *("yes", "yes", "no"),
    ]
    stacks = json.loads((tmp_path / "a.json").read_text())["stacks"]
    assert [(seen["rank"], seen["excluded"]) for seen in stacks] == [(0, False), (1, False), (2, True)]
    assert stacks[2]["stack"] == 0
    assert stacks[2]["score"] == stacks[2]["measures"]["mask_volume"] == pytest.approx(1000 * stacks[2]["volume_cm3"])
    assert {"rank_error", "ncc_intersection", "nrmse_window", "centroid"} <= stacks[0]["measures"].keys()
    assert main([*args, "--metric", "none", "--quiet"]) == 0
    assert "rank" not in json.loads((tmp_path / "a.json").read_text())["stacks"][0]


def test_stacks_that_are_used_keep_their_numbers_in_a_reconstruction(case: Path, tmp_path: Path) -> None:
    args = ["reconstruct", *given(case), *BY_VOLUME, "--output-resolution", "1.6", "--quiet"]
    files = ["--output-volume", str(tmp_path / "v.nii.gz"), "--output-json", str(tmp_path / "r.json")]
    assert main([*args, *files, "--simulated-slices", str(tmp_path / "s")]) == 0
    found = json.loads((tmp_path / "r.json").read_text())
    assert {each["stack"] for each in found["slices"]} == {1, 2}
    assert found["reference_stack"] in (1, 2)
    assert found["stack_agreement"][0] is None and None not in found["stack_agreement"][1:]
    assert [seen["excluded"] for seen in found["ranking"]] == [True, False, False]
    # A reconstruction of the two alone is the same but for the numbers.
    two = [str(case / "scan" / f"stack-{n}.nii.gz") for n in (2, 3)]
    masks = [str(case / "masks" / f"mask-{n}.nii.gz") for n in (2, 3)]
    alone = ["reconstruct", "--input-stacks", *two, "--stack-masks", *masks, "--thicknesses", "3", *args[-3:]]
    assert main([*alone, "--output-volume", str(tmp_path / "two.nii.gz")]) == 0
    assert (tmp_path / "two.nii.gz").read_bytes() == (tmp_path / "v.nii.gz").read_bytes()


def test_filter_without_a_metric_or_a_cutoff_is_refused(case: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["reconstruct", *given(case), "--output-volume", "never.nii.gz", "--filter-method", "top"]
    refused(capsys, [*args, "--cutoff", "2"], "filter method top", "--metric")
    refused(capsys, [*args, "--metric", "ncc"], "filter method top", "--cutoff")
