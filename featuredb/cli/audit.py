"""`featuredb audit`: which features and labels not to trust, and why."""

from __future__ import annotations

from collections import Counter
from math import floor
from typing import Any

import click

from featuredb.cli.common import Settings, common, example, open_store, pass_settings
from featuredb.cli.label import name_values
from featuredb.cli.output import note, show_findings, show_rows
from featuredb.cli.progress import progress

COLUMNS = ("feature", "check", "score", "finding")
SHOWN = 20
VERDICT_COLUMNS = ("feature", "check", "score", "verdict", "note")


def _which(command: Any) -> Any:
    """Options that say which findings a command is about."""
    click.option("--feature", "features", metavar="FEATURE", multiple=True, help="Only these; repeat.  [default: all]")(
        command
    )
    click.option("--check", "checks", metavar="NAME", multiple=True, help="Only these; repeat.  [default: all]")(
        command
    )
    click.option("--dictionary", metavar="NAME", help="Which.  [default: the store's only one]")(command)
    click.option("--limit", type=click.IntRange(1), metavar="N", help=f"Rows.  [default: {SHOWN}; as JSON all]")(
        command
    )
    click.option("--all", "every", is_flag=True, help="Every feature's score, flagged or not.")(command)
    return command


@click.group(
    invoke_without_command=True,
    epilog=example(
        "featuredb audit --dictionary demo",
        "featuredb audit --check mislabelled --label-source neuronpedia",
    ),
)
@_which
@click.option("--label-source", metavar="LABELER", help="Judge this labeler's labels, not the shown ones.")
@click.option("--option", "options", metavar="NAME=VALUE", multiple=True, help="An option of a check; repeat.")
@click.option("--embedder", metavar="SPEC", help="PLUGIN or PLUGIN:SOURCE, for checks by meaning.")
@click.option("--seed", type=int, metavar="N", default=0, show_default=True, help="Of all that is drawn by chance.")
@common(quiet=True)
@click.pass_context
def audit(
    ctx: click.Context,
    dictionary: str | None,
    checks: tuple[str, ...],
    features: tuple[str, ...],
    limit: int | None,
    every: bool,
    label_source: str | None,
    options: tuple[str, ...],
    embedder: str | None,
    seed: int,
) -> None:
    """Find features and labels not to trust, with evidence; the worst first."""
    if ctx.invoked_subcommand is not None:
        return
    from featuredb.plugins import bare

    settings = ctx.ensure_object(Settings)
    with open_store(settings) as db:
        with progress(settings) as report:
            settings.resumable = False  # checks that have ended are kept, and the message says which are left
            done = db.run_audit(
                dictionary,
                checks,
                features or None,
                source=label_source,
                embedder=embedder,
                options=name_values(options),
                seed=seed,
                progress=report,
            )
        for row in done:
            said = row.reason or f"{row.flagged:,} of {row.judged:,} features"
            note(settings, f"{bare(row.check)}: {said}")
        found = db.findings(dictionary, checks, features or None, all_features=every, source=label_source)
        _show(settings, found, limit)


@audit.command("ls", epilog=example("featuredb audit ls --check mislabelled"))
@_which
@common()
@pass_settings
def audit_ls(
    settings: Settings,
    dictionary: str | None,
    checks: tuple[str, ...],
    features: tuple[str, ...],
    limit: int | None,
    every: bool,
) -> None:
    """List what earlier audits found, the worst first; nothing is run."""
    with open_store(settings) as db:
        _show(settings, db.findings(dictionary, checks, features or None, all_features=every), limit)


@audit.command("show", epilog=example("featuredb audit show demo/12"))
@click.argument("features", metavar="FEATURE...", nargs=-1, required=True)
@common()
@pass_settings
def audit_show(settings: Settings, features: tuple[str, ...]) -> None:
    """Explain a feature's findings in words and examples."""
    with open_store(settings) as db:
        show_findings(settings, [(feature, db.explain(feature)) for feature in features])


@audit.command("ack", epilog=example("featuredb audit ack demo/12 --check duplicate --dismiss --note 'by design'"))
@click.argument("feature")
@click.option("--check", metavar="NAME", help="Of this finding.  [default: of all the feature's]")
@click.option("--dismiss", is_flag=True, help="It is no fault: flag it no more.  [default: it is confirmed]")
@click.option("--author", envvar="FEATUREDB_AUTHOR", show_envvar=True, help="Who says so.")
@click.option("--note", "reason", help="Why, for those who come after.")
@common()
@pass_settings
def audit_ack(
    settings: Settings, feature: str, check: str | None, dismiss: bool, author: str | None, reason: str | None
) -> None:
    """Keep a person's verdict on a feature's findings."""
    with open_store(settings) as db:
        said = db.give_verdict(feature, check, "dismissed" if dismiss else "confirmed", author, reason)
        show_rows(settings, said, columns=VERDICT_COLUMNS)


@audit.command("report", epilog=example("featuredb audit report demo.html --dictionary demo"))
@click.argument("path", type=click.Path(dir_okay=False))
@click.option("--dictionary", metavar="NAME", help="Which.  [default: the store's only one]")
@click.option("--force", is_flag=True, help="Write over a file that is there.")
@common()
@pass_settings
def audit_report(settings: Settings, path: str, dictionary: str | None, force: bool) -> None:
    """Write what audits found as one page, .html or .md."""
    with open_store(settings) as db:
        written = db.audit_report(path, dictionary, force=force)
        show_rows(settings, [{"report": str(written)}])


def _show(settings: Settings, found: Any, limit: int | None) -> None:
    if settings.json:
        show_rows(settings, found[:limit])
        return
    most = limit or SHOWN
    rows = [{**row.row(), "score": floor(100 * row.score) / 100, "finding": _said(row)} for row in found[:most]]
    show_rows(settings, rows, columns=COLUMNS, nothing="nothing is flagged")
    if len(found) > most:
        counts = Counter(row.check for row in found if row.flagged)
        note(settings, f"in all: {', '.join(f'{name} {n:,}' for name, n in counts.items())}")
        note(settings, f"{len(found) - most:,} more; --limit, --check or --feature choose")


def _said(row: Any) -> str:
    """What is found, in a sentence: the label it is about, and what to do."""
    about = f'"{row.judged}": ' if row.judged else ""
    return f"{about}{row.suggestion or '-'}"
