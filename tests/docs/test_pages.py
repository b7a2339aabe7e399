"""Every block of code in the README, the tutorial and the how-tos runs, in the order in which it stands.

The fit is done once, for all pages: what is read, checked and written before and after it is each page's own.
"""

from __future__ import annotations

import glob
import itertools
import re
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import nibabel as nib
import numpy as np
import pytest
from bids_data import data_set
from cohorts import batch_here, table
from loading import link_scan, scan

import slicesplat
from slicesplat.cli import main
from slicesplat.commands import demo as demo_command
from slicesplat.config.segmentation import SegmentationSettings
from slicesplat.result import Reconstruction
from slicesplat.segment.agree import FoundMask, find_masks
from slicesplat.segment.look import Seen
from slicesplat.validation.demo import demo

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *(ROOT / "docs" / name for name in ("index.md", "tutorial.md"))]
PAGES += sorted((ROOT / "docs" / "how-to").glob("*.md"))
PHANTOM = {"size_mm": 40.0, "spacing": 1.6}
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_INSTALLS = ("pip install", "docker build", "apptainer build")
_IN_IMAGE = re.compile(r"^(?:docker|apptainer) run .* slicesplat(?:\.sif)? +(?=\w)")


class _Once(Reconstruction):
    """Stands for a reconstruction of whatever stacks."""

    watched: ClassVar[list[tuple[Any, ...]]] = []

    def counted(self, *_: Any) -> _Once:
        return self


@pytest.fixture(scope="module")
def scanned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scan(tmp_path_factory.mktemp("pages") / "case")


@pytest.fixture(scope="module")
def reconstructed(scanned: Path) -> _Once:
    stacks, masks = ([scanned / f"{kind}-{n}.nii.gz" for n in (1, 2, 3)] for kind in ("stack", "mask"))
    config = slicesplat.Config(resolution=1.6, uncertainty=True, with_background=True, threads=1)
    loaded, watched = slicesplat.load_stacks(stacks, masks=masks, thicknesses=3.0), []
    result = slicesplat.reconstruct(loaded, config, watch=lambda *seen: watched.append(seen))
    object.__setattr__(result, "__class__", _Once)
    assert isinstance(result, _Once)
    _Once.watched[:] = watched
    return result


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set in BIDS with masks, and a study of one subject."""
    folder = tmp_path_factory.mktemp("cohort")
    data_set(folder / "DATA", ["sub-01"])
    table(folder, ["sub-01"])
    return folder


_FOUND: dict[bytes, list[FoundMask]] = {}


def found_once(seen: Sequence[Seen], settings: SegmentationSettings) -> list[FoundMask]:
    """What the network finds, looked for once in the same stacks."""
    parts = [part for stack in seen for part in (stack.data, stack.affine)]
    key = b"".join(np.ascontiguousarray(part).tobytes() for part in parts) + repr(settings).encode()
    if key not in _FOUND:
        _FOUND[key] = find_masks(seen, settings)
    return _FOUND[key]


@pytest.fixture
def folder(scanned: Path, cohort: Path, reconstructed: _Once, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the scan, other volumes and other subjects, as the pages have them; commands run in it."""
    link_scan(scanned, tmp_path)
    for name in ("truth.nii.gz", "truth-mask.nii.gz"):
        (tmp_path / name).symlink_to(scanned / name)
    for name in ("ours.nii.gz", "theirs.nii.gz"):
        nib.save(reconstructed.volume, tmp_path / name)
    shutil.copytree(cohort, tmp_path, dirs_exist_ok=True)

    def fit(stacks: Any, config: Any, progress: Any = None, watch: Any = None) -> _Once:
        assert 1 < len(stacks) <= 3
        for seen in reconstructed.watched if watch else ():
            watch(*seen)
        return reconstructed

    # The commands first: one that is loaded now takes its `reconstruct` from the pipeline for good.
    for place in (
        *("commands.reconstruct.reconstruct", "commands.register.register"),
        *("cohort.subject.reconstruct", "pipeline.reconstruct"),
    ):
        monkeypatch.setattr(f"slicesplat.{place}", fit)
    batch_here(monkeypatch)
    for module in ("view", "compare"):
        monkeypatch.setattr(f"slicesplat.commands.{module}.serve", lambda page, *_: None)
    monkeypatch.setattr(demo_command, "reconstruct", fit)
    monkeypatch.setattr("slicesplat.prepare.segmentation.find_masks", found_once)
    monkeypatch.setattr(demo_command, "demo", lambda *words, **named: demo(*words, **{**named, **PHANTOM}))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def expanded(word: str) -> list[str]:
    """What a shell makes of a word that is not quoted."""
    return sorted(glob.glob(word)) or [word]


def words(line: str) -> list[str]:
    """The words behind the program's name; those in quotes are left as they are."""
    parts = shlex.split(_IN_IMAGE.sub("slicesplat ", line), comments=True, posix=False)
    assert parts[0] == "slicesplat", line
    return [each for part in parts[1:] for each in ([part.strip('"')] if part.startswith('"') else expanded(part))]


def named_outputs(line: list[str]) -> set[str]:
    """The files and folders that a command line is to write."""
    flags = ("--output-", "--simulated-", "--snapshots")
    named = {word for flag, word in itertools.pairwise(line) if flag.startswith(flags) and not word[0].isdigit()}
    made = {"bids": "sub-01/anat/sub-01_rec-slicesplat_T2w.nii.gz", "batch": "sub-01/volume.nii.gz"}
    return named | {f"{line[2]}/{name}" for command, name in made.items() if line[0] == command}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_block_runs(page: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = set(folder.iterdir())
    wrote = set()
    for language, block in _BLOCK.findall(page.read_text(encoding="utf-8")):
        if language == "python":
            exec(compile(block, page.name, "exec"), {})
            continue
        if language == "text":
            continue  # what is printed
        assert language == "sh", f"a block of {language or 'nothing'} is not run"
        for line in filter(None, block.replace("\\\n", " ").splitlines()):
            if not line.startswith(_INSTALLS):
                assert main(words(line)) == 0, f"{line}: {capsys.readouterr().err}"
                wrote |= named_outputs(words(line))
    # Nothing is turned where the fit is another one's.
    assert all(Path(name).exists() for name in wrote if not name.endswith(".tfm")), wrote
    assert not wrote or set(folder.iterdir()) > before


def test_code_of_the_guides_is_in_blocks_that_are_run() -> None:
    """Indented code would be run by nobody."""
    texts = {page.name: _BLOCK.sub("", page.read_text(encoding="utf-8")) for page in PAGES[1:]}
    assert not [name for name, text in texts.items() if re.search(r"^ {4}slicesplat ", text, re.MULTILINE)]
