"""Model files: a reconstructed volume as Gaussians, with all that sampling it again needs.

A safetensors file. Its tensors are the parameters of up to three fields: the volume, the region that it fills
(`region.means` and so on: about 1 inside, 0 outside), and what surrounds it (`background.`), where that was asked for.
One entry of its metadata, JSON, has the way to the input's intensities and the settings of the sampling. Nothing in it
says where it was made or of whom. It is data from outside: everything is checked before it is believed.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from slicesplat.config import RESOLUTIONS
from slicesplat.errors import InputError
from slicesplat.field.gaussians import SHAPES, SHORTEST_QUATERNION, GaussianField
from slicesplat.geometry.psf import SliceProfile
from slicesplat.io.atomic import atomic_path
from slicesplat.io.inputs import check_input
from slicesplat.io.nifti import FilePath

MODEL_VERSION = 1
SPACES = ("scanner", "standard")
"""Where a field may lie: in the scanner space of the reference stack, or in that of a template."""
_KEY = "slicesplat"  # of the metadata: one entry, since the order of several is not the same in every run
_PARTS = ("", "region.", "background.")
_SIZES = (1e-3, 50.0)  # mm: standard deviations that a Gaussian of a volume may have
_FARTHEST = 1e4  # mm from the world's origin: no scanner is as large
_WIDEST = 1e3  # mm, of the region


@dataclass(frozen=True, eq=False)
class Model:
    """A volume as Gaussians, and what sampling it needs.

    Attributes
    ----------
    field : GaussianField
        The volume, its brightest tissue near 1.
    region : GaussianField
        About 1 inside the region that was reconstructed and 0 outside.
    scale, unit, offset : float
        The volume on the scale of the input is the field times `scale` times `unit`, plus `offset`.
    resolution : float
        Voxel size, mm, that was asked for.
    slice_profile : {"gaussian", "box", "sinc"}
        Of the slices that it was made of.
    background : GaussianField or None
        To be added to the field outside the region.
    margin : float
        mm around the region that the background is shown in.
    space : str
        One of `SPACES`.

    Raises
    ------
    ValueError
        A number is not finite, not positive where it has to be, or beyond what there is, or a name is unknown.
    """

    field: GaussianField
    region: GaussianField
    scale: float
    unit: float = 1.0
    offset: float = 0.0
    resolution: float = 0.8
    slice_profile: SliceProfile = "gaussian"
    background: GaussianField | None = None
    margin: float = 0.0
    space: str = "scanner"

    def __post_init__(self) -> None:
        for name in ("scale", "unit"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} {getattr(self, name)}")
        if not math.isfinite(self.offset):
            raise ValueError(f"offset {self.offset}")
        if not RESOLUTIONS[0] <= self.resolution <= RESOLUTIONS[1]:
            raise ValueError(f"resolution {self.resolution} mm")
        if not 0 <= self.margin <= _WIDEST:
            raise ValueError(f"margin {self.margin} mm")
        if self.slice_profile not in get_args(SliceProfile):
            raise ValueError(f"slice profile {self.slice_profile!r}")
        if self.space not in SPACES:
            raise ValueError(f"space {self.space!r}")

    @property
    def brightest(self) -> float:
        """The brightest tissue above the offset, on the scale of the input."""
        return self.scale * self.unit


def save_model(model: Model, path: FilePath) -> None:
    """Write a model, whole or not at all; the same model gives the same bytes.

    Parameters
    ----------
    model : Model
    path : path
        Ends in .safetensors.
    """
    parts = zip(_PARTS, (model.field, model.region, model.background), strict=True)
    tensors = {
        prefix + name: value.detach().contiguous().cpu()
        for prefix, field in parts
        if field is not None
        for name, value in field.tensors().items()
    }
    told = {"version": MODEL_VERSION, **{name: getattr(model, name) for name in _TOLD}}
    with atomic_path(path) as temporary:
        # The library's own writer makes files that nobody else can read, whatever the umask says.
        Path(temporary).write_bytes(save(tensors, {_KEY: json.dumps(told, sort_keys=True)}))


def load_model(path: FilePath) -> Model:
    """Read what `save_model` wrote.

    Parameters
    ----------
    path : path

    Raises
    ------
    InputError
        The file is missing, cannot be read, is no safetensors file or a damaged one, or holds something else than a
        model, all of it finite and of sizes that there are.
    """
    path = Path(path)
    tensors, told = _read(path)
    try:
        return _model(tensors, told)
    except ValueError as error:
        raise InputError(
            f"{path}: holds no volume as Gaussians ({error}); give what reconstruct --output-model has written"
        ) from error


_TOLD = ("scale", "unit", "offset", "resolution", "slice_profile", "margin", "space")


def _read(path: Path) -> tuple[dict[str, Tensor], str | None]:
    """Tensors by name, and the text of our entry of the metadata."""
    if path.is_dir():
        raise InputError(f"{path}: is a folder; name the model file in it")
    check_input(path)
    if path.suffix.lower() in (".pt", ".pth"):
        raise InputError(
            f"{path}: is a PyTorch file, which may run a program when it is read; "
            "give what reconstruct --output-model has written, .safetensors"
        )
    try:
        with safe_open(path, framework="pt") as content:
            names = content.keys()  # no dictionary: an iterator over it there is none
            return {name: content.get_tensor(name) for name in names}, (content.metadata() or {}).get(_KEY)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}); check the file") from error
    # What PyTorch has no type for is a ValueError or a KeyError, by version.
    except (SafetensorError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise InputError(f"{path}: is no safetensors file, or a damaged one; write it again") from error


def _model(tensors: dict[str, Tensor], told: str | None) -> Model:
    """The model; ValueError where it is none."""
    settings = _settings(told)
    prefixes = [prefix for prefix in _PARTS if prefix != "background." or "background.means" in tensors]
    if tensors.keys() != {prefix + name for prefix in prefixes for name in SHAPES}:
        raise ValueError(f"its tensors are not {', '.join(SHAPES)} of a volume and its region")
    fields: dict[str, Any] = {}
    for prefix in prefixes:
        values = {name: tensors[prefix + name] for name in SHAPES}
        _check(values, prefix)
        fields[prefix.rstrip(".") or "field"] = GaussianField(**values)
    if (fields["region"].means.amax(dim=0) - fields["region"].means.amin(dim=0)).max() > _WIDEST:
        raise ValueError(f"a region of more than {_WIDEST:g} mm")
    return Model(**fields, **settings)


def _settings(told: str | None) -> dict[str, Any]:
    """What the metadata say, of the types that they have to be; `Model` checks the values."""
    if told is None:
        raise ValueError("no slicesplat metadata")
    try:
        read = json.loads(told)
    except (ValueError, RecursionError) as error:
        raise ValueError("damaged metadata") from error
    if not isinstance(read, dict) or read.pop("version", None) != MODEL_VERSION:
        raise ValueError(f"metadata of another version than {MODEL_VERSION}")
    if read.keys() != set(_TOLD):
        raise ValueError(f"metadata that do not say {', '.join(_TOLD)}")
    for name, value in read.items():
        wanted = str if name in ("slice_profile", "space") else (int, float)
        if isinstance(value, bool) or not isinstance(value, wanted):
            raise ValueError(f"{name} of another kind")
    return {name: value if isinstance(value, str) else _finite(value) for name, value in read.items()}


def _finite(value: float) -> float:
    """As float; infinite where it is an integer beyond all floats."""
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _check(values: dict[str, Tensor], prefix: str) -> None:
    """Refuse, by a ValueError, tensors that are no field of finite Gaussians of sizes that there are."""
    count = len(values["amplitudes"]) if values["amplitudes"].ndim else 0
    if not count:
        raise ValueError(f"no Gaussian in {prefix or 'means.'}".rstrip("."))
    for name, shape in SHAPES.items():
        value = values[name]
        if value.dtype not in (torch.float32, torch.float64):
            raise ValueError(f"{prefix}{name} are {value.dtype}, not float32 or float64")
        if value.shape != (count, *shape):
            raise ValueError(f"{prefix}{name} are of shape {tuple(value.shape)}, not {(count, *shape)}")
        if not value.isfinite().all():
            raise ValueError(f"NaN or infinite {prefix}{name}")
    sizes = values["log_scales"].double().exp()
    if not ((sizes >= _SIZES[0]) & (sizes <= _SIZES[1])).all():
        raise ValueError(f"{prefix}log_scales beyond all sizes")
    if values["means"].abs().max() > _FARTHEST:
        raise ValueError(f"{prefix}means beyond all scanners")
    lengths = torch.linalg.vector_norm(values["rotations"].double(), dim=1)
    if not (lengths.isfinite() & (lengths > SHORTEST_QUATERNION)).all():
        raise ValueError("a quaternion without direction")
