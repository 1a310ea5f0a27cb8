"""A feature's card: its row, its examples with their text, its labels and its nearest neighbours, put together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.orm import Session

from featuredb.audit.answers import findings_of
from featuredb.label_records import LabelRow
from featuredb.labels.table import labels_of, scores_of, shown_label, shown_labels
from featuredb.records import ExampleRow, FeatureCard, HistogramBin, SimilarFeature, TokenWeight
from featuredb.search.scope import figure_flags
from featuredb.store.catalog import LabelRow as CatalogLabel
from featuredb.store.layout import LOWEST_EXPONENT, RADIUS
from featuredb.store.published import PUBLISHED
from featuredb.store.refs import FeatureRef, get_feature
from featuredb.store.segments import SegmentReader, SegmentRef
from featuredb.store.store import Store
from featuredb.store.vectors import Rows, nearest

N_SIMILAR = 5


def read_card(store: Store, reader: SegmentReader, ref: FeatureRef, n_examples: int) -> FeatureCard:
    """Everything the store knows of a feature, with up to n_examples of each kind. Raises NotFound."""
    with store.reading() as session:
        dictionary, index = get_feature(session, ref)
        segment = SegmentRef.newest(session, dictionary)
        labels = labels_of(session, ref)
        scores = scores_of(session, labels)
        shown = shown_label(labels)
        similar = () if dictionary.kind == PUBLISHED else _similar(session, store, ref, dictionary.id)
        findings = findings_of(session, dictionary, index)
        hook, model = dictionary.hook, dictionary.model.name
    row = reader.feature(segment, index)
    texts = reader.tokens(segment) if n_examples or row["promoted"] or row["suppressed"] else []
    return FeatureCard(
        dictionary=ref.dictionary,
        index=index,
        label=None if shown is None else shown.text,
        n_fires=row["n_fires"],
        density=row["density"],
        max_activation=row["max"],
        mean_activation=row["mean"],
        histogram=_histogram(row["histogram"]),
        promoted=_weights(texts, row["promoted"], row["promoted_values"]),
        suppressed=_weights(texts, row["suppressed"], row["suppressed_values"]),
        labels=tuple(label_row(ref, label, scores.get(label.id, ())) for label in labels),
        flags=tuple(dict.fromkeys([*_figure_flags(row), *(findings[0].flags if findings else ())])),
        findings=findings,
        similar=similar,
        examples=_examples(reader, segment, index, n_examples),
        n_tokens=segment.n_tokens or None,
        hook=hook,
        model=model,
    )


def _figure_flags(row: Mapping[str, Any]) -> tuple[str, ...]:
    known = row["n_fires"] is not None and row["density"] is not None
    return figure_flags(row["n_fires"], row["density"]) if known else ()


def _histogram(counts: Sequence[int]) -> tuple[HistogramBin, ...]:
    """Bins from the first to the last that holds anything."""
    filled = [place for place, count in enumerate(counts) if count]
    if not filled:
        return ()
    return tuple(
        HistogramBin(low=2.0 ** (LOWEST_EXPONENT + i), high=2.0 ** (LOWEST_EXPONENT + i + 1), count=counts[i])
        for i in range(filled[0], filled[-1] + 1)
    )


def _weights(texts: Sequence[str], tokens: Sequence[int], values: Sequence[float]) -> tuple[TokenWeight, ...]:
    return tuple(TokenWeight(token=texts[token], value=value) for token, value in zip(tokens, values, strict=True))


def _examples(reader: SegmentReader, segment: SegmentRef, index: int, most: int) -> tuple[ExampleRow, ...]:
    return example_rows(reader, segment, reader.examples(segment, index, most)) if most else ()


def example_rows(
    reader: SegmentReader, segment: SegmentRef, rows: Sequence[Mapping[str, Any]]
) -> tuple[ExampleRow, ...]:
    """Examples as answers. rows: as `SegmentReader.examples` gives them; `shown` is the activation at the place, where
    that is not the largest of its window."""
    contexts = reader.contexts(segment, [row["context"] for row in rows])
    texts = reader.tokens(segment)
    pieces = [_piece(contexts[row["context"]], row["position"]) for row in rows]
    names = reader.documents(segment, [document for _, _, document in pieces if document is not None])
    examples = []
    for row, (low, high, document) in zip(rows, pieces, strict=True):
        # No further than the document: what stands beside it in the row is another text.
        start, end = max(low, row["position"] - RADIUS), min(high, row["position"] + RADIUS + 1)
        activations = [0.0] * (end - start)
        for place, share in enumerate(row["window"], row["window_start"] - start):
            if 0 <= place < len(activations):
                activations[place] = share / 255 * row["activation"]
        tokens = contexts[row["context"]]["tokens"][start:end]
        examples.append(
            ExampleRow(
                kind=row["kind"],
                rank=row["rank"],
                context=row["context"],
                position=row["position"],
                activation=row.get("shown", row["activation"]),
                tokens=tuple(texts[token] for token in tokens),
                activations=tuple(activations),
                window_start=start,
                document=None if document is None else names.get(document),
            )
        )
    return tuple(examples)


def _piece(context: Mapping[str, Any], position: int) -> tuple[int, int, int | None]:
    """Start, end and document of the piece of a context that holds a position."""
    for start, end, document in zip(
        context["piece_starts"], context["piece_ends"], context["piece_documents"], strict=True
    ):
        if start <= position < end:
            return start, end, document
    return 0, len(context["tokens"]), None


def _similar(session: Session, store: Store, ref: FeatureRef, dictionary_id: int) -> tuple[SimilarFeature, ...]:
    """The features of the same dictionary whose decoder rows point most nearly the same way."""
    rows = Rows(store.paths.weights(ref.dictionary), "w_dec")
    direction = rows.take([ref.index])[0]
    if not direction.any():
        return ()
    found = nearest(store.paths.decoder_index(ref.dictionary), rows, direction, N_SIMILAR, skip=(ref.index,))
    labels = shown_labels(session, dictionary_id, [neighbour.index for neighbour in found])
    return tuple(
        SimilarFeature(
            dictionary=ref.dictionary,
            index=neighbour.index,
            label=labels.get(neighbour.index),
            cosine_decoder=neighbour.cosine,
        )
        for neighbour in found
    )


def label_row(ref: FeatureRef, label: CatalogLabel, scores: tuple[dict[str, Any], ...] = ()) -> LabelRow:
    """A label as an answer, with its scores as `scores_of` gives them."""
    return LabelRow(
        feature=str(ref),
        text=label.text or "",
        labeler=label.labeler,
        status=label.status,
        scores=scores,
        author=label.author,
        note=label.note,
        provenance=label.provenance,
        created_at=label.created_at,
        id=label.id,
        predicate=label.predicate,
    )
