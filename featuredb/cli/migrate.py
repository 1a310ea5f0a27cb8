"""`featuredb migrate`: an older store brought up to date."""

from __future__ import annotations

from pathlib import Path

import click

from featuredb.cli.common import Settings, common, example, pass_settings
from featuredb.cli.output import show_rows


@click.command(epilog=example("featuredb migrate --db features.fdb"))
@common()
@pass_settings
def migrate(settings: Settings) -> None:
    """Bring an older store up to date, keeping a copy of its catalog."""
    from featuredb.store.migrate import migrate as run

    done = run(Path(settings.db))
    show_rows(settings, [{"before": done.before, "after": done.after, "copy": str(done.copy) if done.copy else None}])
