"""Contexts: the rows sae-lens would cut, and which token in them is whose."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featuredb.capture.contexts import Context, Ids, Packing, Piece, pack
from featuredb.corpus import Document
from featuredb.errors import BadInput

BOS, SEPARATOR, SPECIAL = 0, 1, 2

token_lists = st.lists(st.lists(st.integers(0, 9), max_size=12), max_size=8)
packings = st.builds(
    Packing,
    kind=st.sampled_from(["concat", "document"]),
    context_length=st.integers(2, 9),
    bos_id=st.sampled_from([None, BOS]),
    separator_id=st.sampled_from([None, BOS, SEPARATOR]),
)
quick = partial(settings, deadline=None, max_examples=150)


def encode(text: str) -> Ids:
    """Texts of these tests are token ids written out."""
    return np.array([int(word) for word in text.split()], dtype=np.int32)


def contexts(documents: Sequence[Sequence[int]], packing: Packing, max_tokens: int | None = None) -> list[Context]:
    corpus = [Document(f"d{i}", " ".join(map(str, tokens))) for i, tokens in enumerate(documents)]
    return list(pack(corpus, encode, packing, {SPECIAL}, max_tokens))


def never_counted(packing: Packing) -> set[int]:
    return {SPECIAL, *(token for token in (packing.bos_id, packing.separator_id) if token is not None)}


@quick()
@given(token_lists, packings)
def test_no_token_is_lost_or_doubled_and_offsets_go_on(documents: list[list[int]], packing: Packing) -> None:
    given_back: dict[int, list[int]] = {number: [] for number in range(len(documents))}
    for context in contexts(documents, packing):
        for piece in context.pieces:
            assert piece.offset == len(given_back[piece.document])
            assert piece.name == f"d{piece.document}"
            given_back[piece.document].extend(context.ids[piece.start : piece.end].tolist())
    assert list(given_back.values()) == documents


@quick()
@given(token_lists, packings)
def test_pieces_are_disjoint_and_only_openers_and_separators_lie_between(
    documents: list[list[int]], packing: Packing
) -> None:
    for context in contexts(documents, packing):
        owners = np.zeros(len(context.ids), dtype=int)
        for piece in context.pieces:
            assert piece.start < piece.end
            owners[piece.start : piece.end] += 1
        assert owners.max() == 1
        assert set(context.ids[owners == 0].tolist()) <= {packing.bos_id, packing.separator_id}
        assert [piece.document for piece in context.pieces] == sorted({piece.document for piece in context.pieces})


@quick()
@given(token_lists, packings)
def test_counted_is_false_exactly_at_specials(documents: list[list[int]], packing: Packing) -> None:
    for context in contexts(documents, packing):
        expected = [token not in never_counted(packing) for token in context.ids.tolist()]
        assert context.counted.tolist() == expected


@quick()
@given(token_lists, packings)
def test_rows_are_numbered_full_and_opened(documents: list[list[int]], packing: Packing) -> None:
    rows = contexts(documents, packing)
    assert [context.index for context in rows] == list(range(len(rows)))
    for context in rows:
        assert context.ids.dtype == np.int32
        assert context.counted.dtype == np.bool_
        assert len(context.ids) == len(context.counted) <= packing.context_length
        assert packing.bos_id is None or context.ids[0] == packing.bos_id
    if packing.kind == "concat":
        assert all(len(context.ids) == packing.context_length for context in rows[:-1])
    else:
        assert all(len(context.pieces) == 1 for context in rows)


@quick()
@given(token_lists, packings, st.integers(1, 60))
def test_max_tokens_is_exact_and_a_prefix(documents: list[list[int]], packing: Packing, max_tokens: int) -> None:
    whole = contexts(documents, packing)
    some = contexts(documents, packing, max_tokens)
    n_counted = sum(int(context.counted.sum()) for context in whole)
    assert sum(int(context.counted.sum()) for context in some) == min(max_tokens, n_counted)
    for context, full in zip(some, whole, strict=False):
        n = len(context.ids)
        assert context.ids.tolist() == full.ids[:n].tolist()
        assert all(piece.end <= n for piece in context.pieces)
    assert all(len(context.ids) == len(full.ids) for context, full in zip(some[:-1], whole, strict=False))


def test_reading_stops_when_max_tokens_are_given() -> None:
    def corpus() -> Iterator[Document]:
        yield Document("a", "5 6 7 8")
        raise AssertionError("read too far")

    rows = list(pack(corpus(), encode, Packing("concat", 4, None, None), (), 4))
    assert [context.ids.tolist() for context in rows] == [[5, 6, 7, 8]]


def test_concat_joins_documents_in_one_row() -> None:
    (row,) = contexts([[5, 6], [], [7]], Packing("concat", 9, BOS, SEPARATOR))
    assert row.ids.tolist() == [BOS, 5, 6, SEPARATOR, 7]
    assert row.counted.tolist() == [False, True, True, False, True]
    assert row.pieces == (Piece(1, 3, 0, "d0", 0), Piece(4, 5, 2, "d2", 0))


def test_document_packing_opens_a_row_for_each_and_goes_on_in_more() -> None:
    rows = contexts([[5, 6, 7], [8]], Packing("document", 3, BOS, SEPARATOR))
    assert [row.ids.tolist() for row in rows] == [[BOS, 5, 6], [BOS, 7], [BOS, 8]]
    assert [row.pieces[0].offset for row in rows] == [0, 2, 0]


def test_special_token_written_in_a_document_does_not_count() -> None:
    (row,) = contexts([[5, SPECIAL, 6]], Packing("document", 8, BOS, None))
    assert row.counted.tolist() == [False, True, False, True]
    assert row.pieces == (Piece(1, 4, 0, "d0", 0),)


def test_without_special_tokens_every_token_counts() -> None:
    (row,) = pack([Document("d", "0 1 70000")], encode, Packing("concat", 8, None, None), ())
    assert row.counted.tolist() == [True, True, True]


def test_a_cut_row_does_not_hold_on_to_the_whole() -> None:
    (row,) = contexts([[5] * 8], Packing("concat", 8, None, None), 3)
    assert row.ids.base is None
    assert row.counted.base is None


@pytest.mark.parametrize(("length", "bos"), [(0, None), (1, BOS), (-3, BOS)])
def test_context_too_short_for_a_token_is_refused(length: int, bos: int | None) -> None:
    with pytest.raises(BadInput, match="too short"):
        Packing("concat", length, bos, None)


def test_unknown_packing_is_refused() -> None:
    with pytest.raises(BadInput, match="no packing 'shuffle'"):
        Packing("shuffle", 8, None, None)  # type: ignore[arg-type]


def test_no_tokens_at_all_is_refused_before_anything_is_read() -> None:
    with pytest.raises(BadInput, match="cannot take 0 tokens"):
        pack([], encode, Packing("concat", 8, None, None), (), 0)


@pytest.mark.slow
def test_concat_gives_the_rows_of_sae_lens() -> None:
    import torch
    from sae_lens.tokenization_and_batching import concat_and_batch_sequences

    @quick(max_examples=300)
    @given(token_lists, st.integers(2, 9), st.sampled_from([None, BOS]), st.sampled_from([None, BOS, SEPARATOR]))
    def same_rows(documents: list[list[int]], length: int, bos: int | None, separator: int | None) -> None:
        theirs = concat_and_batch_sequences(
            iter([torch.tensor(tokens, dtype=torch.long) for tokens in documents]),
            context_size=length,
            begin_batch_token_id=bos,
            begin_sequence_token_id=None,
            sequence_separator_token_id=separator,
        )
        ours = contexts(documents, Packing("concat", length, bos, separator))
        full = [context.ids.tolist() for context in ours if len(context.ids) == length]
        assert full == [row.tolist() for row in theirs]
        assert len(ours) - len(full) <= 1

    same_rows()
