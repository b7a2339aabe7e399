"""Nothing of headers, sidecars, machine or folders gets into what a run writes or says.

Every text that a header, a sidecar, a path or the machine can hold is marked, and every output is searched for the
mark.
"""

from __future__ import annotations

import gzip
import json
import platform
import re
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from bids_data import data_set
from dicom_files import MARK, PATIENT, Series, numbers, write_classic
from reconstructions import BRIEF, result, small

import slicesplat.commands.reconstruct
import slicesplat.commands.register
from slicesplat.cli import main

DATES = ("20240229", "2024-02-29", "19870321")
SIDECAR = {
    **PATIENT,
    "SliceThickness": 4.0,
    "AcquisitionDateTime": "2024-02-29T10:20:00",
    "InstitutionAddress": f"{MARK} street",
    "ProcedureStepDescription": MARK,
    "ImageComments": MARK,
}


def mark(path: Path) -> None:
    """Fill every text of a NIfTI file's header, add an extension, and lay a sidecar beside it."""
    image = nib.Nifti1Image.from_filename(path)
    image.header["descrip"] = f"{MARK} TE=90".encode()
    image.header["aux_file"] = f"{MARK}.txt".encode()
    image.header["db_name"] = MARK.encode()
    image.header["intent_name"] = MARK.encode()
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", f"{MARK} 20240229".encode()))
    marked = nib.Nifti1Image(np.asanyarray(image.dataobj).copy(), image.affine, image.header)
    nib.save(marked, path)
    stem = path.name.removesuffix(".nii.gz")
    path.with_name(f"{stem}.json").write_text(json.dumps(SIDECAR))


def told(path: Path) -> Iterator[bytes]:
    """A file as it is, and what is packed in it."""
    content = path.read_bytes()
    yield path.name.encode()
    yield content
    if content[:2] == b"\x1f\x8b":
        yield gzip.decompress(content)


