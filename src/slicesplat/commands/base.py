"""What every command shares: how much it tells, and where."""

from __future__ import annotations

import contextlib
import logging
import sys
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, TextIO, cast

import tyro
from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from slicesplat.errors import OutputError
from slicesplat.io.atomic import atomic_path
from slicesplat.io.files import check_output
from slicesplat.terminal import Messages, printable, written_to_stdout

if TYPE_CHECKING:
    from slicesplat.progress import Progress as Report

log = logging.getLogger("slicesplat")

OptionalPath = Annotated[Path | None, tyro.conf.arg(metavar="PATH")]
"""A file or folder that need not be given."""


@dataclass(frozen=True, kw_only=True)
class BaseCommand(ABC):
    """Flags of every command.

    Attributes
    ----------
    verbose : bool
        Tell more: every decision and its reason.
    quiet : bool
        Tell nothing but warnings and errors.
    debug : bool
        Show the traceback of an error.
    output_log : path
        Where to write the messages too, .log or .txt.
    """

    verbose: bool = False
    quiet: bool = False
    debug: bool = False
    output_log: OptionalPath = None
    # The command and its flags as they were given, for pages that say how to have them again.
    given: tyro.conf.Suppress[tuple[str, ...]] = ()

    @abstractmethod
    def execute(self, console: Console) -> None:
        """Do the work; `console` is the terminal for messages and progress."""

    def run(self, warned: Sequence[str] = ()) -> None:
        """Do the work, with messages set up as the flags say; `warned` are warnings about the flags themselves."""
        stream = cast(TextIO, Messages(sys.stderr))
        console = Console(file=stream, quiet=self.quiet)
        # Warnings are shown in any case; a message must not break the progress bar, where there is one.
        shown = Console(file=stream) if self.quiet else console
        with _logged(self.output_log, warned), _messages(shown, self._level(), warned):
            self.execute(console)

    def _level(self) -> int:
        if self.quiet:
            return logging.WARNING
        return logging.DEBUG if self.verbose else logging.INFO


class _Lines(logging.Handler):
    """Keeps messages as lines."""

    def __init__(self, warned: Sequence[str]) -> None:
        super().__init__()
        self.lines = [f"warning: {text}" for text in warned]

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.levelname.lower()}: {record.getMessage()}")


@contextmanager
def _logged(path: Path | None, warned: Sequence[str]) -> Iterator[None]:
    """Write the messages of the block to a file, those of a run that fails too; None: nowhere."""
    if path is None:
        yield
        return
    check_output(path, (".log", ".txt"))
    handler = _Lines(warned)
    log.addHandler(handler)
    try:
        yield
    except Exception as error:
        handler.lines.append(f"error: {error}")
        with contextlib.suppress(OSError):
            _save(handler.lines, path)
        raise
    finally:
        log.removeHandler(handler)
    try:
        _save(handler.lines, path)
    except OSError as error:
        raise OutputError(f"{path} ({error.strerror}): could not be written; name another place") from error


def _save(lines: Sequence[str], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        temporary.write_text("".join(f"{printable(line)}\n" for line in lines), encoding="utf-8")


class _ConsoleHandler(logging.Handler):
    """Writes through rich's console, so that a message does not break the progress bar."""

    def __init__(self, console: Console, warned: Sequence[str]) -> None:
        super().__init__()
        self.console = console
        self._waiting = [
            logging.makeLogRecord({"levelno": logging.WARNING, "levelname": "WARNING", "msg": text}) for text in warned
        ]

    def show_waiting(self) -> None:
        """Show the warnings about the flags."""
        waiting, self._waiting = self._waiting, []
        for record in waiting:
            self.emit(record)

    def emit(self, record: logging.LogRecord) -> None:
        # Ahead of the first message, and not before: input that is refused is refused in one line.
        self.show_waiting()
        text = self.format(record)
        if record.levelno >= logging.WARNING:
            text = f"{record.levelname.lower()}: {text}"
        self.console.print(printable(text), markup=False, emoji=False, highlight=False, soft_wrap=True)


@contextmanager
def _messages(console: Console, level: int, warned: Sequence[str]) -> Iterator[None]:
    handler = _ConsoleHandler(console, warned)
    before = log.level, log.propagate
    log.addHandler(handler)
    log.setLevel(level)
    log.propagate = False
    try:
        with warnings.catch_warnings():
            # Warnings of the libraries below are for us, not for users.
            if level > logging.DEBUG:
                warnings.simplefilter("ignore")
            yield
            handler.show_waiting()
    finally:
        log.removeHandler(handler)
        log.setLevel(before[0])
        log.propagate = before[1]


def show(result: RenderableType) -> None:
    """Print what was asked for.

    Raises
    ------
    OSError
        Standard output cannot be written.
    """
    with written_to_stdout():
        _Output().print(result)


class _Output(Console):
    """Standard output: that its reader has left is `written_to_stdout`'s business, and does not end the program."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


class _SecondsLeft(ProgressColumn):
    """How long a step goes on, about, where that can be told."""

    def render(self, task: Task) -> Text:
        """Seconds left, by how fast the last parts were done."""
        if task.finished or task.time_remaining is None:
            return Text("")
        return Text(f"{task.time_remaining:.0f} s left", style="progress.remaining")


class ProgressDisplay:
    """Draws a computation's progress: a bar for each step on a terminal, plain log lines elsewhere.

    Used as a context manager, and as the callback of the computation.
    """

    QUARTERS = 4

    def __init__(self, console: Console) -> None:
        self._step = ""
        self._told = 0
        self._task: TaskID | None = None
        self._bar: Progress | None = None
        if console.is_terminal and not console.quiet:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[loss]}"),
                TimeElapsedColumn(),
                _SecondsLeft(),
                console=console,
            )

    def __enter__(self) -> ProgressDisplay:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            if kind is None:
                self._complete(self._bar)
            self._bar.stop()

    def __call__(self, report: Report) -> None:
        """Show where the computation is."""
        loss = "" if report.loss is None else f"loss {report.loss:.4g}"
        if self._bar:
            self._draw(self._bar, report, loss)
        else:
            self._tell(report, loss)

    def _draw(self, bar: Progress, report: Report, loss: str) -> None:
        if self._task is None or report.step != self._step:
            self._complete(bar)
            self._step = report.step
            self._task = bar.add_task(report.step, total=report.total, loss=loss)
        bar.update(self._task, completed=report.done, total=report.total, loss=loss)

    def _complete(self, bar: Progress) -> None:
        """The step at work has come to its end, perhaps in fewer parts than it might have taken."""
        if self._task is not None:
            done = bar.tasks[self._task].total
            bar.update(self._task, completed=done)

    def _tell(self, report: Report, loss: str) -> None:
        """One line at the start of a step, and one at each quarter of a long one."""
        if report.step != self._step:
            self._step, self._told = report.step, 0
            log.info("%s", report.step)
        quarter = self.QUARTERS * report.done // max(report.total, 1)
        if quarter > self._told and report.total >= self.QUARTERS:
            self._told = quarter
            log.info("%s", "  ".join(filter(None, [f"{report.step} {report.done}/{report.total}", loss])))
