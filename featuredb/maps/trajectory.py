"""The path of texts through a model: their residual stream after every layer, seen in two or three dimensions.

1. A text's state at `embed` and after each block, at its last token or as the mean of its tokens.
2. Each state to unit length, unless it is wanted raw: norms grow by an order of magnitude through the layers, and the
   first component would show nothing else.
3. A path of several texts, as each side of a concept is, goes through the mean of their states.
4. The first principal components of all points of all paths together, by a singular value decomposition; each
   component's sign is the one that makes its largest coordinate positive.

Rule: states in, points out. Texts become states in `featuredb.concepts.states` alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from featuredb.concepts.catalog import find_concept
from featuredb.concepts.states import states
from featuredb.errors import BadInput
from featuredb.hooknames import layer_of
from featuredb.maps.points import TrajectoryPoint
from featuredb.progress import ProgressReport, silent
from featuredb.store.store import Store

if TYPE_CHECKING:
    from featuredb.model import Model
    from featuredb.search.activate import Activator

Matrix = NDArray[np.float64]

LONGEST_NAME = 48


@dataclass(frozen=True, slots=True)
class TrajectoryRequest:
    """Which paths. Checked when made."""

    what: tuple[str, ...]
    """Names of concepts with texts, or texts; a name that the store has is a concept's."""
    model: str | None = None
    """A model's name in the store, a folder or a Hub id; None takes the concepts', or the store's only one."""
    token: Literal["last", "mean"] | None = None
    """Where a text is read; None takes what the concept was made with, where that is one of the two, else "last"."""
    components: int = 2
    raw: bool = False
    """Leave states as long as they are."""

    def __post_init__(self) -> None:
        if not self.what:
            raise BadInput("there is no text", hint="give a concept's name, or some words to run")
        if self.components not in (2, 3):
            raise BadInput(f"cannot show {self.components} components", hint="2 or 3")
        if self.token not in (None, "last", "mean"):
            raise BadInput(f"no choice of tokens {self.token!r}", hint="last or mean")


@dataclass(frozen=True, slots=True)
class _Path:
    """Texts that go one way together."""

    name: str
    texts: tuple[str, ...]
    chat: bool = False
    token: str | None = None
    model: str | None = None
    """Where the concept's model was loaded from."""
    fingerprint: str | None = None


def read_trajectory(
    store: Store, activator: Activator, request: TrajectoryRequest, progress: ProgressReport = silent
) -> list[TrajectoryPoint]:
    """The points of each path from `embed` to the last layer, path after path in the order they were asked for.

    Raises BadInput for a concept without texts, for concepts of different models or ways of reading and for texts
    without tokens, NotFound for a model that is not there.
    """
    with store.reading() as session:
        paths = [path for what in dict.fromkeys(request.what) for path in _paths(session, what)]
    chat, token = _reading(request, paths)
    model = _model(activator, request, paths)
    hooks = ["embed", *(f"layers.{layer}.resid_post" for layer in range(model.n_layers))]
    texts = [text for path in paths for text in path.texts]
    found = states(model, texts, hooks, token=token, chat=chat, progress=progress)
    # (n_texts, n_hooks, d)
    vectors = np.stack([np.concatenate(found[hook]) for hook in hooks], axis=1).astype(np.float64)
    norms = np.linalg.norm(vectors, axis=2)
    if not request.raw:
        vectors = vectors / np.maximum(norms, np.finfo(np.float64).tiny)[:, :, None]
    owner = np.repeat(np.arange(len(paths)), [len(path.texts) for path in paths])
    means = np.stack([vectors[owner == number].mean(axis=0) for number in range(len(paths))])
    at, explained = principal(means.reshape(-1, vectors.shape[2]), request.components)
    at = at.reshape(len(paths), len(hooks), -1)
    return [
        TrajectoryPoint(
            path=path.name,
            model=model.name,
            n_texts=len(path.texts),
            hook=hook,
            layer=layer_of(hook),
            x=float(at[number, step, 0]),
            y=float(at[number, step, 1]),
            z=float(at[number, step, 2]) if request.components == 3 else None,
            norm=float(norms[owner == number, step].mean()),
            explained=explained,
        )
        for number, path in enumerate(paths)
        for step, hook in enumerate(hooks)
    ]


def principal(points: Matrix, n_components: int) -> tuple[Matrix, tuple[float, ...]]:
    """Coordinates (n, n_components) of points (n, d) along their principal components, and each one's share of the
    variance. Components that n points have not are 0.
    """
    centred = points - points.mean(axis=0)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    at = np.zeros((len(points), n_components))
    n = min(n_components, len(sizes))
    at[:, :n] = left[:, :n] * sizes[:n]
    largest = at[np.abs(at).argmax(axis=0), np.arange(n_components)]
    shares = np.zeros(n_components)
    whole = float((sizes**2).sum())
    if whole > 0:
        shares[:n] = sizes[:n] ** 2 / whole
    return at * np.where(largest < 0, -1.0, 1.0), tuple(shares.tolist())


def _model(activator: Activator, request: TrajectoryRequest, paths: Sequence[_Path]) -> Model:
    """The model that was named, else the one that the concepts were made with, else the store's only one."""
    if request.model is not None:
        return activator.named_model(request.model)
    made_with = {(path.fingerprint, path.model) for path in paths if path.model is not None}
    if len({fingerprint for fingerprint, _ in made_with}) > 1:
        raise BadInput("the concepts are of different models", hint="say which to run with --model")
    fingerprint, source = min(made_with, default=(None, None), key=str)
    model = activator.named_model(source, fingerprint)
    if fingerprint not in (None, model.fingerprint):
        raise BadInput(
            f"the model at {model.source} is not the one that the concept was made with",
            hint="say which to run with --model",
        )
    return model


def _paths(session: Session, what: str) -> list[_Path]:
    if not what.strip():
        raise BadInput("the text is empty", hint="give some words to run")
    row = find_concept(session, what)
    if row is None:
        name = " ".join(what.split())
        return [_Path(name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…", (what,))]
    sides = {
        side: tuple(text.text for text in row.texts if text.positive is positive)
        for side, positive in (("positive", True), ("negative", False))
    }
    if not any(sides.values()):
        raise BadInput(
            f"the concept {what!r} has no texts, so there is no path", hint="give a text, or a concept made of texts"
        )
    return [
        _Path(
            f"{row.name}, {side}",
            texts,
            bool(row.settings.get("chat", False)),
            row.settings.get("token"),
            row.settings.get("source") or row.model_name,
            row.model_fingerprint,
        )
        for side, texts in sides.items()
        if texts
    ]


def _reading(request: TrajectoryRequest, paths: Sequence[_Path]) -> tuple[bool, Literal["last", "mean"]]:
    """Whether texts go through the chat template, and where they are read: as the concepts were."""
    concepts = [path for path in paths if path.token is not None]
    if len({path.chat for path in concepts}) > 1:
        raise BadInput("one concept was made with a chat template and another without", hint="show them one by one")
    chat = any(path.chat for path in concepts)
    if request.token is not None:
        return chat, request.token
    said = {path.token for path in concepts}
    return chat, "mean" if said & {"mean", "all"} and "last" not in said else "last"
