"""`featuredb ingest`: what fills a store. Options become one request; the engine does the rest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from featuredb.cli.common import Count, Settings, common, example, open_store, pass_settings
from featuredb.cli.output import note, show_rows
from featuredb.cli.progress import progress
from featuredb.training import ARCHITECTURES

if TYPE_CHECKING:
    from featuredb.capture.request import CorpusRequest, IngestRequest, ModelRequest, TrainRequest

DTYPES = ("auto", "float32", "bfloat16", "float16")


@click.group()
def ingest() -> None:
    """Take in a model's features, a new dictionary, or labels."""


@ingest.command(
    "model",
    epilog=example(
        "featuredb ingest model gpt2 --dictionary saelens:gpt2-small-res-jb/blocks.8.hook_resid_pre \\",
        "      --corpus huggingface:NeelNanda/pile-10k --tokens 1M",
    ),
)
@click.argument("model", metavar="MODEL")
@click.option(
    "--dictionary",
    "dictionaries",
    metavar="SPEC",
    multiple=True,
    required=True,
    help="A folder or PLUGIN:SOURCE; repeat.",
)
@click.option("--corpus", metavar="SPEC", required=True, help="A file or PLUGIN:SOURCE, such as jsonl:texts.jsonl.")
@click.option("--tokens", "n_tokens", type=Count(), metavar="N", help="Tokens to run.  [default: the whole corpus]")
@click.option("--hook", help="Where the dictionaries read.  [default: what they say]")
@click.option(
    "--context-length", type=click.IntRange(2), metavar="N", help="Tokens a context.  [default: as they were trained]"
)
@click.option("--packing", type=click.Choice(["concat", "document"]), default="concat", show_default=True)
@click.option(
    "--batch-size", type=click.IntRange(1), metavar="N", help="Contexts a forward pass.  [default: what fits]"
)
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, ...")
@click.option("--dtype", type=click.Choice(DTYPES), default="auto", show_default=True)
@click.option("--seed", type=int, metavar="N", default=0, show_default=True, help="Chooses the samples and the panel.")
@click.option(
    "--examples",
    "n_examples",
    type=click.IntRange(0),
    metavar="N",
    default=24,
    show_default=True,
    help="Top contexts kept.",
)
@click.option(
    "--samples",
    "n_samples",
    type=click.IntRange(0),
    metavar="N",
    default=64,
    show_default=True,
    help="Random ones kept.",
)
@click.option(
    "--panel",
    "n_panel",
    type=click.IntRange(0),
    metavar="N",
    default=2048,
    show_default=True,
    help="Contexts kept whole.",
)
@click.option("--column", help="The corpus's column or field of text.  [default: text]")
@click.option("--split", help="The data set's split.  [default: train]")
@click.option("--skip-bad-rows", is_flag=True, help="Count rows that cannot be read instead of stopping at the first.")
@click.option("--trust-remote-code", is_flag=True, help="Run Python code that the model's repository holds.")
@click.option("--name", help="The dictionary's name in the store.  [default: its own]")
@click.option("--fresh", is_flag=True, help="Begin anew, where an interrupted run would go on.")
@common(quiet=True)
@pass_settings
def ingest_model(settings: Settings, /, **options: Any) -> None:
    """Run a corpus through a model and keep what every feature does."""
    from featuredb.capture.ingest import prepare

    request = ingest_request(**options)
    with progress(settings) as report:
        plan = prepare(request)  # before a store is made: a mistyped name should leave nothing behind
        with open_store(settings, create=True) as db:
            run = db.ingest(plan, report)
    for remark in run.notes:
        note(settings, f"note: {remark}")
    show_rows(settings, [run], columns=("run", "model", "corpus", "dictionaries", "n_tokens", "n_contexts"))


