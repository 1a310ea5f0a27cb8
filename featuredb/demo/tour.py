"""One run of the shipped model and dictionary over Python's own text, and a short look at what it left.

Nothing here is the demo's alone: every step is a call that any user's Python can make.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from featuredb.capture.request import CaptureSettings, CorpusRequest, IngestRequest, ModelRequest, TrainRequest
from featuredb.database import FeatureDB
from featuredb.database import open as open_store
from featuredb.errors import NotFound
from featuredb.progress import ProgressReport
from featuredb.records import FiredFeature, Tour

MODEL = "featuredb-demo"
"""The model's name, which is its folder's."""
SHIPPED, TRAINED = "demo", "demo-trained"
"""Names of the dictionaries in the store."""
N_TOKENS = 500_000
N_CARDS = 2
TEXT = "if not isinstance(name, str): raise TypeError('name must be a string, not %r' % type(name).__name__)"


def run_demo(path: Path, *, train: bool, progress: ProgressReport, n_tokens: int = N_TOKENS) -> Tour:
    """Ingests the shipped model and dictionary into the store at `path`, made where there is none, and looks around.

    train: take a dictionary trained here and now instead, on the model's activations, kept in a folder beside the
    store. A finished run is not run again, and an interrupted one, or an interrupted training, goes on.
    Raises NotFound where the model is not installed, and whatever `FeatureDB.ingest` raises.
    """
    model = model_folder()
    name = TRAINED if train else SHIPPED
    with open_store(path, create=True) as db:
        dictionary = db.train(training(model, _beside(path)), progress) if train else dictionary_folder()
        request = IngestRequest(
            ModelRequest(str(model)),
            (f"saelens:{dictionary}",),
            CorpusRequest("python-docs", n_tokens),
            CaptureSettings(n_panel=512),
            name=name,
        )
        run = db.ingest(request, progress)
        fired = db.activate(TEXT, [name])
        cards = tuple(db.feature(one.feature) for one in _telling(db, fired))
    return Tour(run=run, text=TEXT, fired=tuple(fired), cards=cards)


def training(model: Path, out: Path) -> TrainRequest:
    """How the shipped dictionary was trained, on two CPU cores in under ten minutes."""
    return TrainRequest(
        ModelRequest(str(model), device="cpu"),
        CorpusRequest("python-docs:tests", 3_000_000),
        hook="layers.2.resid_post",
        n_features=2048,
        out=out,
        architecture="batchtopk",
        k=32,
        lr=1e-3,
        batch_size=1024,
        seed=0,
    )


def model_folder() -> Path:
    """The shipped model: config, tokenizer, weights and card. Raises NotFound where it was not installed."""
    return _shipped(MODEL, "model.safetensors")


def dictionary_folder() -> Path:
    """The shipped dictionary, as sae-lens writes it, and its card. Raises NotFound where it was not installed."""
    return _shipped("dictionary", "sae_weights.safetensors")


def _shipped(name: str, holds: str) -> Path:
    folder = Path(str(files("featuredb.demo"))) / name
    if not (folder / holds).is_file():
        raise NotFound(f"{folder} has no {holds}", hint="install featuredb anew; its wheel carries the demo's files")
    return folder


def _beside(store: Path) -> Path:
    return store.with_name(f"{store.stem}-trained")


def _telling(db: FeatureDB, fired: Sequence[FiredFeature]) -> list[FiredFeature]:
    """The features worth a card: the best-scored ones, no two with their peak on one token."""
    chosen: dict[int, FiredFeature] = {}
    for one in fired:
        chosen.setdefault(one.position, one)
    return list(chosen.values())[:N_CARDS]
