"""The pages for users of other tools: every command line loads its stacks, and every flag is on its page."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from loading import link_scan, scan, stand_in
from nesvor_command_line import FLAGS

from slicesplat.cli import main

DOCS = Path(__file__).parents[2] / "docs"
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


def test_templates_of_fetpype_become_command_lines_that_load_their_stacks(
    loaded: list[int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (yaml,) = blocks(DOCS / "coming-from-fetpype.md", "yaml")
    templates = _TEMPLATE.findall(yaml)
    assert len(templates) == 2
    for number, template in enumerate(templates):
        volume = tmp_path / f"derivatives-{number}" / "sub-1" / "recon.nii.gz"
        filled = {
            "<input_stacks>": " ".join(f"stack-{n}.nii.gz" for n in (1, 2, 3)),
            "<input_masks>": " ".join(f"mask-{n}.nii.gz" for n in (1, 2, 3)),
            "<output_volume>": str(volume),
            "<output_res>": "0.8",
        }
        command = template
        for name, value in filled.items():
            assert name in command
            command = command.replace(name, value)
        words = shlex.split(command)
        assert main(words[words.index("slicesplat") + 1 :]) == 0, capsys.readouterr().err
        assert volume.exists()
        assert loaded[-1] == 3


def test_the_readme_leads_to_every_page() -> None:
    readme = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    assert len(PAGES) == 4
    assert {page.name for page in PAGES} == set(re.findall(r"docs/(coming-from-[\w-]+\.md)", readme))
