"""`featuredb concept`: named directions, from contrasting texts, from files, and of one another."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from featuredb.cli.common import Settings, common, example, open_store, pass_settings
from featuredb.cli.output import show_concepts, show_rows
from featuredb.cli.progress import progress
from featuredb.concepts.choices import METHOD_NAMES, READ_FORMATS, ROWS_ARE, TOKENS, WRITTEN_FORMATS, parse_layers

if TYPE_CHECKING:
    from featuredb.concepts.request import ConceptRequest
    from featuredb.records import ConceptRow

COLUMNS = ("concept", "method", "texts", "hooks", "auroc")
MOST_HOOKS = 2
"""Hooks that a list of concepts names; of more it gives the number."""


@click.group()
def concept() -> None:
    """Make directions from contrasting texts or files, and combine them."""


@concept.command(
    "add",
    epilog=example(
        "featuredb concept add capitals --positive upper.txt --negative lower.txt",
        'featuredb concept add question --positive "Is it raining?" --positive "Who won?" \\',
        '      --negative "It is raining." --negative "They won." --layers 4-8 --token mean',
    ),
)
@click.argument("name")
@click.option(
    "--positive", metavar="FILE|TEXT", multiple=True, required=True, help="Texts that have it, a line each; repeat."
)
@click.option(
    "--negative", metavar="FILE|TEXT", multiple=True, required=True, help="Texts that do not have it; repeat."
)
@click.option("--model", metavar="MODEL", help="Name, id or folder.  [default: the store's only model]")
@click.option("--layers", metavar="LAYERS", help="What these layers give: 8-20 or 3,5,7-9.")
@click.option(
    "--hook", "hooks", metavar="HOOK", multiple=True, help="Where; repeat.  [default: where the dictionaries read]"
)
@click.option("--method", type=click.Choice(METHOD_NAMES), default="mean-difference", show_default=True)
@click.option(
    "--token", type=click.Choice(TOKENS), default="last", show_default=True, help="Which tokens speak for a text."
)
@click.option("--chat", is_flag=True, help="Put each text into the model's chat template, as a user's turn.")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, ...")
@click.option("--dtype", default="auto", show_default=True, help="float32, bfloat16 or float16.")
@click.option("--batch-size", type=click.IntRange(1), metavar="N", help="Texts a forward pass.  [default: what fits]")
@click.option(
    "--seed", type=click.IntRange(0), metavar="N", default=0, show_default=True, help="Chooses the texts left out."
)
@click.option("--trust-remote-code", is_flag=True, help="Run Python code that the model's repository holds.")
@click.option("--replace", is_flag=True, help="Take the place of a concept of that name.")
@common(quiet=True)
@pass_settings
def concept_add(settings: Settings, /, **options: Any) -> None:
    """Make a direction of contrasting texts.

    At each hook, the direction along which the texts that have something differ from those that do not; and its AUROC
    in telling texts that were left out of the making. Where both sides have as many, line N goes with line N.
    """
    from featuredb.concepts.make import make

    request = concept_request(**options)
    with progress(settings) as report:
        settings.resumable = False  # it is quickly begun anew, and nothing is kept before the end
        made = None
        if request.model and not Path(settings.db).expanduser().exists():
            made = make(None, request, report)  # before a store is made: a mistyped name should leave nothing behind
        with open_store(settings, create=made is not None) as db:
            row = db.concepts.add(made or request, report)
    show_concepts(settings, [row])


@concept.command(
    "import",
    epilog=example(
        "featuredb concept import happy.gguf", "featuredb concept import evil.pt --rows-are hidden-states --name evil"
    ),
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", help="What to call it.  [default: the file's name]")
@click.option("--hook", help="Where the vector belongs, if the file does not say; else the only one taken.")
@click.option("--layer", type=click.IntRange(0), metavar="N", help="The same, for what layer N gives.")
@click.option("--format", type=click.Choice(READ_FORMATS), help="[default: by the file's ending]")
@click.option(
    "--rows-are", type=click.Choice(ROWS_ARE), help="What row N is; for numbers in names too, there blocks by default."
)
@click.option("--row", type=click.IntRange(0), metavar="N", help="Which row to take, where rows are concepts.")
@click.option("--model", metavar="NAME", help="The store's model it was made with; width and layers are checked.")
@click.option("--replace", is_flag=True, help="Take the place of a concept of that name.")
@common()
@pass_settings
def concept_import(settings: Settings, /, **options: Any) -> None:
    """Take directions from a file.

    It may be npy, npz, safetensors, PyTorch or gguf; nothing in it is run. The card says how its layers were counted.
    """
    from featuredb.concepts.imports import ImportRequest

    request = ImportRequest(path=options.pop("file"), **options)
    with open_store(settings) as db:
        show_concepts(settings, [db.concepts.import_file(request)])


@concept.command("export", epilog=example("featuredb concept export capitals --out capitals.gguf --skip"))
@click.argument("name")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The file to write.")
@click.option("--format", type=click.Choice(WRITTEN_FORMATS), help="[default: by the file's ending]")
@click.option("--hook", help="Only the direction at this hook.")
@click.option("--skip", is_flag=True, help="Leave out hooks that gguf has no place for.")
@click.option("--force", is_flag=True, help="Replace a file that is there.")
@common()
@pass_settings
def concept_export(settings: Settings, /, name: str, out: Path, **options: Any) -> None:
    """Write a concept's directions to a file.

    gguf is what llama.cpp and repeng read, and has room for what blocks from 1 up give; the others hold any hook.
    """
    with open_store(settings) as db:
        done = db.concepts.export(name, out, **options)
    hooks, skipped = (list(hooks) if settings.json else hooks_text(hooks) for hooks in (done.hooks, done.skipped))
    show_rows(settings, [{"concept": name, "file": str(done.path), "hooks": hooks, "skipped": skipped}])


@concept.command(
    "combine",
    epilog=example(
        'featuredb concept combine calm "happy - 0.5*unit(excited)"',
        "featuredb concept combine rest 'orth(`all-caps`, shouting)'",
    ),
)
@click.argument("name")
@click.argument("expression")
@click.option("--replace", is_flag=True, help="Take the place of a concept of that name.")
@common()
@pass_settings
def concept_combine(settings: Settings, name: str, expression: str, replace: bool) -> None:
    """Make a concept of others: + - * /, unit(a), orth(a, b).

    Names may hold dashes, so a minus has spaces around it; a name may stand in `backticks`, and an expression that
    begins with a minus comes after --. unit(a) is a of length 1, orth(a, b) is a without its part along b. The result
    stands at the hooks that all of them have.
    """
    with open_store(settings) as db:
        show_concepts(settings, [db.concepts.combine(name, expression, replace=replace)])


@concept.command("ls", epilog=example("featuredb concept ls"))
@common()
@pass_settings
def concept_ls(settings: Settings) -> None:
    """List the concepts.

    Each with the AUROC of its best hook, on texts left out of the making.
    """
    with open_store(settings) as db:
        rows = db.concepts.ls()
    if settings.json:
        show_rows(settings, rows)
        return
    show_rows(settings, map(listed, rows), columns=COLUMNS, nothing=f"no concepts in {settings.db}")


@concept.command("show", epilog=example("featuredb concept show capitals"))
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@common()
@pass_settings
def concept_show(settings: Settings, names: tuple[str, ...]) -> None:
    """Show how a concept was made and how well it does."""
    with open_store(settings) as db:
        show_concepts(settings, [db.concepts.get(name) for name in names])


@concept.command("rm", epilog=example("featuredb concept rm capitals --yes"))
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask first.")
@common()
@pass_settings
def concept_rm(settings: Settings, name: str, yes: bool) -> None:
    """Remove a concept, its directions and texts."""
    with open_store(settings) as db:
        db.concepts.get(name)
        if not yes and not settings.json and sys.stdin.isatty():
            click.confirm(f"remove the concept {name!r} from {settings.db}?", abort=True, err=True)
        db.concepts.rm(name)
    show_rows(settings, [{"removed": name}])


def concept_request(
    *, device: str, dtype: str, batch_size: int | None, trust_remote_code: bool, layers: str | None, **options: Any
) -> ConceptRequest:
    """What the options of `concept add` ask for. Raises BadInput for values that cannot be."""
    from featuredb.concepts.request import ConceptRequest, Running

    running = Running(device, dtype, batch_size, trust_remote_code)
    return ConceptRequest(running=running, layers=parse_layers(layers) if layers else (), **options)


def listed(row: ConceptRow) -> dict[str, Any]:
    """A concept as a list of them shows it."""
    texts = f"{row.n_positive} + {row.n_negative}" if row.n_positive else "-"
    auroc = None if row.auroc is None else round(row.auroc, 3)
    return row.row() | {"hooks": hooks_text(row.hooks), "texts": texts, "auroc": auroc}


def hooks_text(hooks: tuple[str, ...]) -> str:
    """The hooks by name where they are few, else how many."""
    return ", ".join(hooks) or "-" if len(hooks) <= MOST_HOOKS else f"{len(hooks)} hooks"
