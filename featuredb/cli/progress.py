"""Long work seen from outside: a bar with rate and time left on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from featuredb.cli.common import Settings
from featuredb.progress import Progress, ProgressReport, silent
from featuredb.visible import visible

SECONDS_BETWEEN_LINES = 5.0


@contextmanager
def progress(settings: Settings) -> Iterator[ProgressReport]:
    """A report that shows itself on stderr while the block runs; what runs in it counts as resumable."""
    settings.resumable = True
    if settings.quiet:
        yield silent
    elif sys.stderr.isatty():
        with _bar() as report:
            yield report
    elif settings.json:
        # A program reads stderr, and expects one JSON object there or nothing.
        yield silent
    else:
        yield Lines(lambda line: click.echo(line, err=True))
    settings.resumable = False


class Lines:
    """Progress as plain lines, at a stage's start and end and every few seconds between."""

    def __init__(self, write: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._write = write
        self._clock = clock
        self._began: dict[str, tuple[float, int]] = {}
        self._said: dict[str, float] = {}

    def __call__(self, progress: Progress) -> None:
        now = self._clock()
        began, done_before = self._began.setdefault(progress.stage, (now, progress.done))
        said = self._said.get(progress.stage)
        if said is not None and now - said < SECONDS_BETWEEN_LINES and progress.done != progress.total:
            return
        self._said[progress.stage] = now
        self._write(visible(_line(progress, now - began, progress.done - done_before)))


def _line(progress: Progress, seconds: float, done_here: int) -> str:
    """The line for a report that comes `seconds` after its stage began here, `done_here` units later."""
    of = f" of {progress.total:,}" if progress.total else ""
    parts = [f"{progress.stage}: {progress.done:,}{of} {progress.unit}"]
    if progress.total:
        parts[0] += f" ({progress.done / progress.total:.0%})"
    if seconds > 0 and done_here > 0:
        rate = done_here / seconds
        parts.append(f"{_figure(rate)} {progress.unit}/s")
        if progress.total and progress.total > progress.done:
            parts.append(f"{duration((progress.total - progress.done) / rate)} left")
    return ", ".join([*parts, progress.note] if progress.note else parts)


def duration(seconds: float) -> str:
    """Seconds as people say them: 42 s, 3 min 10 s, 2 h 05 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def _figure(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"


@contextmanager
def _bar() -> Iterator[ProgressReport]:
    from rich.progress import BarColumn, ProgressColumn, Task, TaskID, TextColumn
    from rich.progress import Progress as Bars
    from rich.text import Text

    from featuredb.cli.output import console

    class Rate(ProgressColumn):
        """Units a second and the time left at that rate."""

        def render(self, task: Task) -> Text:
            if not task.speed:
                return Text("")
            rate = f"{_figure(task.speed)} {task.fields['unit']}/s"
            left = task.time_remaining
            return Text(rate if left is None or task.finished else f"{rate}, {duration(left)} left", style="dim")

    counts = TextColumn("{task.fields[counts]}")
    with Bars(
        TextColumn("{task.description:<10}"), BarColumn(bar_width=20), counts, Rate(), console=console(stderr=True)
    ) as bars:
        tasks: dict[str, TaskID] = {}

        def report(progress: Progress) -> None:
            of = f"/{progress.total:,}" if progress.total else ""
            counts = visible(f"{progress.done:,}{of} {progress.note}".rstrip())
            if progress.stage not in tasks:
                # Begun at what was done before, so that a resumed run's rate is this process's own.
                tasks[progress.stage] = bars.add_task(
                    visible(progress.stage),
                    total=progress.total,
                    completed=progress.done,
                    counts=counts,
                    unit=progress.unit,
                )
            bars.update(tasks[progress.stage], total=progress.total, completed=progress.done, counts=counts)

        yield report
