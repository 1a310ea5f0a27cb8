"""Pictures of maps and trajectories: PNG or SVG, on white, in colours that colour-blind readers tell apart.

Rule: points in, a file out. matplotlib's pyplot is never touched, so nobody's figures or settings change.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featuredb.errors import BadInput, PluginFailed
from featuredb.store.engine import disk_errors
from featuredb.visible import visible

if TYPE_CHECKING:
    from featuredb.maps.points import MapPoint, TrajectoryPoint

FORMATS = (".png", ".svg")
N_NAMED = 14
"""Features of a map that are named."""

BINS = 48
"""Across and down, when thick places are looked for."""

LONGEST = 34
"""Characters of a name on a picture."""

INK, FAINT = "#222222", "#8a8a8a"
LINES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
"""Okabe and Ito's colours, the ones that read on white first."""

MARKERS = "os^DvP*"


def check_plot(path: str | os.PathLike[str]) -> Path:
    """The path, where a picture can be written to it. Raises BadInput; PluginFailed where matplotlib is missing."""
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise BadInput(f"{path} is neither .png nor .svg", hint="the name's end says what is drawn")
    if not path.parent.is_dir():
        raise BadInput(f"there is no folder {path.parent}", hint="make it first")
    if path.is_dir():
        raise BadInput(f"{path} is a folder", hint="name a file in it")
    _matplotlib()
    return path


def plot_map(points: Sequence[MapPoint], path: Path) -> None:
    """A dictionary's map, coloured by density; labelled features, or those in the thickest of it, are named."""
    with _figure(path, 10.0, 8.0) as figure:
        axes = figure.add_axes((0.02, 0.03, 0.86, 0.90))
        # The palest end of the scale would be lost on white.
        colours = _colormap("viridis_r", 0.06)
        at = np.array([(point.x, point.y) for point in points])
        density = np.array([point.density for point in points])
        fires = density > 0
        size = float(np.clip(24_000 / len(points), 0.6, 24))
        if not fires.all():
            axes.scatter(*at[~fires].T, s=size, c="#cccccc", linewidths=0, label="never fires")
            axes.legend(loc="lower right", fontsize=9, frameon=False, labelcolor=INK)
        if fires.any():
            shown = axes.scatter(
                *at[fires].T, s=size, c=np.log10(density[fires]), cmap=colours, linewidths=0, rasterized=True
            )
            bar = figure.colorbar(shown, cax=figure.add_axes((0.90, 0.25, 0.018, 0.5)))
            _density_ticks(bar, density[fires])
        axes.set_axis_off()
        axes.margins(0.04)
        axes.autoscale_view()
        _name_features(axes, points, at)
        title = f"{points[0].dictionary}: {len(points):,} features by decoder direction"
        figure.text(0.02, 0.955, _short(title, 80), fontsize=13, color=INK)


def plot_trajectory(points: Sequence[TrajectoryPoint], path: Path) -> None:
    """Each path through the layers as a line from `embed` on, along the first two components, or in all three."""
    three = points[0].z is not None
    with _figure(path, 9.0, 7.0) as figure:
        place = (0.02, 0.02, 0.94, 0.90) if three else (0.09, 0.08, 0.88, 0.84)
        axes = figure.add_axes(place, projection="3d" if three else None)
        drawn = []
        for number, name in enumerate(dict.fromkeys(one.path for one in points)):
            mine = [one for one in points if one.path == name]
            colour, marker = LINES[number % len(LINES)], MARKERS[number % len(MARKERS)]
            at = np.array([(one.x, one.y, one.z or 0.0)[: 3 if three else 2] for one in mine])
            axes.plot(*at.T, color=colour, linewidth=1.3, marker=marker, markersize=5, label=_short(name, 60))
            # Where the path begins.
            axes.plot(*at[:1].T, color=colour, marker=marker, markersize=9, markerfacecolor="white", linestyle="none")
            drawn.append((mine, at, colour))
        for number, letter in enumerate("xyz"[: 3 if three else 2]):
            said = f"component {number + 1}: {points[0].explained[number]:.0%} of what differs"
            getattr(axes, f"set_{letter}label")(said, color=INK)
        axes.tick_params(colors=FAINT, labelsize=8)
        if not three:
            axes.spines[["top", "right"]].set_visible(False)
            axes.margins(0.07)
            axes.autoscale_view()
        axes.legend(loc="best", fontsize=9, frameon=False, labelcolor=INK)
        title = f"{points[0].model}: the residual stream, layer by layer"
        figure.text(0.02, 0.955, _short(title, 80), fontsize=13, color=INK)
        _name_layers(axes, drawn)


