"""One image for every stack: in a folder, called as the stacks are, or in files that are named one by one."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from slicesplat.errors import InputError
from slicesplat.io.folder import output_folder
from slicesplat.io.inputs import distinct_names
from slicesplat.io.outputs import Outputs, Write
from slicesplat.io.sidecar import stem_of

NIFTI = (".nii", ".nii.gz")


@dataclass(frozen=True)
class PerStack:
    """Where one image for every stack goes.

    Attributes
    ----------
    folder : Path or None
        None: each has a place of its own.
    files : list of Path
        Whole paths, or the names in the folder.
    owned : pattern
        The names of all that can be in the folder.
    """

    folder: Path | None
    files: list[Path]
    owned: re.Pattern[str]

    @classmethod
    def checked(
        cls, given: Sequence[Path], stacks: Sequence[Path], outputs: Outputs, flag: str, prefix: str = ""
    ) -> PerStack:
        """What the user named, checked as outputs are.

        Parameters
        ----------
        given : sequence of Path
            A folder, or a file ending in .nii or .nii.gz for every stack.
        stacks : sequence of Path
            The file of each stack.
        outputs : Outputs
            To be added to.
        flag : str
            What `given` was given by.
        prefix : str
            What names in the folder begin with.

        Raises
        ------
        InputError
            There is not one file for each stack, or one could not be written.
        """
        if not given:
            raise InputError(f"{flag}: names nothing to write; give a folder, or a file for each stack")
        names = [f"{prefix}{name}" for name in output_names(stacks)]
        owned = re.compile(rf"({'|'.join(map(re.escape, names))})\.(nii\.gz|json)", re.IGNORECASE)
        if len(given) == 1 and not given[0].name.endswith(NIFTI):
            outputs.add_folder(given[0], owned)
            return cls(given[0], [Path(f"{name}.nii.gz") for name in names], owned)
        if len(given) != len(stacks):
            raise InputError(
                f"{given[-1]}: wrong number of outputs, {len(given)} for {len(stacks)} stacks; "
                "name one file for each, or a folder"
            )
        for path in given:
            outputs.add_file(path, suffixes=NIFTI)
        return cls(None, list(given), owned)

    def write(self, write: Write, save: Callable[[int, Path], object]) -> None:
        """Call `save` with the number of each stack and the path of its image, through `Outputs.writing`."""
        if self.folder:
            write(self.folder, partial(self._fill, save))
            return
        for number, path in enumerate(self.files):
            write(path, partial(save, number))

    def _fill(self, save: Callable[[int, Path], object], folder: Path) -> None:
        with output_folder(folder, self.owned) as temporary:
            for number, name in enumerate(self.files):
                save(number, temporary / name)


def output_names(paths: Sequence[Path]) -> list[str]:
    """What the images of stacks are called, without suffix; no two alike on any file system.

    Examples
    --------
    >>> output_names([Path("a/t2.nii"), Path("b/t2.nii"), Path("t1.nii.gz"), Path("t1.nii.gz")])
    ['a-t2', 'b-t2', 't1', 't1-2']
    """
    names: list[str] = []
    for name in map(Path, distinct_names(paths)):
        folders = name.parent.parts[1:] if name.is_absolute() else name.parent.parts
        stem = "-".join([*folders, stem_of(name)])
        taken = {other.casefold() for other in names}
        numbered = (stem if number == 1 else f"{stem}-{number}" for number in itertools.count(1))
        names.append(next(candidate for candidate in numbered if candidate.casefold() not in taken))
    return names
