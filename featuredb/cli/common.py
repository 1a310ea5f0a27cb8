"""What commands share: the options every one takes, how examples are written, and how the store is opened."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from featuredb.database import FeatureDB

DEFAULT_STORE = "features.fdb"
SCALES = {"": 1, "k": 1_000, "m": 1_000_000, "b": 1_000_000_000}
Decorated = TypeVar("Decorated", bound=Callable[..., Any])


@dataclass
class Settings:
    """What the options that every command takes say; one for a whole command line."""

    db: str = DEFAULT_STORE
    json: bool = False
    quiet: bool = False
    resumable: bool = False
    """Whether the same command, run again, would go on from where this one stops."""
    given: set[str] = field(default_factory=set)
    """Options that were typed, before the command's name or after it."""


pass_settings = click.make_pass_decorator(Settings, ensure=True)


def common(*, db: bool = True, quiet: bool = False) -> Callable[[Decorated], Decorated]:
    """Adds --json, and --db and --quiet where a command has use for them."""

    def add(command: Decorated) -> Decorated:
        if quiet:
            _flag("--quiet", "-q", help="No progress on stderr.")(command)
        _flag("--json", help="Print one JSON object: {ok, rows}; errors as JSON on stderr.")(command)
        if db:
            click.option(
                "--db",
                metavar="STORE",
                default=DEFAULT_STORE,
                show_default=True,
                envvar="FEATUREDB_DB",
                show_envvar=True,
                help="The store's folder.",
                expose_value=False,
                callback=_keep,
            )(command)
        return command

    return add


def example(*lines: str) -> str:
    """An epilog that shows the lines as they are typed."""
    return "\b\nExample:\n" + "\n".join(f"  {line}" for line in lines)


def open_store(settings: Settings, *, create: bool = False) -> FeatureDB:
    """The store that --db names. Raises StoreUnusable where it is none and `create` is false."""
    import featuredb

    return featuredb.open(settings.db, create=create)


class Count(click.ParamType[int]):
    """A whole number from 1 up, in any of the ways people write large ones: 500000, 500_000, 500,000, 500k, 1.5M."""

    name = "count"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        found = re.fullmatch(r"(\d[\d_,]*(?:\.\d+)?)([kKmMbB]?)", str(value).strip())
        number = Decimal(re.sub("[_,]", "", found[1])) * SCALES[found[2].lower()] if found else Decimal(0)
        if number < 1 or number != int(number):
            self.fail(f"{value!r} is no whole number from 1 up; 500000, 500_000, 500k and 1.5M are read", param, ctx)
        return int(number)


def _flag(*names: str, help: str) -> Callable[[Decorated], Decorated]:
    return click.option(*names, is_flag=True, help=help, expose_value=False, callback=_keep)


def _keep(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    """Notes an option. One typed before the command's name holds for it, unless it is typed after it as well."""
    if param.name is None:
        return
    settings = ctx.ensure_object(Settings)
    typed = ctx.get_parameter_source(param.name) is click.core.ParameterSource.COMMANDLINE
    if typed or param.name not in settings.given:
        setattr(settings, param.name, value)
    if typed:
        settings.given.add(param.name)
