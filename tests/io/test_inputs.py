"""What is no file that can be read is refused before it is opened."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nifti_files import blob, plain_affine, refused, write

from slicesplat.io.inputs import check_input, distinct_names
from slicesplat.io.nifti import read_image
from slicesplat.prepare.load import load_stacks

posix = pytest.mark.skipif(sys.platform == "win32", reason="needs the file system of a POSIX system")


def dicom(path: Path) -> Path:
    path.write_bytes(b"\0" * 128 + b"DICM" + b"\0" * 200)
    return path


@posix
@pytest.mark.parametrize("name", ["pipe.nii", "pipe.nii.gz"])
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    refused(lambda: read_image(tmp_path / name), name, "is a pipe or a device")


@posix
def test_a_device_is_refused_and_not_read_for_ever(tmp_path: Path) -> None:
    (tmp_path / "zero.nii.gz").symlink_to("/dev/zero")
    refused(lambda: read_image(tmp_path / "zero.nii.gz"), "zero.nii.gz", "is a pipe or a device")


@posix
def test_a_loop_of_links_is_refused(tmp_path: Path) -> None:
    (tmp_path / "loop.nii").symlink_to(tmp_path / "loop.nii")
    refused(lambda: read_image(tmp_path / "loop.nii"), "loop.nii", "cannot be read (")


def test_a_dangling_link_and_a_file_taken_for_a_folder_are_refused(tmp_path: Path) -> None:
    stack = write(tmp_path / "s.nii.gz", blob())
    refused(lambda: read_image(stack / "s.nii.gz"), "s.nii.gz", "; check the path")
    refused(lambda: read_image(tmp_path / "none" / "s.nii.gz"), "s.nii.gz", "no such file")


@pytest.mark.parametrize("name", ["x" * 300 + ".nii", "x" * 5000 + ".nii.gz", "null\0.nii"])
def test_a_name_that_no_file_can_have_is_refused(tmp_path: Path, name: str) -> None:
    refused(lambda: read_image(tmp_path / name), "", "check the path")


@posix
def test_a_name_that_leaves_no_room_for_that_of_its_sidecar_is_read(tmp_path: Path) -> None:
    longest = os.pathconf(tmp_path, "PC_NAME_MAX")
    path = write(tmp_path / ("x" * (longest - 4) + ".nii"), blob())
    assert load_stacks([path])[0].thickness == pytest.approx(3.0)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="an administrator can read anything")
def test_a_file_without_permission_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "s.nii.gz", blob())
    path.chmod(0)
    refused(lambda: read_image(path), "s.nii.gz", "cannot be read (Permission denied)")


def test_dicom_is_refused_with_what_converts_it(tmp_path: Path) -> None:
    folder = tmp_path / "series"
    folder.mkdir()
    refused(
        lambda: read_image(dicom(folder / "IM0001")), "IM0001", "is DICOM; convert its series first, as by dcm2niix"
    )
    refused(lambda: read_image(folder), "series", "is a folder; convert its DICOM files first, as by dcm2niix")


def test_a_folder_of_slices_is_refused_with_what_to_give_instead(tmp_path: Path) -> None:
    write(tmp_path / "0.nii.gz", blob()[:, :, 2:3])
    refused(
        lambda: read_image(tmp_path),
        str(tmp_path),
        "is a folder; single slices cannot be read as a stack, give the folder by --input-slices",
    )


def test_a_folder_of_stacks_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "t2.nii.gz", blob())
    refused(lambda: read_image(tmp_path), str(tmp_path), "is a folder; name a NIfTI file")


@pytest.mark.parametrize("name", ["a.mnc", "a.PAR", "a.mgz", "a.gii", "a.nrrd", "a.mha", "a", "a.json"])
@pytest.mark.parametrize(
    "content", [b"\x89HDF\r\n\x1a\n" + b"\0" * 500, b"CDF\x01" + b"\0" * 500, b"# === DATA DESCRIPTION FILE ===\n"]
)
def test_other_formats_are_refused_whatever_reads_them(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    refused(lambda: read_image(tmp_path / name), name, "is not NIfTI; convert it to .nii.gz first")


def test_a_real_image_of_another_format_is_refused(tmp_path: Path) -> None:
    nib.save(nib.MGHImage(blob(), plain_affine()), tmp_path / "a.mgz")
    refused(lambda: read_image(tmp_path / "a.mgz"), "a.mgz", "is not NIfTI")


def test_size_of_a_file_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "s.nii", blob())
    assert check_input(path) == path.stat().st_size


def test_names_are_no_longer_than_tells_them_apart() -> None:
    paths = [Path("a/1/t2.nii"), Path("b/1/t2.nii"), Path("b/1/t1.nii"), Path("t2.nii"), Path("a/1/t2.nii")]
    told = [Path(name).as_posix() for name in distinct_names(paths)]
    assert told == ["a/1/t2.nii", "b/1/t2.nii", "t1.nii", "t2.nii", "a/1/t2.nii"]


def test_stacks_of_one_file_name_are_called_by_their_folders(tmp_path: Path) -> None:
    paths = [tmp_path / folder / "t2.nii.gz" for folder in ("one", "two")]
    for path in paths:
        path.parent.mkdir()
        write(path, blob())
    assert [Path(stack.name).as_posix() for stack in load_stacks(paths)] == ["one/t2.nii.gz", "two/t2.nii.gz"]
    empty = write(paths[1], np.zeros_like(blob()))
    refused(lambda: load_stacks(paths), str(empty), "every voxel is zero")
