"""The tables of the planted concept check: every order over all concepts, and every concept under the asked orders."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.planted.ranks import ORDERS, TOP, Order, Placed


@dataclass(frozen=True, slots=True)
class Best:
    """The feature that stands for a concept in truth."""

    name: str
    """Of the concept."""
    feature: int
    f1: float
    precision: float


def rate(placed: Iterable[Placed]) -> float:
    """The share of concepts whose best feature is among the first five."""
    return statistics.mean(each.rank <= TOP for each in placed)


def by_seed(placed: Iterable[Placed], figure: Callable[[Iterable[Placed]], float] = rate) -> list[float]:
    """A figure for each choice of texts."""
    seeds: dict[int, list[Placed]] = {}
    for each in placed:
        seeds.setdefault(each.seed, []).append(each)
    return [figure(mine) for mine in seeds.values()]


def rates(placed: Sequence[Placed]) -> str:
    """The rate, and the least and the largest over the choices of texts where there are several."""
    seeds = by_seed(placed)
    ends = f" ({min(seeds):.0%} to {max(seeds):.0%})" if len(seeds) > 1 else ""
    return f"{statistics.mean(seeds):.0%}{ends}"


def precision(placed: Iterable[Placed]) -> float:
    return statistics.mean(each.precision for each in placed)


def table_of_orders(placed: Mapping[Order, Sequence[Placed]], good: frozenset[int]) -> str:
    """good: the concepts that some feature is good at."""
    lines = [
        "| order | best feature among the first five | of concepts with a good feature | precision of the first ten "
        "| median rank | choices of texts |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for order, each in placed.items():
        those = [one for one in each if one.concept in good]
        told = rates(those) if those else "none"
        rank = statistics.median(one.rank for one in each)
        lines.append(
            f"| {order.title} | {rates(each)} | {told} | {precision(each):.2f} | {rank:.0f} | {len(by_seed(each))} |"
        )
    return "\n".join(lines)


def table_of_concepts(placed: Mapping[Order, Sequence[Placed]], best: Mapping[int, Best]) -> str:
    """Each concept's median rank over the choices of texts, by the asked orders; the best F1 first."""
    orders = [order for order in ORDERS if order.asked]
    titles = " | ".join(order.title for order in orders)
    lines = [
        f"| concept | best F1 | feature | its precision | {titles} |",
        "| --- | --- | --- | --- |" + " --- |" * len(orders),
    ]
    for concept, truth in sorted(best.items(), key=lambda item: -item[1].f1):
        medians = [statistics.median(one.rank for one in placed[order] if one.concept == concept) for order in orders]
        ranks = " | ".join(f"{median:.0f}" for median in medians)
        lines.append(f"| {truth.name} | {truth.f1:.2f} | {truth.feature} | {truth.precision:.2f} | {ranks} |")
    return "\n".join(lines)
