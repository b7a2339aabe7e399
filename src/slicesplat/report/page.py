"""A page of HTML that is one file: it needs no network, and asks for none.

Its template, style and scripts are files beside this module. Whatever comes from names and headers is escaped: as text
by the template, as data by JSON in which no tag can end.
"""

from __future__ import annotations

import base64
import json
import os
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from slicesplat.io.atomic import atomic_path
from slicesplat.report.contents import Contents
from slicesplat.report.figure import png, three_planes
from slicesplat.report.layers import Layer
from slicesplat.report.of_result import LEAST_NCC

_STYLES = ("palette.css", "style.css")
_SCRIPTS = ("viewer.js", "slices.js")
_VIEWER = "niivue.umd.js"
_LETTERS = 16  # that there is room for
_PIXEL = 0.5  # mm, of the picture that stands for the viewer


def save_page(contents: Contents, path: str | os.PathLike[str]) -> None:
    """Write a page, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(page(contents), encoding="utf-8")


def page(contents: Contents, live: str = "") -> str:
    """The text of a page.

    Parameters
    ----------
    contents : Contents
    live : str
        Where a server listens for whether the page is still open; "" for a file.
    """
    script = "\n".join(_file("page", name) for name in (*_SCRIPTS, *(["live.js"] if live else [])))
    template = _environment().get_template("page.html.j2")
    return template.render(
        contents=contents,
        groups=_groups(contents.layers),
        still=base64.b64encode(_still(contents)).decode(),
        data=as_data(_data(contents, live)),
        live=live,
        least_ncc=LEAST_NCC,
        # Our own files: nothing in them comes from anybody's data.
        style=Markup("\n".join(_file("page", name) for name in _STYLES)),
        viewer=Markup(_file("vendor", _VIEWER)),
        script=Markup(script),
    )


def as_data(value: Any) -> Markup:
    r"""JSON that may stand in a script element: nothing in it can end one, or begin a comment.

    Examples
    --------
    >>> print(as_data({"name": "</script><!--"}))
    {"name":"\u003c/script\u003e\u003c!--"}
    """
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("slicesplat.report", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["figure"] = lambda value, how: format(value, how) if value == value else "not known"
    return made


@cache
def _file(folder: str, name: str) -> str:
    return (resources.files("slicesplat.report") / folder / name).read_text(encoding="utf-8")


def _groups(layers: Any) -> list[tuple[str, list[Layer]]]:
    """Layers under their headings, in their order."""
    found: dict[str, list[Layer]] = {}
    for layer in layers:
        found.setdefault(layer.group, []).append(layer)
    return list(found.items())


def _still(contents: Contents) -> bytes:
    """The first images in three planes, for where there is no viewer."""
    first = [layer for layer in contents.layers if not layer.overlay and layer.group == contents.layers[0].group]
    panels = {layer.label[:_LETTERS]: (layer.values, layer.affine) for layer in first}
    picture: Image.Image = three_planes(panels, pixel=_PIXEL)
    return png(picture)


def _data(contents: Contents, live: str) -> dict[str, Any]:
    """What the scripts are told."""
    return {
        "live": live,
        "beside": contents.beside,
        "layers": [layer.json() for layer in contents.layers],
        "sheets": {number: sheet.json() for number, sheet in contents.sheets.items()},
        "cells": [
            [{"slice": cell.slice, "label": cell.label, "facts": cell.facts, "centre": cell.centre} for cell in row]
            for row in contents.cells
        ],
    }
