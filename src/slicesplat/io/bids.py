"""Data sets in BIDS, the Brain Imaging Data Structure: which runs belong together, their masks, their metadata.

Names are taken apart by ancpbids, of the extra ``slicesplat[bids]``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from slicesplat.errors import InputError
from slicesplat.io.files import load_json
from slicesplat.io.sidecar import stated_thickness

if TYPE_CHECKING:
    from types import ModuleType

_Named: TypeAlias = "list[tuple[Path, dict[str, str]]]"
"""Files with the entities in their names."""

DESCRIPTION = "dataset_description.json"
_IMAGES = (".nii", ".nii.gz")
_OF_THE_MASK = ("desc", "label", "space", "res")
"""Entities that a mask may have beside those of the run that it is drawn on."""
_BRAIN = "brain"
"""Description of the mask that is taken where a run has several."""


@dataclass(frozen=True)
class Run:
    """A stack of an examination.

    Attributes
    ----------
    path : Path
    name : str
        Below its data set, with slashes.
    masks : tuple of Path
        Masks of it, in the order of their names.
    metadata : tuple of Path
        JSON files that hold for it, the nearest first (BIDS, inheritance principle).
    """

    path: Path
    name: str
    masks: tuple[Path, ...] = ()
    metadata: tuple[Path, ...] = ()

    @property
    def mask(self) -> Path | None:
        """The mask, None where there is none; of several the one that is described as of the brain.

        Raises
        ------
        InputError
            It cannot be told which one.
        """
        named = [mask for mask in self.masks if f"desc-{_BRAIN}_" in mask.name] or list(self.masks)
        if len(named) > 1:
            raise InputError(
                f"{self.path.name}: has {len(named)} masks, {named[0].name} and {named[1].name} among them; "
                f"describe the one to use by desc-{_BRAIN}, or leave one"
            )
        return named[0] if named else None

    @property
    def thickness(self) -> float | None:
        """SliceThickness, mm, of the nearest file that states it; None where none does."""
        stated = (stated_thickness(path) for path in self.metadata)
        return next((thickness for thickness in stated if thickness is not None), None)


@dataclass(frozen=True)
class Examination:
    """What was scanned of a subject in one session.

    Attributes
    ----------
    subject : str
        Its label, without ``sub-``.
    session : str or None
        Its label, without ``ses-``; None in a data set without sessions.
    runs : tuple of Run
        The stacks, in the order of their names.

    Examples
    --------
    >>> Examination("01", "b", ()).prefix, Examination("01", None, ()).folder
    ('sub-01_ses-b', 'sub-01')
    """

    subject: str
    session: str | None
    runs: tuple[Run, ...]

    @property
    def prefix(self) -> str:
        """What the names of its files begin with."""
        return self.folder.replace("/", "_")

    @property
    def folder(self) -> str:
        """Its folder below the data set, with a slash."""
        return f"sub-{self.subject}" + (f"/ses-{self.session}" if self.session else "")


def find_examinations(
    root: Path,
    participants: Sequence[str] = (),
    sessions: Sequence[str] = (),
    masks: Path | None = None,
    suffix: str = "T2w",
) -> list[Examination]:
    """The examinations of a data set that have runs of a suffix, in the order of their labels.

    Parameters
    ----------
    root : Path
        The data set.
    participants, sessions : sequence of str
        Labels of those that are wanted, with or without ``sub-`` and ``ses-``; all when empty.
    masks : Path, optional
        A derivative that holds masks of the runs: files of the suffix ``mask`` with the same entities.
    suffix : str
        Of the runs.

    Raises
    ------
    InputError
        There is no data set, ancpbids is not installed, or what is wanted is not there.
    """
    check_data_set(root)
    wanted, within = ({_label(each) for each in labels} for labels in (participants, sessions))
    found = _images(root, "anat", wanted, suffix)
    drawn = _by_entities(_images(masks, "*", wanted, "mask")) if masks is not None else {}
    known: dict[Path, _Named] = {}
    grouped: dict[tuple[str, str], list[Run]] = {}
    for path, entities in found:
        if within and entities.get("ses", "") not in within:
            continue
        inherited = tuple(_inherited(path, root, suffix, known))
        run = Run(path, path.relative_to(root).as_posix(), tuple(drawn.get(_key(entities), ())), inherited)
        grouped.setdefault((entities["sub"], entities.get("ses", "")), []).append(run)
    missing = [f"sub-{label}" for label in sorted(wanted - {subject for subject, _ in grouped})]
    missing += [f"ses-{label}" for label in sorted(within - {session for _, session in grouped})]
    if missing or not grouped:
        whose = f" of {missing[0]}" if missing else ""
        raise InputError(f"{root}: has no {suffix} images{whose}; check the labels, and that the files are in anat/")
    return [Examination(subject, session or None, tuple(runs)) for (subject, session), runs in sorted(grouped.items())]


def check_data_set(root: Path) -> None:
    """Refuse what is no data set in BIDS.

    Raises
    ------
    InputError
        There is no such folder, or no description of a data set in it.
    """
    if not os.path.isdir(root):
        raise InputError(f"{root}: no such folder; name a data set in BIDS")
    if not (root / DESCRIPTION).is_file():
        raise InputError(f"{root}: has no {DESCRIPTION}, so it is no data set in BIDS; name one, or add that file")
    load_json(root / DESCRIPTION)


def _label(given: str) -> str:
    """A label without its key.

    Examples
    --------
    >>> _label("sub-01"), _label("ses-b"), _label("01")
    ('01', 'b', '01')
    """
    return re.sub(r"^(sub|ses)-", "", given)


def _images(root: Path, datatype: str, subjects: set[str], suffix: str) -> _Named:
    """Images of a suffix, in the order of their names, with their entities."""
    bids = _ancpbids()
    folders = [root / f"sub-{label}" for label in sorted(subjects)] or sorted(root.glob("sub-*"))
    below = [path for folder in folders for way in ("", "ses-*/") for path in folder.glob(f"{way}{datatype}/*")]
    names = [path.relative_to(root).as_posix() for path in below if path.name.endswith(_IMAGES)]
    # Without the last, a pickle in the data set would be read, which runs whatever is in it.
    options = bids.DatasetOptions(ignore=True, ignore_pickle_file=True)
    data_set = bids.load_dataset(str(root), options, paths=names)
    found = data_set.query(suffix=suffix, extension=list(_IMAGES), return_type="object")
    paths = sorted(root / each.get_relative_path() for each in found)
    return [(path, _entities(path.name)) for path in paths]


def _by_entities(images: _Named) -> dict[frozenset[tuple[str, str]], list[Path]]:
    """Masks by the run that they are drawn on."""
    out: dict[frozenset[tuple[str, str]], list[Path]] = {}
    for path, entities in images:
        out.setdefault(_key(entities), []).append(path)
    return out


def _key(entities: Mapping[str, str]) -> frozenset[tuple[str, str]]:
    return frozenset((key, value) for key, value in entities.items() if key not in _OF_THE_MASK)


def _entities(name: str) -> dict[str, str]:
    """The entities in a name; runs are counted, so that 01 is 1."""
    parts = _ancpbids().utils.parse_bids_name(name)
    entities: dict[str, str] = dict(parts["entities"]) if parts else {}
    return {key: value.lstrip("0") or "0" if key == "run" else value for key, value in entities.items()}


def _inherited(image: Path, root: Path, suffix: str, known: dict[Path, _Named]) -> list[Path]:
    """The JSON files that hold for an image, the nearest first, of one folder those of more entities first.

    `known` keeps what was found in each folder.
    """
    own, out = _entities(image.name), []
    for folder in image.parents:
        if folder not in known:
            files = [file for file in sorted(folder.glob("*.json")) if f"_{file.stem}".endswith(f"_{suffix}")]
            known[folder] = [(file, _entities(file.name)) for file in files]
        fitting = [(len(entities), file) for file, entities in known[folder] if entities.items() <= own.items()]
        out += [file for _, file in sorted(fitting, reverse=True)]
        if folder == root:
            break
    return out


def _ancpbids() -> ModuleType:
    try:
        import ancpbids
    except ImportError as error:
        raise InputError("ancpbids, which reads data sets, is not installed; pip install 'slicesplat[bids]'") from error
    module: ModuleType = ancpbids
    return module
