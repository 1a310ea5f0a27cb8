"""`featuredb trajectory`: the path of texts through the layers of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from featuredb.cli.common import Settings, common, example, open_store, pass_settings
from featuredb.cli.output import note, show_rows
from featuredb.cli.progress import progress

if TYPE_CHECKING:
    from typing import Literal


@click.command(
    epilog=example(
        "featuredb trajectory 'IT IS LATE' 'It is late' --plot late.png",
        "featuredb trajectory all-caps --components 3 --json",
    )
)
@click.argument("what", metavar="CONCEPT|TEXT...", nargs=-1, required=True)
@click.option("--model", metavar="MODEL", help="Name, folder or id.  [default: the concept's, or the store's only one]")
@click.option(
    "--token", type=click.Choice(["last", "mean"]), help="Where texts are read.  [default: the concept's, or last]"
)
@click.option("--components", type=click.Choice(["2", "3"]), default="2", show_default=True, help="Dimensions shown.")
@click.option("--raw", is_flag=True, help="States as long as they are, not at unit length; norms grow by layer.")
@click.option("--plot", metavar="FILE", help="Draw it too: a .png or .svg.")
@common(quiet=True)
@pass_settings
def trajectory(
    settings: Settings,
    what: tuple[str, ...],
    model: str | None,
    token: Literal["last", "mean"] | None,
    components: str,
    raw: bool,
    plot: str | None,
) -> None:
    """Follow texts, or a concept's texts, through a model's layers."""
    with open_store(settings) as db, progress(settings) as report:
        settings.resumable = False
        points = db.trajectory(
            what, model=model, token=token, components=int(components), raw=raw, plot=plot, progress=report
        )
    columns = ("path", "layer", "x", "y", *(("z",) if components == "3" else ()), "norm")
    show_rows(settings, points, columns=None if settings.json else columns)
    if plot is not None:
        note(settings, f"drawn to {plot}")
