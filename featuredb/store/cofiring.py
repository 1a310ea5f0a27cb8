"""What two dictionaries' features do on the tokens that both panels hold: the counts and sums of firing together.

The runs of one ingest share their panel. Runs of one corpus share the tokens that lie on both panels, a token being a
document and a place in it, as long as both cut the documents into the same tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featuredb.store.segments import SegmentReader, SegmentRef

Floats = NDArray[np.float64]

_TOKENS = """
    select context, document, position, "offset", token from (
        select context, document,
            unnest(range(first, past)) as position,
            unnest(range("offset", "offset" + past - first)) as "offset",
            unnest(tokens[first + 1 : past]) as token
        from (
            select context, tokens, unnest(piece_starts) as first, unnest(piece_ends) as past,
                unnest(piece_documents) as document, unnest(piece_offsets) as "offset"
            from {contexts}.context where on_panel
        )
    ) where token not in (select unnest($special::integer[]))
"""
_N_TOKENS = f"select count(*) as n from ({_TOKENS})"
_BOTH_PANELS = (
    f"ours as ({_TOKENS.replace('{contexts}', '{our_contexts}')}),"
    f"others as ({_TOKENS.replace('{contexts}', '{their_contexts}')})"
)
_COMPARED = f"""
    with {_BOTH_PANELS}
    select count(*) as n, count(*) filter (where ours.token <> others.token) as n_other
    from ours join others using (document, "offset")
"""
_MATCHED = (
    _BOTH_PANELS
    + """,
    matched as (
        select ours.context as our_context, ours.position as our_position, others.context, others.position
        from ours join others using (document, "offset", token)
    ),
    own as (
        select matched.context, matched.position, panel.activation
        from {ours}.panel
        join matched on panel.context = matched.our_context and panel.position = matched.our_position
        where panel.feature = $feature
    ),
    fired as (
        select panel.feature, panel.context, panel.position, panel.activation
        from {theirs}.panel semi join matched using (context, position)
    )
"""
)
_SAME = """
    own as (select context, position, activation from {ours}.panel where feature = $feature),
    fired as (select feature, context, position, activation from {theirs}.panel {only})
"""
_OWN = """
    with {both}
    select count(*) as n, coalesce(sum(activation::double), 0) as total,
        coalesce(sum(activation::double * activation), 0) as squares
    from own
"""
_TOGETHER = """
    with {both},
    alone as (
        select feature, count(*) as n, sum(activation::double) as total,
            sum(activation::double * activation) as squares
        from fired {only} group by feature
    ),
    met as (
        select fired.feature, count(*) as n_both, sum(fired.activation::double * own.activation) as products
        from fired join own using (context, position) {only} group by fired.feature
    )
    select feature, n, total, squares, coalesce(n_both, 0) as n_both, coalesce(products, 0) as products
    from alone left join met using (feature) order by feature
"""
_ONLY = "where feature in (select unnest($features::integer[]))"


@dataclass(frozen=True, slots=True, eq=False)
class Together:
    """Sums over the tokens that both panels hold, for a feature and others; every array is (n,)."""

    n_tokens: int
    own: tuple[int, float, float]
    """Of the feature: tokens on which it fires, the sum of its activations, and of their squares."""
    feature: NDArray[np.int64]
    """The others that fire at all, by index."""
    n: NDArray[np.int64]
    total: Floats
    squares: Floats
    n_both: NDArray[np.int64]
    """Tokens on which both fire."""
    products: Floats
    """Sum of the products of their activations."""


def compare_panels(
    reader: SegmentReader, ours: SegmentRef, theirs: SegmentRef, special: Sequence[int]
) -> tuple[int, int]:
    """Tokens that the panels of two runs of one corpus both hold, and those among them that are not the same token.

    special: ids that never count, in either.
    """
    if ours.run == theirs.run:
        found = reader.across({"contexts": ours.contexts}, _N_TOKENS, {"special": list(special)})
        return int(found["n"][0]), 0
    contexts = {"our_contexts": ours.contexts, "their_contexts": theirs.contexts}
    found = reader.across(contexts, _COMPARED, {"special": list(special)})
    return int(found["n"][0]), int(found["n_other"][0])


def read_together(
    reader: SegmentReader,
    ours: SegmentRef,
    feature: int,
    theirs: SegmentRef,
    special: Sequence[int],
    features: Sequence[int] | None = None,
) -> Together:
    """What one feature and the features of a dictionary (None: all) do on the tokens that both panels hold."""
    n_tokens, _ = compare_panels(reader, ours, theirs, special)
    names = {"ours": ours.path, "theirs": theirs.path}
    params: dict[str, Any] = {"feature": feature}
    both = _SAME
    if ours.run != theirs.run:
        names |= {"our_contexts": ours.contexts, "their_contexts": theirs.contexts}
        params["special"] = list(special)
        both = _MATCHED
    only = "" if features is None else _ONLY
    own = reader.across(names, _OWN.replace("{both}", both).replace("{only}", ""), params)
    if features is not None:
        params["features"] = [int(index) for index in features]
    found = reader.across(names, _TOGETHER.replace("{both}", both).replace("{only}", only), params)
    return Together(
        n_tokens=n_tokens,
        own=(int(own["n"][0]), float(own["total"][0]), float(own["squares"][0])),
        feature=found["feature"].astype(np.int64),
        n=found["n"].astype(np.int64),
        total=found["total"].astype(np.float64),
        squares=found["squares"].astype(np.float64),
        n_both=found["n_both"].astype(np.int64),
        products=found["products"].astype(np.float64),
    )
