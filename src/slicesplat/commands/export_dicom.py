"""``slicesplat export-dicom``: a volume in, a DICOM series out."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console

from slicesplat.commands.base import BaseCommand, OptionalPath
from slicesplat.errors import InputError
from slicesplat.io.dicom_export import EXPORTED_FILES, check_description, export_dicom, read_like
from slicesplat.io.inputs import dicom_files
from slicesplat.io.nifti import load_volume
from slicesplat.io.outputs import Outputs


@dataclass(frozen=True, kw_only=True)
class Command(BaseCommand):
    """Write a volume as a series of DICOM images, for viewers and archives.

    Attributes
    ----------
    volume : path
        The volume, NIfTI.
    like : path
        A DICOM series of the examination, a folder or a file: patient and study are taken from it, nothing else.
    anonymous : bool
        Patient and study are nobody's; in the place of --like.
    output : path
        Folder for the images, 0001.dcm and so on, axial from the feet to the head.
    series_description : str
        What the series is called, up to 64 characters. None: slicesplat and the voxel size.
    series_number : int
        Number of the series in the study.
    scanner_space : bool
        The volume lies in the scanner space of --like, and viewers may overlay them; without, as for volumes in
        standard space, it has a space of its own.
    """

    volume: tyro.conf.Positional[Path]
    like: OptionalPath = None
    anonymous: bool = False
    output: Path
    series_description: str = ""
    series_number: int = 900
    scanner_space: bool = True

    def execute(self, console: Console) -> None:
        """Check, convert, write."""
        if (self.like is None) == (not self.anonymous):
            raise InputError(
                f"{self.volume}: whose it is has to be said in one way; give --like SERIES, or --anonymous"
            )
        check_description(self.series_description)
        if not 0 <= self.series_number < 2**31:
            raise InputError(f"--series-number {self.series_number}: is no number of a series; give one from 0 on")
        outputs = Outputs([self.volume, *self._like_files()])
        outputs.add_folder(self.output, EXPORTED_FILES)
        volume = load_volume(self.volume)
        like = None if self.like is None else read_like(self.like)
        with outputs.writing() as write:
            write(
                self.output,
                lambda folder: export_dicom(
                    volume, folder, like, self.series_description, self.series_number, self.scanner_space
                ),
            )

    def _like_files(self) -> list[Path]:
        if self.like is None:
            return []
        return dicom_files(self.like) if os.path.isdir(self.like) else [self.like]