@ingest.command(
    "train",
    epilog=example(
        "featuredb ingest train gpt2 --corpus jsonl:texts.jsonl --hook layers.8.resid_post \\",
        "      --features 16384 --k 32 --tokens 100M --out sae",
    ),
)
@click.argument("model", metavar="MODEL")
@click.option("--corpus", metavar="SPEC", required=True, help="A file or PLUGIN:SOURCE.")
@click.option("--hook", required=True, help="Where the dictionary reads, such as layers.8.resid_post.")
@click.option("--features", "n_features", type=Count(), metavar="N", required=True, help="How many features.")
@click.option("--tokens", "n_tokens", type=Count(), metavar="N", required=True, help="Tokens to train on.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The folder the dictionary is written to.")
@click.option("--architecture", metavar="NAME", default="batchtopk", show_default=True, help=", ".join(ARCHITECTURES))
@click.option(
    "--k",
    type=click.IntRange(1),
    metavar="N",
    default=32,
    show_default=True,
    help="Features that fire a token, for top-k.",
)
@click.option(
    "--l1",
    type=click.FloatRange(0),
    metavar="N",
    default=5.0,
    show_default=True,
    help="Sparsity penalty, for the others.",
)
@click.option(
    "--lr", type=click.FloatRange(0, min_open=True), metavar="N", default=3e-4, show_default=True, help="Learning rate."
)
@click.option(
    "--batch-size", type=click.IntRange(1), metavar="N", default=4096, show_default=True, help="Tokens a training step."
)
@click.option(
    "--context-length",
    type=click.IntRange(2),
    metavar="N",
    help="Tokens a context.  [default: the model's, at most 1024]",
)
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, ...")
@click.option("--dtype", type=click.Choice(DTYPES), default="auto", show_default=True, help="Of the model.")
@click.option("--seed", type=int, metavar="N", default=0, show_default=True)
@click.option("--column", help="The corpus's column or field of text.  [default: text]")
@click.option("--split", help="The data set's split.  [default: train]")
@click.option("--skip-bad-rows", is_flag=True, help="Count rows that cannot be read instead of stopping at the first.")
@click.option("--trust-remote-code", is_flag=True, help="Run Python code that the model's repository holds.")
@common(db=False, quiet=True)
@pass_settings
def ingest_train(settings: Settings, /, **options: Any) -> None:
    """Train a dictionary on a model's activations, ready for `ingest model`."""
    request = train_request(**options)
    from featuredb.capture.train import train

    with progress(settings) as report:
        folder = train(request, report)
    show_rows(settings, [{"dictionary": folder.name, "path": str(folder)}])


@ingest.command(
    "labels",
    epilog=example(
        "featuredb ingest labels labels.csv",
        "featuredb ingest labels neuronpedia:v1/gpt2-small/9-res-jb --dictionary gpt2-9",
    ),
)
@click.argument("source", metavar="SPEC")
@click.option("--dictionary", metavar="NAME", help="Whose they are.  [default: what they say, or one made of them]")
@common(quiet=True)
@pass_settings
def ingest_labels(settings: Settings, source: str, dictionary: str | None) -> None:
    """Add the labels of a file, or what others published, all of them or none.

    SPEC is a CSV or JSONL file of feature and text (note, author and score may be there), or READER:PATH or a path that
    a reader knows: neuronpedia, delphi, saedashboard, label-table.
    """
    with open_store(settings) as db, progress(settings) as report:
        settings.resumable = False
        row = db.ingest_labels(source, dictionary=dictionary, progress=report)
    for warning in row.warnings:
        note(settings, f"note: {warning}")
    show_rows(settings, [row], columns=("file", "dictionary", "labels", "known", "failed", "scores"))


def ingest_request(*, dictionaries: tuple[str, ...], **options: Any) -> IngestRequest:
    """What the options of `ingest model` ask for. Raises BadInput for values that cannot be."""
    from featuredb.capture.request import CaptureSettings, IngestRequest

    return IngestRequest(
        model=_model(options, batch_size=options["batch_size"]),
        dictionaries=dictionaries,
        corpus=_corpus(options, packing=options["packing"]),
        settings=CaptureSettings(**{name: options[name] for name in ("n_examples", "n_samples", "n_panel", "seed")}),
        **{name: options[name] for name in ("hook", "name", "fresh")},
    )


def train_request(**options: Any) -> TrainRequest:
    """What the options of `ingest train` ask for. Raises BadInput for values that cannot be."""
    from featuredb.capture.request import TrainRequest

    own = ("hook", "n_features", "out", "architecture", "k", "l1", "lr", "batch_size", "seed")
    return TrainRequest(model=_model(options), corpus=_corpus(options), **{name: options[name] for name in own})


def _model(options: dict[str, Any], **more: Any) -> ModelRequest:
    from featuredb.capture.request import ModelRequest

    names = ("device", "dtype", "trust_remote_code")
    return ModelRequest(options["model"], **{name: options[name] for name in names}, **more)


def _corpus(options: dict[str, Any], **more: Any) -> CorpusRequest:
    from featuredb.capture.request import CorpusRequest

    names = ("n_tokens", "context_length", "column", "split", "skip_bad_rows")
    return CorpusRequest(options["corpus"], **{name: options[name] for name in names}, **more)
