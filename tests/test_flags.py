"""A flag that is given more than once loses no value without a word."""

from __future__ import annotations

import pytest

from slicesplat.cli import COMMANDS, load_command
from slicesplat.flags import join_repeated, several_values

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


@pytest.mark.parametrize("name", ["reconstruct", "register", "assess", "correct-bias-field"])
def test_stacks_masks_thicknesses_and_axes_take_several_values(name: str) -> None:
    assert several_values(load_command(name)) == {"--input-stacks", "--stack-masks", "--thicknesses", "--slice-axes"}


def test_no_other_command_has_flags_of_several_values() -> None:
    for name in COMMANDS.keys() - {"reconstruct", "register", "assess", "correct-bias-field", "apply"}:
        assert several_values(load_command(name)) == set()
