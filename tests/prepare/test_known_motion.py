"""Motion that was written is that of the same slices when it is read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from nifti_files import refused

from slicesplat.geometry.rigid import Rigid
from slicesplat.geometry.slices import cut_slices
from slicesplat.geometry.stack import Stack
from slicesplat.io.slices import save_slices
from slicesplat.io.transforms import save_transforms
from slicesplat.prepare.known_motion import load_motion
from slicesplat.records import SliceRecord

SHAPE = (20, 18, 6)


def stacks(name: str = "t2") -> list[Stack]:
    made = []
    for number in range(2):
        affine = np.eye(4)
        affine[:3, :3] = np.roll(np.eye(3), number, axis=0) * [1.0, 1.1, 3.0]
        mask = np.zeros(SHAPE, bool)
        mask[4:16, 4:14, 1:5] = True
        made.append(Stack(np.ones(SHAPE, np.float32), mask, affine, 3.0, f"{name}-{number}.nii.gz"))
    return made


def records(every: bool = False) -> list[SliceRecord]:
    rng = np.random.default_rng(0)
    return [
        SliceRecord(number, k, Rigid.exp(rng.normal(0, 1, 6) * [5, 5, 5, 0.2, 0.2, 0.2]).matrix, weight=float(k != 2))
        for number in range(2)
        for k in (range(6) if every else range(1, 5))
    ]


def same(motion: dict, wanted: list[SliceRecord], atol: float) -> None:
    assert motion.keys() == {(record.stack, record.slice) for record in wanted}
    for record in wanted:
        np.testing.assert_allclose(motion[record.stack, record.slice], record.world_transform, atol=atol)


def test_json_gives_the_slices_that_were_used(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text(json.dumps({"slices": [record.json() for record in records()]}))
    same(load_motion(path, stacks()), [record for record in records() if record.used], 1e-12)
    refused(lambda: load_motion(path, stacks()[:1]), "result.json", "slice 1 of stack 1, which is not there")
    for wrong in ({}, {"slices": 3}, {"slices": [{"stack": 0}]}, {"slices": ["x"]}):
        path.write_text(json.dumps(wrong))
        refused(lambda: load_motion(path, stacks()), "result.json", "has no poses of slices")


def test_folders_give_every_slice_or_those_of_the_region(tmp_path: Path) -> None:
    assert len(cut_slices(stacks())) == 8
    for every in (False, True):
        save_slices(tmp_path / "slices", stacks(), records(every))
        save_transforms(tmp_path / "transforms", records(every))
        same(load_motion(tmp_path / "transforms", stacks("t1")), records(every), 1e-9)
        # Affines in files are stored in float32.
        same(load_motion(tmp_path / "slices", stacks("t1")), records(every), 1e-4)
    save_slices(tmp_path / "slices", stacks(), records()[:3])
    refused(
        lambda: load_motion(tmp_path / "slices", stacks()), "slices", "holds 3 files, and the stacks have 12 slices"
    )
    swapped = [Stack(s.data, s.mask, s.affine @ np.diag([1.2, 1, 1, 1]), 3.0, s.name) for s in stacks()]
    save_slices(tmp_path / "slices", stacks(), records())
    refused(lambda: load_motion(tmp_path / "slices", swapped), "slices", "has other pixels than slice")


def test_transforms_of_niftymic_go_to_the_stacks_of_their_names(tmp_path: Path) -> None:
    save_transforms(tmp_path / "numbered", records())
    (tmp_path / "named").mkdir()
    for number, record in enumerate(records()):
        there = tmp_path / "named" / f"t2-{record.stack}_slice{record.slice}.tfm"
        (tmp_path / "numbered" / f"{number}.tfm").rename(there)
    same(load_motion(tmp_path / "named", stacks()), records(), 1e-9)
    refused(lambda: load_motion(tmp_path / "named", stacks("t1")), "named", "of other stacks")
