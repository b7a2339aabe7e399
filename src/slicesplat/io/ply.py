"""The Gaussians of a volume in the layout that viewers of Gaussian splats read, .ply.

The layout is that of Kerbl, Kopanas, Leimkuehler and Drettakis, ACM Transactions on Graphics 42, 2023, article 139:
binary, little-endian, one vertex a Gaussian; mean, an empty normal, colour as the constant of spherical harmonics,
opacity before the logistic function, logarithms of the scales, quaternion w, x, y, z. A viewer blends where we add:
what it shows is a picture of the Gaussians, and the volume only about.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from slicesplat.field.gaussians import GaussianField
from slicesplat.io.atomic import atomic_path
from slicesplat.io.nifti import FilePath

log = logging.getLogger("slicesplat")

PLY_FIELDS = (
    *("x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", "opacity"),
    *("scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"),
)
_CONSTANT = 0.28209479177387814  # the spherical harmonic of degree 0: 1 / (2 sqrt(pi))
_LEAST = 1e-4  # of an opacity, which is neither 0 nor 1


def save_ply(field: GaussianField, brightness: Tensor, path: FilePath) -> None:
    """Write a field as Gaussian splats, whole or not at all; the same field gives the same bytes.

    The opacity is the amplitude over the largest one. Gaussians that take away, with a negative amplitude, have none:
    they are left out, and the log says how many.

    Parameters
    ----------
    field : GaussianField
    brightness : (N,)
        Of the volume where each Gaussian is, from 0 to 1: its colour, grey.
    path : path
        Ends in .ply.
    """
    field = field.to("cpu")
    shown = field.amplitudes > 0
    if not bool(shown.all()):
        log.info("%s: %d Gaussians of negative amplitude are left out", Path(path).name, int((~shown).sum()))
    field, grey = field.select(shown), brightness.cpu()[shown]
    share = field.amplitudes / field.amplitudes.max() if len(field) else field.amplitudes
    opacity = torch.logit(share.double(), eps=_LEAST)
    colour = (grey.clamp(0, 1) - 0.5) / _CONSTANT
    columns = torch.cat(
        [
            *(field.means, torch.zeros_like(field.means), colour[:, None].expand(-1, 3), opacity[:, None]),
            *(field.log_scales, torch.nn.functional.normalize(field.rotations, dim=1)),
        ],
        dim=1,
    )
    values = columns.detach().numpy().astype("<f4")
    header = [
        *("ply", "format binary_little_endian 1.0", "comment millimetres, x to the right, y to the front, z up"),
        *(f"element vertex {len(values)}", *(f"property float {name}" for name in PLY_FIELDS), "end_header", ""),
    ]
    with atomic_path(path) as temporary:
        Path(temporary).write_bytes("\n".join(header).encode("ascii") + np.ascontiguousarray(values).tobytes())
