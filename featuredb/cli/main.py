"""The root command: finds each command when it is run, and turns every error into one text and one exit status."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import click

from featuredb.cli.common import Settings, common, example
from featuredb.errors import BadInput, FeatureDBError, Interrupted, StoreUnusable

SECTIONS: dict[str, dict[str, str]] = {
    "Fill a store": {
        "ingest": "featuredb.cli.ingest:ingest",
        "demo": "featuredb.cli.demo:demo",
        "label": "featuredb.cli.label:label",
        "score": "featuredb.cli.score:score",
        "export": "featuredb.cli.export:export",
        "concept": "featuredb.cli.concept:concept",
    },
    "Ask it": {
        "search": "featuredb.cli.search:search",
        "show": "featuredb.cli.show:show",
        "activate": "featuredb.cli.activate:activate",
        "similar": "featuredb.cli.similar:similar",
        "correlate": "featuredb.cli.correlate:correlate",
        "map": "featuredb.cli.map:map_",
        "trajectory": "featuredb.cli.trajectory:trajectory",
        "query": "featuredb.cli.query:query",
        "sql": "featuredb.cli.query:sql",
        "ls": "featuredb.cli.ls:ls",
    },
    "Trust it": {
        "audit": "featuredb.cli.audit:audit",
    },
    "Keep it": {
        "check": "featuredb.cli.check:check",
        "migrate": "featuredb.cli.migrate:migrate",
        "rm": "featuredb.cli.rm:rm",
        "plugins": "featuredb.cli.plugins:plugins",
    },
}
"""Every command and where it lives, in the order `featuredb --help` tells them."""

SIGPIPE_STATUS = 141


class LazyGroup(click.Group):
    """A group whose commands are imported when asked for, and whose errors leave by one door."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for commands in SECTIONS.values() for name in commands]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        for commands in SECTIONS.values():
            if cmd_name in commands:
                module, attribute = commands[cmd_name].split(":")
                found: click.Command = getattr(import_module(module), attribute)
                return found
        return None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, commands in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl(list(self._summaries(ctx, commands)))

    def invoke(self, ctx: click.Context) -> Any:
        for stream in (sys.stdout, sys.stderr):
            # A terminal that cannot say ▇ or é gets a question mark, not a traceback.
            getattr(stream, "reconfigure", lambda **_: None)(errors="replace")
        try:
            answer = super().invoke(ctx)
            sys.stdout.flush()
        except (click.exceptions.Exit, click.ClickException, click.Abort):
            raise
        except BrokenPipeError:
            _forget_stdout()
            ctx.exit(SIGPIPE_STATUS)
        except (KeyboardInterrupt, Exception) as error:  # noqa: BLE001  the one door; nothing is swallowed
            ctx.exit(_report(error, ctx.ensure_object(Settings)))
        return answer

    def _summaries(self, ctx: click.Context, names: dict[str, str]) -> Iterator[tuple[str, str]]:
        for name in names:
            command = self.get_command(ctx, name)
            if command is not None:
                yield name, command.get_short_help_str(limit=70)


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=example("featuredb demo", "featuredb show demo/12 --db demo.fdb"),
)
@click.version_option(package_name="featuredb", prog_name="featuredb")
@common()
def main() -> None:
    """A database of what the features of neural networks do."""


def _report(error: BaseException, settings: Settings) -> int:
    """Say the error on stderr, as text or JSON; the exit status to leave with."""
    from featuredb.cli.output import show_error

    if os.environ.get("FEATUREDB_TRACEBACK"):
        import traceback

        traceback.print_exception(error)
    known = _known(error, settings)
    show_error(settings, code=known.code, message=known.message, hint=known.hint)
    return known.exit_code


def _known(error: BaseException, settings: Settings) -> FeatureDBError:
    """The error as one of ours."""
    import errno

    if isinstance(error, KeyboardInterrupt | Interrupted):
        said = error.message if isinstance(error, Interrupted) else "stopped"
        return Interrupted(f"{said}; the same command goes on from here" if settings.resumable else said)
    if isinstance(error, FeatureDBError):
        return error
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        where = f" for {error.filename}" if error.filename else ""
        return StoreUnusable(f"the disk is full{where}", hint="free some space; the same command goes on from here")
    if isinstance(error, PermissionError):
        return BadInput(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    if isinstance(error, MemoryError):
        return FeatureDBError("out of memory", hint="a smaller --batch-size or a smaller model needs less")
    lines = str(error).strip().splitlines()
    return FeatureDBError(
        f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__,
        hint="this is a bug in featuredb, or a case it does not know; FEATUREDB_TRACEBACK=1 shows where",
    )


def _forget_stdout() -> None:
    """Point stdout at nothing, so that flushing it at exit does not fail a second time."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        return
