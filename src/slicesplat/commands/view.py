"""``slicesplat view``: images on this machine, in the viewer of the reports."""

from __future__ import annotations

import webbrowser
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import numpy as np
import tyro
from rich.console import Console

from slicesplat.commands.base import BaseCommand, log, show
from slicesplat.errors import InputError
from slicesplat.io.files import load_json
from slicesplat.io.inputs import check_input, image_files
from slicesplat.io.model import load_model
from slicesplat.io.nifti import load_volume
from slicesplat.io.result_files import find_files
from slicesplat.records import Grade, Verdict
from slicesplat.report.contents import Contents
from slicesplat.report.layers import OVER, Layer, padded
from slicesplat.report.page import page
from slicesplat.report.serving import LIVE, PageServer
from slicesplat.sampling import Grid, sample_volume

if TYPE_CHECKING:
    from nibabel.spatialimages import SpatialImage

REPORT, MODEL, RESULT = (".html", ".htm"), ".safetensors", ".json"


@dataclass(frozen=True, kw_only=True)
class Command(BaseCommand):
    """Look at a volume, a result, a model or a report, and at stacks beside it, in the browser.

    The page is served to this machine only, at an address that cannot be guessed, until it is closed or Ctrl-C is
    pressed.

    Attributes
    ----------
    volume : path
        A volume, NIfTI; a result, .json, as reconstruct --output-json writes it, with what lies beside it: its volume,
        its stacks, its error map; a model, .safetensors, as --output-model writes it; or a report, .html.
    stacks : paths
        Other images of the same world space, NIfTI, to be switched to: stacks, other reconstructions; or a folder of
        them.
    port : int
        To listen at. 0: one that is free.
    browser : bool
        Open the browser; without, only the address is printed.
    """

    volume: tyro.conf.Positional[Path]
    stacks: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    port: int = 0
    browser: bool = True

    def execute(self, console: Console) -> None:
        """Check, serve, and wait until the page is closed."""
        if not 0 <= self.port < 1 << 16:
            raise InputError(f"--port {self.port}: is no port; give a number up to 65535, or 0 for one that is free")
        text = self._text()
        serve(text, self.port, self.browser)

    def _text(self) -> str:
        if self.volume.suffix.lower() in REPORT:
            if self.stacks:
                raise InputError(f"{self.volume}: is a report, which has its stacks with it; name no others")
            check_input(self.volume)
            return _with_stream(self.volume.read_text(encoding="utf-8", errors="replace"))
        others = image_files(self.stacks)
        if self.volume.suffix.lower() == RESULT:
            return page(viewed_result(self.volume, others), LIVE)
        return page(viewed(self._volume(), self.volume.name, others), LIVE)

    def _volume(self) -> SpatialImage:
        if self.volume.suffix.lower() != MODEL:
            return load_volume(self.volume)
        model = load_model(self.volume)
        return sample_volume(model, Grid.around(model))[0]


def viewed_result(json: Path, others: list[Path]) -> Contents:
    """A page of what a result's JSON file belongs to: its volume, stacks and errors, and the verdict on it.

    Raises
    ------
    InputError
        It is no such file, or its volume is not where it was.
    """
    content = load_json(json)
    (volumes, lost), (stacks, away), (errors, _) = (
        find_files(json, content, kind) for kind in ("volume", "stacks", "uncertainty")
    )
    if not volumes:
        if lost:
            raise InputError(f"{json}: its volume, {lost[0]}, is not beside it; name the volume itself")
        raise InputError(f"{json}: names no volume; give what reconstruct --output-json has written, or a volume")
    named = {path.name for path in others}
    for name in (name for name in away if name not in named):
        log.info("%s: is not beside %s; name it, or its folder, after it to see it", name, json.name)
    shown = viewed(load_volume(volumes[0]), volumes[0].name, [*stacks, *others])
    layers = list(shown.layers)
    for path in errors:
        image = load_volume(path)
        layers.append(
            Layer("uncertainty", "Standard error", OVER, np.asarray(image.dataobj), image.affine, "viridis", True)
        )
    found = content.get("verdict")
    verdict = None
    if isinstance(found, dict) and found.get("grade") in get_args(Grade):
        verdict = Verdict(found["grade"], tuple(str(reason) for reason in found.get("reasons") or ()))
    return replace(shown, layers=layers, verdict=verdict)


def viewed(volume: SpatialImage, name: str, others: list[Path]) -> Contents:
    """A page of a volume, and of images that are read now."""
    shown = [Layer("volume", name, "Volume", *padded(np.asarray(volume.dataobj), np.asarray(volume.affine)))]
    for number, path in enumerate(others):
        image = load_volume(path)
        shown.append(Layer(f"stack-{number}", path.name, "Beside it", np.asarray(image.dataobj), image.affine))
    size = " x ".join(map(str, volume.shape))
    spacing = " x ".join(f"{step:.3g}" for step in volume.header.get_zooms()[:3])
    return Contents(title=name, layers=shown, subtitle=f"{size} voxels of {spacing} mm")


def serve(text: str, port: int, browser: bool) -> None:
    """Show a page until it is closed.

    Raises
    ------
    InputError
        The port is taken.
    """
    try:
        server = PageServer(text, port)
    except OSError as error:
        raise InputError(f"--port {port}: {error.strerror}; give another one, or 0 for one that is free") from error
    try:
        show(server.address)
        if browser and not webbrowser.open(server.address):
            log.info("no browser could be opened; open the address yourself")
        log.info("until the page is closed, or Ctrl-C")
        server.wait()
    finally:
        server.close()


def _with_stream(text: str) -> str:
    """A report as a file, with what tells that it is still open."""
    stream = f"<script>new EventSource({LIVE!r});</script>\n</body>"
    return text.replace("connect-src data: blob:;", "connect-src data: blob: 'self';", 1).replace("</body>", stream, 1)
