"""Templates of standard space: those that are built in, and the user's own."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from slicesplat.errors import InputError
from slicesplat.io.nifti import FilePath, read_image

_FOLDER = "templates"
_LEAST_SHARE = 0.01  # of a template's largest value: what lies above is the brain


@dataclass(frozen=True, eq=False)
class Template:
    """A brain by itself, in the space that it defines.

    Attributes
    ----------
    name : str
    values : (nx, ny, nz) float32
        Zero outside the brain.
    affine : (4, 4)
        Voxel index to world, mm RAS+: x to the right of the brain, y to its front, z to its top.
    """

    name: str
    values: NDArray[np.float32]
    affine: NDArray[np.float64]

    @cached_property
    def inside(self) -> NDArray[np.bool_]:
        """(nx, ny, nz) where the brain is."""
        return np.asarray(self.values > _LEAST_SHARE * self.values.max())

    @cached_property
    def volume(self) -> float:
        """mm^3."""
        return float(self.inside.sum() * abs(np.linalg.det(self.affine[:3, :3])))


def built_in_templates() -> list[Template]:
    """Fetal brains of several ages, youngest first; `templates/LICENCE.md` says where they are from.

    Examples
    --------
    >>> [template.name for template in built_in_templates()][:2]
    ['fetal 21 weeks', 'fetal 24 weeks']
    """
    found = []
    for entry in sorted(resources.files("slicesplat").joinpath(_FOLDER).iterdir(), key=lambda entry: entry.name):
        if entry.name.endswith(".nii.gz"):
            with resources.as_file(entry) as path:
                image = nib.Nifti1Image.from_filename(path)
                values, affine = np.asarray(image.dataobj, dtype=np.float32), np.asarray(image.affine)
            found.append(Template(entry.name.removesuffix(".nii.gz").replace("-", " "), values, affine))
    return found


def load_template(path: FilePath) -> Template:
    """The user's own template: a brain without what surrounds it, in RAS+ axes of its own.

    Raises
    ------
    InputError
        It is no volume, or shows nothing, or has no empty surroundings.
    """
    image = read_image(Path(path))
    values = np.nan_to_num(np.asarray(image.data, dtype=np.float32))
    if min(values.shape) < 8 or not values.max() > 0:
        raise InputError(f"{path}: shows no brain; give a 3-D volume of one, as a template")
    template = Template("given", np.maximum(values, 0.0), image.affine)
    if template.inside.mean() > 0.9:
        raise InputError(f"{path}: fills its whole field of view; give a template with zero around the brain")
    return template