def _name_layers(axes: Any, drawn: Sequence[tuple[Sequence[TrajectoryPoint], NDArray[np.float64], str]]) -> None:
    """The layers' numbers beside their points: of many layers some, and the last; what has no room goes unnamed."""
    taken = [] if drawn[0][1].shape[1] == 3 else _markers(axes, np.concatenate([at for _, at, _ in drawn]))
    for points, at, colour in drawn:
        step = max(1, len(points) // 12)
        for number in (0, len(points) - 1, *range(step, len(points) - 1, step)):
            said = "embed" if points[number].layer is None else str(points[number].layer)
            if at.shape[1] == 3:
                axes.text(*at[number], f"  {said}", fontsize=7.5, color=colour)
            else:
                _place(axes, said, at[number], taken, fontsize=8, color=colour)


def _name_features(axes: Any, points: Sequence[MapPoint], at: NDArray[np.float64]) -> None:
    """Names beside some points."""
    taken: list[Any] = []
    for number in _telling(points, at):
        point = points[number]
        said = _short(point.label or point.feature, LONGEST)
        if _place(axes, said, at[number], taken, fontsize=8, color=INK, line=True):
            axes.plot(*at[number], marker="o", markersize=6, markerfacecolor="none", color=INK, markeredgewidth=0.9)
        if len(taken) == N_NAMED:
            return


def _markers(axes: Any, at: NDArray[np.float64]) -> list[Any]:
    """Where the points' markers lie on the picture."""
    from matplotlib.transforms import Bbox

    return [Bbox.from_bounds(x - 5, y - 5, 10, 10) for x, y in axes.transData.transform(at)]


def _place(
    axes: Any, said: str, at: NDArray[np.float64], taken: list[Any], *, line: bool = False, **style: Any
) -> bool:
    """Writes beside a point, where it is over nothing in `taken` and inside the axes; False where there is no room."""
    renderer = axes.figure.canvas.get_renderer()
    frame = axes.get_window_extent(renderer).padded(24)
    arrow = {"arrowstyle": "-", "color": FAINT, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 2}
    for right, above in ((6, 4), (-6, 4), (6, -4), (-6, -4), (0, 12), (0, -12), (22, 0), (-22, 0)):
        note = axes.annotate(
            said,
            at,
            xytext=(right, above),
            textcoords="offset points",
            ha={1: "left", -1: "right", 0: "center"}[int(np.sign(right))],
            va={1: "bottom", -1: "top", 0: "center"}[int(np.sign(above))],
            arrowprops=arrow if line else None,
            bbox={"boxstyle": "round,pad=0.1", "facecolor": "white", "alpha": 0.75, "linewidth": 0} if line else None,
            **style,
        )
        box = note.get_window_extent(renderer)
        inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
        if inside and not any(box.overlaps(other) for other in taken):
            taken.append(box.padded(1))
            return True
        note.remove()
    return False


def _telling(points: Sequence[MapPoint], at: NDArray[np.float64]) -> Iterator[int]:
    """Points worth a name, one from each thick place of the map, the thickest first; labelled ones where there are."""
    labelled = np.flatnonzero([point.label is not None for point in points])
    pool = labelled if len(labelled) else np.arange(len(points))
    counts, _, _ = np.histogram2d(at[:, 0], at[:, 1], bins=BINS)
    thick = _smoothed(counts)
    low, width = at.min(axis=0), np.maximum(np.ptp(at, axis=0), 1e-9)
    left = set(pool.tolist())
    grid = np.stack(np.meshgrid(np.arange(BINS), np.arange(BINS), indexing="ij"), axis=-1)
    for _ in range(4 * N_NAMED):
        peak = np.unravel_index(int(thick.argmax()), thick.shape)
        if thick[peak] <= 0 or not left:
            return
        middle = low + (np.array(peak) + 0.5) / BINS * width
        candidates = np.array(sorted(left))
        distance = np.linalg.norm((at[candidates] - middle) / width, axis=1)
        nearest = int(candidates[distance.argmin()])
        if distance.min() < 0.06:
            left.discard(nearest)
            yield nearest
        # The rest of this place is spoken for.
        thick[np.linalg.norm(grid - np.array(peak), axis=-1) < 6] = 0


def _smoothed(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    kernel = np.array([1, 4, 6, 4, 1]) / 16
    for axis in (0, 1):
        counts = np.apply_along_axis(np.convolve, axis, counts, kernel, mode="same")
    return counts


def _density_ticks(bar: Any, density: NDArray[np.float64]) -> None:
    """Powers of ten as percentages, as the cards say them."""
    low, high = np.log10(density.min()), np.log10(density.max())
    ticks = [float(power) for power in range(-12, 1) if low - 1e-9 <= power <= high + 1e-9] or [float(high)]
    bar.set_ticks(ticks, labels=[f"{100 * 10.0**tick:.3g}%" if tick > -7 else f"1e{tick:.0f}" for tick in ticks])
    bar.set_label("share of tokens on which it fires", color=INK, fontsize=9)
    bar.ax.tick_params(labelsize=8, colors=INK)
    bar.outline.set_visible(False)


@contextmanager
def _figure(path: Path, width: float, height: float) -> Iterator[Any]:
    """An empty figure, written to the path when the block ends: whole or not at all."""
    figures, agg, context = _matplotlib()
    unfinished = path.with_name(f".{path.stem}-{os.getpid()}{path.suffix}")
    with (
        context({"svg.hashsalt": "featuredb", "svg.fonttype": "none", "font.family": "DejaVu Sans"}),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # of glyphs that its font has not: they show as boxes
        figure = figures.Figure(figsize=(width, height), facecolor="white")
        agg.FigureCanvasAgg(figure)
        yield figure
        try:
            with disk_errors(path):
                figure.savefig(unfinished, dpi=150, metadata={"Date": None} if path.suffix.lower() == ".svg" else None)
                os.replace(unfinished, path)
        finally:
            unfinished.unlink(missing_ok=True)


def _matplotlib() -> tuple[Any, Any, Any]:
    try:
        from matplotlib import figure, rc_context
        from matplotlib.backends import backend_agg
    except ImportError as error:
        raise PluginFailed(
            f"plots need matplotlib, which cannot be loaded: {error}", hint="pip install 'featuredb[plots]'"
        ) from error
    return figure, backend_agg, rc_context


def _colormap(name: str, start: float) -> Any:
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    return ListedColormap(colormaps[name](np.linspace(start, 1, 256)))


def _short(text: str, longest: int) -> str:
    # A dollar sign opens matplotlib's own mathematics.
    text = visible(" ".join(text.split()))
    text = text if len(text) <= longest else f"{text[: longest - 1]}…"
    return text.replace("$", r"\$")