def assert_nothing_told(folder: Path, messages: str) -> None:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    words = [MARK.encode(), *(date.encode() for date in DATES)]
    found = [(path.name, word) for path in files for text in told(path) for word in words if word in text]
    assert not found
    assert not [word for word in (MARK, *DATES) if word in messages]


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine and a user with marked names; fits that stop early."""
    monkeypatch.setattr(platform, "node", lambda: f"{MARK}host")
    monkeypatch.setattr(socket, "gethostname", lambda: f"{MARK}host")
    for name in ("USER", "LOGNAME", "USERNAME", "HOSTNAME"):
        monkeypatch.setenv(name, f"{MARK}user")
    for module in (slicesplat.commands.reconstruct, slicesplat.commands.register):
        for name in ("reconstruct", "register"):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, _briefly(getattr(module, name)))


def _briefly(made: Any) -> Any:
    return lambda stacks, config, progress, **watch: made(stacks, replace(config, fit=BRIEF), progress, **watch)


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    """Stacks and masks, marked throughout, in a folder whose name is marked."""
    folder = tmp_path / f"{MARK}_1987" / "scan"
    folder.mkdir(parents=True)
    for number, stack in enumerate(small().stacks, start=1):
        for name, values in ((f"stack-{number}", stack.data), (f"mask-{number}", stack.mask.astype(np.uint8))):
            nib.save(nib.Nifti1Image(values, stack.affine), folder / f"{name}.nii.gz")
            mark(folder / f"{name}.nii.gz")
    return folder


def flags(inputs: Path) -> list[str]:
    names = ("stack", "mask")
    stacks, masks = ([str(inputs / f"{name}-{number}.nii.gz") for number in (1, 2, 3)] for name in names)
    return ["--input-stacks", *stacks, "--stack-masks", *masks]


def test_the_search_finds_what_is_hidden(tmp_path: Path) -> None:
    assert_nothing_told(Path(__file__).parent / "docs", "nothing")
    for content in (MARK.encode(), gzip.compress(f"x{MARK}".encode()), b"on 20240229"):
        (tmp_path / "file").write_bytes(content)
        with pytest.raises(AssertionError):
            assert_nothing_told(tmp_path, "nothing")
    (tmp_path / "file").rename(tmp_path / f"{MARK}.json")
    with pytest.raises(AssertionError):
        assert_nothing_told(tmp_path, "nothing")


def test_a_reconstruction_tells_nothing(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    monkeypatch.chdir(out)
    args = ["reconstruct", *flags(inputs), "--output-resolution", "1.4", "--verbose", "--with-background"]
    args += ["--output-volume", "v.nii.gz", "--output-uncertainty", "e.nii.gz", "--output-json", "r.json"]
    args += ["--output-slices", "slices", "--simulated-slices", "simulated", "--output-model", "m.safetensors"]
    args += ["--output-log", "run.log"]
    if "output_report" in slicesplat.commands.reconstruct.Command.__dataclass_fields__:
        args += ["--output-report", "report.html"]
    assert main(args) == 0
    assert_nothing_told(out, "".join(capsys.readouterr()))
    assert len(list(out.iterdir())) == (len(args) - args.index("--output-volume")) // 2


def test_poses_masks_and_measures_tell_nothing(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    given = flags(inputs)
    assert main(["register", *given, "--output-slices", str(out / "s"), "--output-transforms", str(out / "t")]) == 0
    assert main(["assess", *given, "--output-json", str(out / "a.json")]) == 0
    assert main(["segment-stack", *given, "--output-stack-masks", str(out / "masks")]) == 0
    assert main(["correct-bias-field", *given, "--output-corrected-stacks", str(out / "even")]) == 0
    printed = capsys.readouterr()
    # Where outputs go was said by whoever runs it; they are told nowhere.
    assert_nothing_told(out, "".join(printed))


def test_a_derivative_tells_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slicesplat.cohort.subject.reconstruct", lambda *_: result())
    root = data_set(tmp_path / f"{MARK}_1987" / "data", ("sub-01/ses-a",))
    for path in [*root.rglob("*.nii.gz")]:
        mark(path)
    description = json.loads((root / "dataset_description.json").read_text())
    (root / "dataset_description.json").write_text(json.dumps({**description, "Name": MARK, "Authors": [MARK]}))
    masks = str(root / "derivatives/masks")
    for out in (root / "derivatives/slicesplat", tmp_path / "elsewhere"):
        args = ["bids", str(root), str(out), "participant", "--skip-bids-validation", "--masks-derivative", masks]
        assert main([*args, "--verbose"]) == 0
        assert_nothing_told(out, "".join(capsys.readouterr()))


def test_dicom_in_and_out_tell_nothing_but_what_was_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = tmp_path / f"{MARK}_1987"
    write_classic(scan, Series(numbers(), order=[0, 2, 4, 6, 8, 1, 3, 5, 7], description=f"t2 {MARK}"))
    out = tmp_path / "out"
    given = ["--input-stacks", str(scan), "--no-segmentation"]  # numbers, and no brain
    assert main(["assess", *given, "--output-json", str(out / "a.json"), "--verbose"]) == 0
    volume = tmp_path / f"{MARK}.nii.gz"
    nib.save(nib.Nifti1Image(small().stacks[0].data, np.diag([0.8, 0.8, 0.8, 1.0])), volume)
    mark(volume)
    assert main(["export-dicom", str(volume), "--anonymous", "--output", str(out / "series")]) == 0
    assert_nothing_told(out, "".join(capsys.readouterr()))
    # What was asked for: patient and study, and no more of the hospital than whoever referred the patient.
    assert main(["export-dicom", str(volume), "--like", str(scan), "--output", str(tmp_path / "series")]) == 0
    content = (tmp_path / "series" / "0001.dcm").read_bytes()
    told = {text.decode() for text in re.findall(rb"[\w^ -]*" + MARK.encode() + rb"[\w^ -]*", content)}
    wanted = ("PatientName", "PatientID", "ReferringPhysicianName", "AccessionNumber", "StudyID", "StudyDescription")
    assert {text.strip() for text in told} == {PATIENT[name] for name in wanted}
