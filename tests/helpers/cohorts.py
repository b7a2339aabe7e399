"""Small subjects for cohorts, and tasks that are done in no time."""

from __future__ import annotations

from pathlib import Path

from reconstructions import small

from slicesplat.cohort.task import Made, Task
from slicesplat.io.nifti import save_mask, save_stack


def subject(folder: Path, name: str) -> tuple[list[str], list[str]]:
    """Writes three stacks and their masks; their names."""
    stacks, masks = ([f"{name}-{kind}-{n}.nii.gz" for n in range(3)] for kind in ("stack", "mask"))
    for stack, image, mask in zip(small().stacks, stacks, masks, strict=True):
        save_stack(stack, folder / image)
        save_mask(stack, folder / mask)
    return stacks, masks


def table(folder: Path, names: list[str], **columns: str) -> Path:
    """A table of subjects, the same values of further columns for all."""
    lines = [",".join(["id", "stacks", "masks", *columns])]
    for name in names:
        stacks, masks = subject(folder, name)
        lines.append(",".join([name, ";".join(stacks), ";".join(masks), *columns.values()]))
    path = folder / "study.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def task(root: Path, name: str, *arguments: str, inputs: tuple[Path, ...] = (), options: str = "") -> Task:
    """A task that makes what it is told to."""
    made = Made(f"{name}/volume.nii.gz", f"{name}/result.json", f"{name}/report.html", (f"{name}/*",))
    return Task(name, arguments, inputs, options, root, made)
