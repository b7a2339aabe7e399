"""The pages for users of other tools: every command line loads its stacks, and every flag is on its page."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from loading import link_scan, scan, stand_in
from nesvor_command_line import FLAGS
from scipy import ndimage

from slicesplat.cli import main

DOCS = Path(__file__).parents[2] / "docs"
FABIAN = Path(__file__).parents[3] / "shared" / "data" / "fabian-fetpype"
PAGES = sorted(DOCS.glob("coming-from-*.md"))
# In double quotes of YAML a line end is a space.
_TEMPLATE = re.compile(r'cmd: "([^"]*)"')


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def command_lines(page: Path) -> list[list[str]]:
    """The words of every command line, the program's name left out."""
    text = "\n".join(blocks(page, "sh")).replace("\\\n", " ")
    return [shlex.split(line)[1:] for line in text.splitlines() if line.strip()]


@pytest.fixture(scope="module")
def scanned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scan(tmp_path_factory.mktemp("docs") / "case")


@pytest.fixture
def loaded(scanned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """In a folder with stacks and masks: how many stacks reach the pipeline."""
    link_scan(scanned, tmp_path)
    monkeypatch.chdir(tmp_path)
    return stand_in(monkeypatch)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_line_runs_as_far_as_its_stacks(
    page: Path, loaded: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    lines = command_lines(page)
    assert lines
    for number, line in enumerate(lines):
        assert main(line) == 0, capsys.readouterr().err
        if number == 0:
            # A page that shows what is told shows what is told.
            told = "".join(blocks(page, "text")).split()
            assert " ".join(told) in " ".join(capsys.readouterr().err.split())
    assert set(loaded) <= {2, 3}


def test_every_flag_of_nesvor_is_on_its_page() -> None:
    page = (DOCS / "coming-from-nesvor.md").read_text(encoding="utf-8")
    given = {word for flags in FLAGS.values() for word in shlex.split(flags) if word.startswith("--")}
    ahead = {"--input-slices", "--input-model"}  # of commands that sample a model
    assert not [flag for flag in sorted(given - ahead) if not re.search(rf"`{flag}(?![\w-])", page)]


def filled(template: str, stacks: list[str], masks: list[str], volume: Path) -> list[str]:
    """The words behind the program's name, as fetpype fills its template in; the container in front is cut off."""
    values = {
        "<input_stacks>": " ".join(stacks),
        "<input_masks>": " ".join(masks),
        "<output_volume>": str(volume),
        "<output_res>": "0.8",
    }
    for name, value in values.items():
        assert name in template
        template = template.replace(name, value)
    words = shlex.split(template)
    return words[words.index("slicesplat") + 1 :]


def templates() -> list[str]:
    (yaml,) = blocks(DOCS / "coming-from-fetpype.md", "yaml")
    return _TEMPLATE.findall(yaml)


def test_templates_of_fetpype_become_command_lines_that_load_their_stacks(
    loaded: list[int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(templates()) == 2
    stacks, masks = ([f"{name}-{n}.nii.gz" for n in (1, 2, 3)] for name in ("stack", "mask"))
    for number, template in enumerate(templates()):
        volume = tmp_path / f"derivatives-{number}" / "sub-1" / "recon.nii.gz"
        assert main(filled(template, stacks, masks, volume)) == 0, capsys.readouterr().err
        assert volume.exists()
        assert loaded[-1] == 3


def coarser(path: Path, folder: Path) -> Path:
    """The image with every second row and column of its slices: a quarter of the work."""
    image = nib.load(path)
    thin = nib.Nifti1Image(np.asarray(image.dataobj)[::2, ::2], image.affine @ np.diag([2.0, 2.0, 1.0, 1.0]))
    nib.save(thin, folder / path.name)
    return folder / path.name


@pytest.mark.skipif(not FABIAN.exists(), reason="the shared data set in fetpype's layout is not here")
def test_what_fetpype_calls_reconstructs_its_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scanned = sorted((FABIAN / "sub-simu001" / "ses-01" / "anat").glob("*_T2w.nii.gz"))
    drawn = sorted((FABIAN / "derivatives" / "masks" / "sub-simu001" / "ses-01" / "anat").glob("*_mask.nii.gz"))
    given, masks = ([coarser(path, tmp_path) for path in paths] for paths in (scanned, drawn))
    volume = tmp_path / "derivatives" / "slicesplat" / "sub-simu001" / "ses-01" / "anat" / "recon.nii.gz"
    words = filled(templates()[0], [str(path) for path in given], [str(path) for path in masks], volume)
    assert main(words) == 0, capsys.readouterr().err
    assert [path.name for path in volume.parent.iterdir()] == ["recon.nii.gz"]
    image = nib.load(volume)
    assert image.header.get_zooms() == pytest.approx((0.8, 0.8, 0.8))
    shown = np.asarray(image.dataobj)
    assert np.isfinite(shown).all()
    # In scanner space, where the first stack is: its slices moved little, the other stacks as a whole.
    stack, mask = nib.load(given[0]), np.asarray(nib.load(masks[0]).dataobj) > 0
    there = np.argwhere(mask) @ stack.affine[:3, :3].T + stack.affine[:3, 3]
    back = np.linalg.inv(image.affine)
    values = ndimage.map_coordinates(shown, (there @ back[:3, :3].T + back[:3, 3]).T, order=1)
    assert (values > 0).mean() > 0.95
    assert np.corrcoef(values, np.asarray(stack.dataobj)[mask])[0, 1] > 0.8


def test_the_readme_leads_to_every_page() -> None:
    readme = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    assert len(PAGES) == 4
    assert {page.name for page in PAGES} == set(re.findall(r"docs/(coming-from-[\w-]+\.md)", readme))
