"""``slicesplat batch``: many subjects, side by side, on one machine or on many."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, get_type_hints

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from slicesplat.cohort.clusters import ClusterSettings, Share, client_of, has_dashboard, needed, this_machine
from slicesplat.cohort.derivative import NAME, Derivative, masks_derivative
from slicesplat.cohort.engine import Count, run_all
from slicesplat.cohort.overview import PAGE, TABLE, lines_of, save_overview
from slicesplat.cohort.plan import data_set_tasks, table_tasks, with_memory
from slicesplat.cohort.shard import shard
from slicesplat.cohort.table import read_table
from slicesplat.cohort.task import Outcome, Task
from slicesplat.commands.base import BaseCommand, OptionalPath, log
from slicesplat.commands.settings import Settings
from slicesplat.config import Config
from slicesplat.errors import InputError, OutputError
from slicesplat.flags import is_no_flag
from slicesplat.io.bids import find_examinations
from slicesplat.io.files import check_output_folder
from slicesplat.machine import has_cuda_driver

_QUARTERS = 4
_MOST_NAMED = 10
_RENEWED = 100.0
"""Times as long as it took to write the overview it is left as it is."""


@dataclass(frozen=True, kw_only=True)
class Command(BaseCommand):
    """Reconstruct many subjects, several at a time.

    What is done is not done again, unless inputs, settings or version have changed; a subject that fails does not keep
    the others from being done. An overview is written at the end: cohort.tsv and cohort.html.

    Attributes
    ----------
    subjects : path
        A table with one subject a row, .csv, .tsv or .jsonl: columns id, stacks, masks, thicknesses, and any flag of
        reconstruct without its dashes; several values of a cell stand apart by semicolons, paths are relative to the
        table. Or a data set in BIDS.
    output_dir : path
        The folder to write: one folder for each subject; of a data set, a derivative.
    participant_label : labels
        Of a data set, the subjects, with or without sub-. None: all.
    session_label : labels
        Of a data set, the sessions, with or without ses-. None: all.
    masks_derivative : path
        Of a data set, a derivative with masks of the stacks, or the name of one in its derivatives. None: none.
    shard : i/n
        Do every n-th subject, from the i-th on: for plain job arrays.
    cluster : ClusterSettings
        Where subjects run.
    config : Settings
        Settings of all reconstructions.
    """

    subjects: tyro.conf.Positional[Path]
    output_dir: tyro.conf.Positional[Path]
    participant_label: tuple[str, ...] = ()
    session_label: tuple[str, ...] = ()
    masks_derivative: OptionalPath = None
    shard: Annotated[str | None, tyro.conf.arg(metavar="I/N")] = None
    cluster: Annotated[ClusterSettings, tyro.conf.arg(name="")] = field(default_factory=ClusterSettings)
    config: Annotated[Settings, tyro.conf.arg(name="")] = field(default_factory=Settings)

    def execute(self, console: Console) -> None:
        """Plan, run, write the overview, say how many failed."""
        needed("distributed")
        check_output_folder(self.output_dir)
        everything = self._planned()
        tasks = everything if self.shard is None else shard(everything, self.shard)
        root = everything[0].root
        tasks = [with_memory(task, self.config) for task in tasks]
        memories = [task.memory for task in tasks]
        share = self._share(memories)
        log.info("%d subjects, %d at a time, %d threads each", len(tasks), share.workers, share.threads)
        outcomes: list[Outcome] = []
        overview = _Overview(everything, outcomes, root)
        try:
            with client_of(self.cluster, share, max(memories, default=0.0)) as client, _Display(console) as display:
                if has_dashboard():
                    log.info("Dask's dashboard: %s", client.dashboard_link)

                def told(count: Count, outcome: Outcome | None) -> None:
                    display(count, outcome)
                    if outcome is not None:
                        outcomes.append(outcome)
                        overview.renew()

                run_all(client, tasks, share.threads, told, share.gpus)
        finally:
            # Also of what was done before the scheduler went away.
            overview.save()
        log.info("overview: %s and %s", root / TABLE, root / PAGE)
        _end(outcomes)

    def _planned(self) -> list[Task]:
        """All subjects, those of other shards too."""
        flags = flags_of(self.config)
        if not os.path.isdir(self.subjects):
            if self.participant_label or self.session_label or self.masks_derivative is not None:
                raise InputError(f"{self.subjects}: is no data set; labels and --masks-derivative are for one in BIDS")
            rows = read_table(self.subjects)
            root = self.output_dir
            root.mkdir(parents=True, exist_ok=True)
            return table_tasks(rows, root.absolute(), flags)
        root = self.output_dir / NAME if self.output_dir.name == "derivatives" else self.output_dir
        masks = masks_derivative(self.subjects, self.masks_derivative)
        places = [None if path is None else path.absolute() for path in (root, self.subjects, masks)]
        derivative = Derivative(places[0] or root, places[1] or self.subjects, places[2])
        derivative.check()
        examinations = find_examinations(derivative.raw, self.participant_label, self.session_label, derivative.masks)
        derivative.describe()
        return data_set_tasks(examinations, derivative, self.config.plain(), flags)

    def _share(self, memories: list[float]) -> Share:
        """Subjects at a time and threads of each, as far as it is this machine that computes."""
        if self.cluster.scheduler is not None or self.cluster.system is not None:
            return Share(min(self.cluster.jobs, len(memories)), max(1, self.cluster.threads_per_subject))
        return this_machine(self.cluster, memories, _gpus(self.config))


def flags_of(settings: Settings) -> dict[str, tuple[str, ...]]:
    """The flags with which another process gets the same settings, as far as they are not the usual ones.

    Examples
    --------
    >>> flags_of(Settings(resolution=0.5, estimate_bias_field=False, threads=3))
    {'--output-resolution': ('0.5',), '--no-estimate-bias-field': ()}
    """
    hints = get_type_hints(Settings, include_extras=True)
    flags: dict[str, tuple[str, ...]] = {}
    for each in fields(Settings):
        value, usual = getattr(settings, each.name), getattr(Settings(), each.name)
        # How many threads a subject gets is the machine's business.
        if value == usual or each.name == "threads" or is_no_flag(hints[each.name]):
            continue
        name = _flag_name(hints[each.name]) or each.name.replace("_", "-")
        if isinstance(value, bool):
            flags[f"--{name}" if value else f"--no-{name}"] = ()
        else:
            flags[f"--{name}"] = (str(value),)
    return flags


def _flag_name(hint: Any) -> str | None:
    names = [getattr(mark, "name", None) for mark in getattr(hint, "__metadata__", ())]
    return next((name for name in names if isinstance(name, str) and name), None)


def _gpus(config: Config) -> int:
    """How many there are to be used."""
    if config.device == "cpu" or not has_cuda_driver():
        return 0
    import torch

    from slicesplat.splat import available_backends

    if available_backends()[0] == "cpu":
        return 0

    return int(torch.cuda.device_count())


class _Display:
    """How far the cohort is: a bar on a terminal, a line at each quarter elsewhere; every failure at once."""

    def __init__(self, console: Console) -> None:
        self._told = 0
        self._bar: Progress | None = None
        if console.is_terminal and not console.quiet:
            self._bar = Progress(
                TextColumn("subjects"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[state]}"),
                TimeElapsedColumn(), console=console,
            )  # fmt: skip
            self._task = self._bar.add_task("subjects", total=None, state="")

    def __enter__(self) -> _Display:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def __call__(self, count: Count, outcome: Outcome | None) -> None:
        if outcome is not None:
            _tell(outcome)
        finished = count.done + count.failed
        left = "" if count.left is None else f", about {_duration(count.left)} left"
        state = f"{count.running} running, {count.failed} failed{left}"
        if self._bar:
            self._bar.update(self._task, total=count.total, completed=finished, state=state)
        elif _QUARTERS * finished // count.total > self._told:
            self._told = _QUARTERS * finished // count.total
            log.info("%d of %d subjects, %s", finished, count.total, state)


def _tell(outcome: Outcome) -> None:
    if outcome.state == "failed":
        log.error("%s: %s", outcome.name, outcome.error)
    elif outcome.state == "elsewhere":
        log.warning("%s: %s", outcome.name, outcome.error)
    elif outcome.state == "there":
        log.debug("%s: is done already, nothing has changed", outcome.name)
    else:
        figures = outcome.record.figures if outcome.record is not None else None
        grade = figures.verdict if figures is not None else None
        level = logging.INFO if grade == "pass" else logging.WARNING
        told = "; ".join([f"verdict {grade}", *(figures.reasons if figures is not None else ())])
        log.log(level, "%s: %s", outcome.name, told)


def _duration(seconds: float) -> str:
    """So many seconds, in words.

    Examples
    --------
    >>> _duration(41), _duration(3700), _duration(100000)
    ('41 s', '1 h 2 min', '27 h 47 min')
    """
    minutes = round(seconds / 60)
    return (
        f"{seconds:.0f} s"
        if seconds < 100
        else f"{minutes} min"
        if minutes < 60
        else f"{minutes // 60} h {minutes % 60} min"
    )


class _Overview:
    """The overview, written at the end, and now and then before: a run may take days, and be interrupted."""

    def __init__(self, tasks: list[Task], outcomes: list[Outcome], root: Path) -> None:
        self._tasks, self._outcomes, self._root = tasks, outcomes, root
        self._next = 0.0

    def renew(self) -> None:
        """Write it, if that is no hundredth of the time since it was written last."""
        if time.monotonic() >= self._next:
            # What keeps it from being written may have gone by the end.
            with suppress(OutputError):
                self.save()

    def save(self) -> None:
        """Write table and page.

        Raises
        ------
        OutputError
            There is no room for them.
        """
        start = time.monotonic()
        try:
            save_overview(lines_of(self._tasks, self._outcomes), self._root)
        except OSError as error:
            raise OutputError(
                f"{self._root / TABLE} and {PAGE} ({error.strerror}): could not be written; free space and run again: "
                "what is done stays done"
            ) from error
        finally:
            now = time.monotonic()
            self._next = now + _RENEWED * (now - start)


def _end(outcomes: list[Outcome]) -> None:
    """Say what became of all; a failure makes the status.

    Raises
    ------
    OutputError
        Subjects failed.
    """
    by_state: Mapping[str, list[str]] = {
        state: [outcome.name for outcome in outcomes if outcome.state == state]
        for state in ("written", "there", "failed", "elsewhere")
    }
    log.info(
        "%d written, %d were done already, %d failed, %d left to another run",
        *(len(names) for names in by_state.values()),
    )
    failed = by_state["failed"]
    if failed:
        more = f" and {len(failed) - _MOST_NAMED} more" if len(failed) > _MOST_NAMED else ""
        raise OutputError(
            f"{', '.join(failed[:_MOST_NAMED])}{more}: {len(failed)} of {len(outcomes)} subjects failed, as told above "
            f"and in {TABLE}; see to them and run again"
        )
