"""A flag that is given more than once loses no value without a word."""

from __future__ import annotations

import pytest

from slicesplat.cli import COMMANDS, load_command
from slicesplat.commands.stacks import StackCommand
from slicesplat.flags import join_repeated, several_values, without_unused

SEVERAL = {"--input-stacks", "--stack-masks"}


@pytest.mark.parametrize(
    ("given", "once"),
    [
        ("--input-stacks a --input-stacks b", "--input-stacks a b"),
        ("--input-stacks a b --stack-masks m --input-stacks c", "--input-stacks a b c --stack-masks m"),
        ("--input_stacks a --input-stacks=b", "--input_stacks a b"),
        ("--input-stacks=a --quiet --input-stacks b", "--input-stacks=a b --quiet"),
        ("--input-stacks a --input-stacks a", "--input-stacks a a"),
        ("--seed 1 --quiet --seed 1", "--seed 1 --quiet"),
        ("--seed=-1 --seed -1", "--seed -1"),
        ("--quiet --debug --quiet", "--quiet --debug"),
        ("--input-stacks a -w b --input-stacks c", "--input-stacks a c -w b"),
        ("seed x --seed 1 -y", "seed x --seed 1 -y"),
        ("--seed 1 -- --seed 2", "--seed 1 -- --seed 2"),
        ("", ""),
    ],
)  # fmt: skip
def test_values_of_a_repeated_flag_are_joined(given: str, once: str) -> None:
    assert join_repeated(given.split(), SEVERAL) == (once.split(), [])


@pytest.mark.parametrize(
    ("given", "once", "note"),
    [
        ("--seed 1 --seed 2", "--seed 2", "--seed is given more than once: 2 is taken, not 1"),
        ("--output_json a --quiet --output-json=b", "--output-json=b --quiet", "--output-json is given more"),
    ],
)  # fmt: skip
def test_of_a_single_value_the_last_counts_and_the_others_are_named(given: str, once: str, note: str) -> None:
    args, notes = join_repeated(given.split(), SEVERAL)
    assert args == once.split()
    assert len(notes) == 1 and notes[0].startswith(note)


@pytest.mark.parametrize(
    ("given", "here"),
    [
        ("--device 0", "--device auto"),
        ("--device -1", "--device cpu"),
        ("--device=-1", "--device cpu"),
        ("--device cuda", "--device cuda"),
        ("--verbose 0", "--quiet"),
        ("--verbose 1", ""),
        ("--verbose 2 --seed 3", "--verbose --seed 3"),
        ("--verbose", "--verbose"),
        ("--registration svort --scanner-space", ""),
        ("--n-levels-bias 0", ""),
        ("--no-pixel-robust-statistics", "--no-pixel-variance"),
        ("--psf sinc", "--slice-profile sinc"),
        ("--input-stacks a --output-model m.safetensors", "--input-stacks a --output-model m.safetensors"),
    ],
)
def test_flag_that_is_said_in_another_way_is_honoured_without_a_word(given: str, here: str) -> None:
    assert without_unused("reconstruct", given.split()) == (here.split(), [])


@pytest.mark.parametrize(
    ("given", "left", "words"),
    [
        ("--n-iter 5000", "", ["--n-iter: not used, the fit stops by itself"]),
        ("--n_iter=5000 --quiet --n-iter 3", "--quiet", ["--n-iter: not used"]),
        ("--milestones 0.5 0.75 0.9 --seed 1", "--seed 1", ["--milestones: not used"]),
        ("--segmentation --deformable", "", ["--deformable: not used"]),
        ("--device 2", "--device auto", ["--device: the first GPU is used"]),
        ("--output-model a/m.pt", "--output-model a/m.safetensors", ["--output-model: written as a/m.safetensors"]),
        ("--registration svort-only", "", ["--registration: not used", "without a network"]),
        ("--n-levels-bias 1", "", ["--n-levels-bias: not used"]),
        ("--metric iqa2d", "--metric ncc", ["--metric: not used, no network judges the stacks"]),
    ],
)
def test_flags_that_are_not_used_are_named_in_one_sentence(given: str, left: str, words: list[str]) -> None:
    args, notes = without_unused("reconstruct", given.split())
    assert args == left.split()
    assert len(notes) == 1
    assert all(word in notes[0] for word in words)


def test_words_that_do_not_belong_to_an_unused_flag_stay() -> None:
    assert without_unused("reconstruct", ["--segmentation", "a.nii.gz"])[0] == ["a.nii.gz"]
    assert without_unused("reconstruct", ["--n-iter", "5", "a.nii.gz"])[0] == ["a.nii.gz"]


def test_a_flag_is_unused_only_where_it_belongs() -> None:
    assert without_unused("demo", ["--n-iter", "5"]) == (["--n-iter", "5"], [])
    assert without_unused("assess", ["--device", "0", "--seed", "3", "--quiet"]) == (["--quiet"], [])


@pytest.mark.parametrize("name", COMMANDS)
def test_stacks_masks_thicknesses_and_axes_take_several_values(name: str) -> None:
    command = load_command(name)
    several = {"--input-stacks", "--stack-masks", "--thicknesses", "--slice-axes"}
    assert several_values(command) >= (several if issubclass(command, StackCommand) else set())
