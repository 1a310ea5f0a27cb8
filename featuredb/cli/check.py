"""`featuredb check`: is the store whole?"""

from __future__ import annotations

import click

from featuredb.cli.common import Settings, common, example, open_store, pass_settings
from featuredb.cli.output import note, show_json, show_rows
from featuredb.errors import FaultsFound


@click.command(epilog=example("featuredb check --db features.fdb"))
@common()
@pass_settings
def check(settings: Settings) -> None:
    """Prove the store whole: checksums, row counts, indices, stray files."""
    with open_store(settings) as db:
        faults = db.check()
    if not faults:
        note(settings, f"{settings.db} is whole")
        if settings.json:
            show_json([])
        return
    show_rows(settings, faults, columns=("object", "fault"))
    raise FaultsFound(
        f"{len(faults)} fault{'s' if len(faults) > 1 else ''} in {settings.db}",
        hint="`featuredb rm dictionary` takes a faulty dictionary out; ingesting it again makes it whole",
    )
