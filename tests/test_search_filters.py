"""Filters: what cannot be asked for, and any combination of them against looking at every feature by itself."""

from __future__ import annotations

import random
from collections.abc import Iterator

import duckdb
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from featuredb.cli.search import FLAGS as CLI_FLAGS
from featuredb.cli.search import WAYS as CLI_WAYS
from featuredb.errors import BadInput, NotFound
from featuredb.labels.table import FAILED, labels_of, shown_label
from featuredb.search.filters import FLAGS, FeatureFilter, Figures, flag_masks, read_scope
from featuredb.search.scope import figure_flags
from featuredb.search.search import WAYS
from featuredb.store import FeatureRef, Store
from featuredb.store.catalog import DictionaryRow, LabelRow, ScoreRow
from featuredb.store.segments import SegmentReader
from tests.small_store import N_FEATURES, RUN, build

LAYERS = {"alpha": 0, "beta": 1}
FIGURES: dict[str, list[tuple[int | None, float | None]]] = {
    "alpha": [(0, 0.0), (10, 0.01), (199, 0.199), (200, 0.2), (1_000, 0.5), (500, 0.05), (200, 0.1), (300, 0.1001)],
    "beta": [(0, 0.0), (1, 0.001), (None, None), (None, 0.3), (250, 0.02)],
}
"""n_fires and density of each feature; not all agree with any run, which is nothing to a filter."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with build(tmp_path_factory.mktemp("filters") / "small.fdb") as small:
        for name, figures in FIGURES.items():
            with duckdb.connect(str(small.paths.segment(RUN, name))) as connection:
                connection.executemany(
                    "update feature set n_fires = ?, density = ? where feature = ?",
                    [[n_fires, density, index] for index, (n_fires, density) in enumerate(figures)],
                )
        _label(small)
        yield small


def _label(store: Store) -> None:
    """Some features without a label, some with several, proposed, verified or failed, with scores or without."""
    draw = random.Random(5)
    with store.session() as session:
        for name, n in N_FEATURES.items():
            owner = session.scalars(select(DictionaryRow).where(DictionaryRow.name == name)).one()
            for index in range(n):
                for _ in range(draw.choice([0, 1, 1, 2, 3])):
                    status = draw.choice(["proposed", "verified", FAILED])
                    said = None if status == FAILED else f"label {draw.randrange(100)}"
                    label = LabelRow(
                        dictionary_id=owner.id,
                        feature_index=index,
                        text=said,
                        labeler="x",
                        status=status,
                        provenance={},
                    )
                    session.add(label)
                    session.flush()
                    for _ in range(draw.choice([0, 1, 2])):
                        value = draw.choice([None, 0.2, 0.5, 0.8])
                        session.add(ScoreRow(label_id=label.id, scorer="s", value=value))


def passes(store: Store, wanted: FeatureFilter, ref: FeatureRef) -> bool:
    """Whether one feature passes, in plain Python."""
    n_fires, density = FIGURES[ref.dictionary][ref.index]
    flags = () if n_fires is None else figure_flags(n_fires, density or 0.0)
    if n_fires is None and density is not None and density > 0.1:
        flags = ("dense",)
    with store.reading() as session:
        shown = shown_label(labels_of(session, ref))
        of_shown = select(ScoreRow.value).where(ScoreRow.label_id == (None if shown is None else shown.id))
        values = [value for value in session.scalars(of_shown) if value is not None]
    low, high = wanted.density
    return (
        (wanted.dictionaries is None or ref.dictionary in wanted.dictionaries)
        and (wanted.layers is None or LAYERS[ref.dictionary] in wanted.layers)
        and ((low, high) == (0, 1) or (density is not None and low <= density <= high))
        and set(wanted.flags) <= set(flags)
        and not set(wanted.without) & set(flags)
        and (wanted.labelled is None or wanted.labelled == (shown is not None))
        and (wanted.min_score is None or any(value >= wanted.min_score for value in values))
        and (wanted.all_features or not (set(flags) & {"dead", "under-sampled"}) - set(wanted.flags))
    )


@st.composite
def filters(draw: st.DrawFn) -> FeatureFilter:
    def maybe(strategy: st.SearchStrategy[object]) -> object:
        return draw(st.none() | strategy)

    wanted = set(draw(st.lists(st.sampled_from(FLAGS), max_size=2)))
    without = set(draw(st.lists(st.sampled_from(FLAGS), max_size=2))) - wanted
    edges = sorted(draw(st.tuples(*[st.sampled_from([0.0, 0.01, 0.1, 0.2, 1.0])] * 2)))
    labelled = maybe(st.booleans())
    return FeatureFilter(
        dictionaries=maybe(st.sampled_from([("alpha",), ("beta",), ("alpha", "beta")])),  # type: ignore[arg-type]
        density=(edges[0], edges[1]),
        flags=tuple(wanted),
        without=tuple(without),
        labelled=labelled,  # type: ignore[arg-type]
        min_score=None if labelled is False else maybe(st.sampled_from([0.0, 0.3, 0.8, 0.9])),  # type: ignore[arg-type]
        all_features=draw(st.booleans()),
    )


@given(wanted=filters(), layers=st.none() | st.sampled_from([(0,), (1,), (0, 1)]))
def test_any_combination_lets_pass_what_passes_every_one(
    store: Store, wanted: FeatureFilter, layers: tuple[int, ...] | None
) -> None:
    chosen = [name for name in N_FEATURES if wanted.dictionaries is None or name in wanted.dictionaries]
    if layers is None or any(LAYERS[name] in layers for name in chosen):
        wanted = FeatureFilter(
            wanted.dictionaries,
            layers,
            wanted.density,
            wanted.flags,
            wanted.without,
            wanted.labelled,
            wanted.min_score,
            wanted.all_features,
        )
    reader = SegmentReader(store)
    with store.reading() as session:
        scope = read_scope(session, Figures(reader), wanted)
        owners = {row.name: row.id for row in session.scalars(select(DictionaryRow))}
    reader.close()
    refs = [FeatureRef(name, index) for name, n in N_FEATURES.items() for index in range(n)]
    expected = [passes(store, wanted, ref) for ref in refs]
    asked = np.array([(owners[ref.dictionary], ref.index) for ref in refs])
    assert scope.allows(asked[:, 0], asked[:, 1]).tolist() == expected
    everything = FeatureFilter(**{name: getattr(wanted, name) for name in wanted.__slots__} | {"all_features": True})
    assert scope.n_left_out == sum(passes(store, everything, ref) for ref in refs) - sum(expected)


@given(n_fires=st.integers(0, 1_000), density=st.floats(0, 1))
def test_flags_of_all_features_at_once_are_those_of_each(n_fires: int, density: float) -> None:
    masks = flag_masks(np.array([n_fires]), np.array([density]))
    assert tuple(flag for flag in FLAGS if masks[flag][0]) == figure_flags(n_fires, density)


def test_the_command_line_knows_the_same_flags_and_ways() -> None:
    assert (CLI_FLAGS, CLI_WAYS) == (FLAGS, WAYS)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"density": (0.5, 0.1)}, "no density lies from 0.5 to 0.1"),
        ({"density": (-0.1, 1.0)}, "no density lies from -0.1"),
        ({"density": (float("nan"), 1.0)}, "no density lies from nan"),
        ({"flags": ("dull",)}, "no flag is called 'dull'"),
        ({"flags": ("dead",), "without": ("dead",)}, "both dead and not dead"),
        ({"min_score": float("nan")}, "nan is no score"),
        ({"labelled": False, "min_score": 0.5}, "without a label has no score"),
        ({"layers": (-1,)}, "there is no layer -1"),
    ],
)
def test_what_no_feature_can_be_is_bad_input(fields: dict[str, object], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        FeatureFilter(**fields)  # type: ignore[arg-type]


def test_unknown_dictionaries_and_empty_layers_are_not_found(store: Store) -> None:
    reader = SegmentReader(store)
    with store.reading() as session:
        for wanted in (FeatureFilter(dictionaries=("gamma",)), FeatureFilter(layers=(7,))):
            with pytest.raises(NotFound):
                read_scope(session, Figures(reader), wanted)
    reader.close()


def test_a_filter_says_whether_it_asks_for_anything() -> None:
    assert not FeatureFilter().narrows
    assert not FeatureFilter(all_features=True).narrows
    assert FeatureFilter(labelled=False).narrows
    assert FeatureFilter(dictionaries=("alpha",)).narrows
