"""Pictures of the volume while it is fitted, and an animation of them."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from slicesplat.errors import InputError
from slicesplat.field.gaussians import GaussianField
from slicesplat.io.atomic import atomic_path
from slicesplat.io.folder import output_folder
from slicesplat.records import SweepRecord
from slicesplat.report.figure import png
from slicesplat.splat.grid import sample_on_grid

SNAPSHOT_FILES = re.compile(r"\d{4}\.png", re.IGNORECASE)
"""The names of a folder of snapshots."""
PIXEL = 0.5
"""mm."""
_WHITE = 1.15  # the brightest tissue is at 1
_PLANES = ((0, 1), (0, 2), (1, 2))  # axes to the right and upwards
_GAP, _CAPTION, _LETTERS = 6, 22, 12  # pixels
_INK = 170
_GREYS = 32  # of a GIF: a fifth of the bytes that 256 take, and hardly a difference to see


class Snapshots:
    """Keeps a picture after every sweep of the fit: what `pipeline.reconstruct` takes as `watch`.

    Three planes through the middle of what the first field covers, always the same, in one window of intensities.

    Parameters
    ----------
    folder : path-like, optional
        Where each picture is written as soon as it is drawn, 0001.png and so on; those of an earlier run go with the
        first one.

    Attributes
    ----------
    pictures : list of bytes
        PNG.
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None) -> None:
        self.pictures: list[bytes] = []
        self._box: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None
        self._folder = None if folder is None else Path(folder)
        self._failure: OSError | None = None

    def __call__(self, field: GaussianField, sweep: SweepRecord) -> None:
        """Draw the field as it is."""
        if self._box is None:
            means = field.means.double().cpu().numpy()
            self._box = means.min(axis=0), means.max(axis=0)
        low, high = self._box
        planes = [_plane(field, low, high, axes) for axes in _PLANES]
        height = max(len(plane) for plane in planes)
        canvas = Image.new("L", (sum(p.shape[1] + _GAP for p in planes) + _GAP, height + 2 * _GAP + _CAPTION))
        left = _GAP
        for plane in planes:
            canvas.paste(Image.fromarray(plane), (left, _GAP + (height - len(plane)) // 2))
            left += plane.shape[1] + _GAP
        told = f"{len(self.pictures) + 1}: {sweep.part}, {len(field)} Gaussians"
        font = ImageFont.load_default(_LETTERS)
        ImageDraw.Draw(canvas).text((_GAP, height + 2 * _GAP), told, fill=_INK, font=font)
        self.pictures.append(png(canvas))
        if self._folder is not None and self._failure is None:
            try:
                self._write(self._folder)
            except OSError as error:  # a full disk must not end the fit
                self._failure = error

    def _write(self, folder: Path) -> None:
        """Add the last picture to the folder."""
        name = f"{len(self.pictures):04d}.png"
        first = len(self.pictures) == 1
        folder.parent.mkdir(parents=True, exist_ok=True)
        with output_folder(folder, SNAPSHOT_FILES if first else re.compile(re.escape(name))) as files:
            (files / name).write_bytes(self.pictures[-1])

    def check_written(self, _folder: Path) -> None:
        """Raise the error that kept pictures from being written, if there was one."""
        if self._failure is not None:
            raise self._failure

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the pictures, 0001.png and so on, all or none; those of an earlier run are replaced."""
        with output_folder(folder, SNAPSHOT_FILES) as files:
            for number, picture in enumerate(self.pictures, 1):
                (files / f"{number:04d}.png").write_bytes(picture)


def snapshot_files(folder: Path) -> list[Path]:
    """The pictures of a folder, in their order.

    Raises
    ------
    InputError
        There are none.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; name the one that reconstruct --snapshots has written")
    found = sorted(path for path in folder.iterdir() if SNAPSHOT_FILES.fullmatch(path.name))
    if not found:
        raise InputError(f"{folder}: holds no snapshots (0001.png, ...); reconstruct --snapshots writes them")
    return found


def save_animation(pictures: Sequence[Path], path: Path, seconds: float, rest: float) -> None:
    """Write pictures of one size as GIF or MP4, whole or not at all.

    Parameters
    ----------
    pictures : sequence of path
    path : path
        Ends in .gif or .mp4.
    seconds : float
        That all pictures take together.
    rest : float
        s that the last one stays.

    Raises
    ------
    InputError
        A picture cannot be read or has another size.
    """
    import imageio.v3 as iio  # seldom needed

    frames = _frames(pictures)
    step = seconds / len(frames)
    with atomic_path(path) as temporary:
        if path.suffix.lower() == ".gif":
            durations = [1000 * step] * (len(frames) - 1) + [1000 * (step + rest)]
            iio.imwrite(temporary, _in_few_greys(frames), extension=".gif", duration=durations, loop=0)
        else:
            held = np.concatenate([frames, np.repeat(frames[-1:], round(rest / step), axis=0)])
            # Colour is kept for every other pixel: sides have to be even.
            even = held[:, : held.shape[1] // 2 * 2, : held.shape[2] // 2 * 2]
            iio.imwrite(temporary, even, extension=".mp4", plugin="FFMPEG", fps=1 / step, macro_block_size=2)


def _frames(pictures: Sequence[Path]) -> NDArray[np.uint8]:
    """(n, rows, columns) 8-bit grey."""
    frames = []
    for path in pictures:
        try:
            frames.append(np.asarray(Image.open(io.BytesIO(path.read_bytes())).convert("L")))
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: cannot be read as a picture; write the snapshots again") from error
        if frames[-1].shape != frames[0].shape:
            raise InputError(f"{path}: is not as large as the first picture; write the snapshots again")
    return np.stack(frames)


def _in_few_greys(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    step = 255.0 / (_GREYS - 1)
    return np.rint(np.rint(frames / step) * step).astype(np.uint8)


def check_video(path: Path) -> None:
    """Refuse a video where nothing can write one.

    Raises
    ------
    InputError
        What writes MP4 is not installed.
    """
    if path.suffix.lower() != ".mp4":
        return
    try:
        import imageio_ffmpeg  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"{path}: MP4 needs imageio-ffmpeg; pip install 'slicesplat[video]', or name a .gif"
        ) from error


def _plane(
    field: GaussianField, low: NDArray[np.float64], high: NDArray[np.float64], axes: tuple[int, int]
) -> NDArray[np.uint8]:
    """The field in a plane through the middle of a box, its first axis to the right and its second upwards."""
    right, up = axes
    affine = np.eye(4)
    affine[:3, :3] = 0.0
    affine[right, 0] = affine[up, 1] = affine[3 - right - up, 2] = PIXEL
    affine[:3, 3] = (low + high) / 2
    affine[[right, up], 3] = low[[right, up]]
    size = np.ceil((high - low) / PIXEL).astype(int) + 1
    values = sample_on_grid(field, affine, (int(size[right]), int(size[up]), 1))[:, :, 0]
    return np.rint(255 * np.clip(values / _WHITE, 0, 1)).astype(np.uint8).T[::-1]
