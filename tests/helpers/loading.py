"""Command lines up to what they load: stacks on a disk, and stand-ins for the pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from command_line import PASS

from slicesplat.config.segmentation import SegmentationSettings
from slicesplat.segment.agree import FoundMask
from slicesplat.segment.look import Seen
from slicesplat.validation.files import save
from slicesplat.validation.phantom import brain_phantom
from slicesplat.validation.simulate import SimulationConfig, simulate


def scan(folder: Path) -> Path:
    """Three stacks of a small phantom and their masks: stack-1.nii.gz, mask-1.nii.gz and so on."""
    volume, affine, inside = brain_phantom(size_mm=40.0, spacing=1.6)
    save(simulate(volume, affine, inside, SimulationConfig(motion="mild", pixel=1.6)), folder, volume, affine, inside)
    return folder


def link_scan(scanned: Path, folder: Path) -> None:
    """Put stacks and masks into a folder, and once more into one of stacks and one of masks."""
    for kind in ("stack", "mask"):
        (folder / f"{kind}s").mkdir()
        for path in scanned.glob(f"{kind}-?.nii.gz"):
            for target in (folder, folder / f"{kind}s"):
                (target / path.name).symlink_to(path)


def stand_in(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let reconstruct and register give an empty result; how many stacks they were given."""
    seen: list[int] = []
    image = nib.Nifti1Image(np.ones((4, 4, 4), np.float32), np.diag([0.8, 0.8, 0.8, 1]))

    class Result(SimpleNamespace):
        def counted(self, *_: object) -> Result:
            return self

    def fake(stacks: Any, config: Any, progress: Any, watch: Any = None) -> SimpleNamespace:
        seen.append(len(stacks))
        return Result(
            volume=image, mask=image, stacks=[], simulated=list, slice_records=list, json=dict, model=None, verdict=PASS
        )

    def found(seen: Sequence[Seen], settings: SegmentationSettings) -> list[FoundMask]:
        """A phantom by itself, and so small, is nothing that the network would find."""
        masks = [np.ones(stack.data.shape, bool) for stack in seen]
        return [FoundMask(mask, np.full(mask.shape[2], 0.9), 0.9, 100.0) for mask in masks]

    monkeypatch.setattr("slicesplat.prepare.segmentation.find_masks", found)
    monkeypatch.setattr("slicesplat.commands.reconstruct.reconstruct", fake)
    monkeypatch.setattr("slicesplat.commands.reconstruct.summarise", lambda *_: None)
    monkeypatch.setattr("slicesplat.commands.reconstruct.save_model", lambda model, path: path.touch())
    monkeypatch.setattr("slicesplat.commands.register.register", fake)
    return seen
