"""The look of all pictures: their size, two themes, and how an agent is drawn."""

from collections.abc import Callable, Iterable
from functools import wraps
from io import BytesIO
from typing import Any

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from warpzone.core.names import UNTRAINED

type Key = tuple[str, str]
"""A task and an agent."""

WIDTH = 8.3
"""Of a figure, in inches. Where it is 830 pixels wide, 10 points are 14 pixels."""
SMALL = 9
"""The least size of text, in points."""
WHOLE = "{x:,.0f}"
"""Format of axes: whole numbers."""

# Okabe and Ito's palette, which colour-blind people can tell apart,
# https://jfly.uni-koeln.de/color/.
_PALETTE = (
    *("#E69F00", "#0072B2", "#009E73", "#CC79A7"),
    *("#D55E00", "#56B4E9", "#F0E442"),
)
# Agents that have no model learn nothing: they are grey.
_GREYS = dict(zip(UNTRAINED, ("#A3A3A3", "#6E6E6E"), strict=True))
# Those of the palette that agents take last.
_CAUSES = ("#56B4E9", "#D55E00", "#CC79A7", "#F0E442")
_LINE_STYLES = ("-", "--", ":", "-.")
_MARKERS = "os^Dv"

_COMMON = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.labelsize": 10,
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.wspace": 0.05,
    "font.size": 10,
    "legend.fontsize": 10,
    "legend.frameon": False,
    "legend.handlelength": 2.5,
    "lines.linewidth": 2,
    "savefig.dpi": 200,
    "ytick.major.pad": 9,
    "ytick.major.size": 0,
}
# GitHub's backgrounds and texts.
_THEMES = {
    "light": {"back": "#FFFFFF", "text": "#1F2328", "grid": "#E4E4E4"},
    "dark": {"back": "#0D1117", "text": "#E6EDF3", "grid": "#2B323B"},
}


def styled[**P](draw: Callable[P, bytes]) -> Callable[P, bytes]:
    """Give a function that draws the look that its keyword ``theme`` names.

    Raises:
        ValueError: If there is no such theme.
    """

    @wraps(draw)
    def styled_draw(*args: P.args, **kwargs: P.kwargs) -> bytes:
        # The defaults first, so that a matplotlibrc on this machine changes nothing.
        theme = colours_of(str(kwargs.get("theme", "light")))
        back, text = theme["back"], theme["text"]
        coloured = {
            **dict.fromkeys(("figure.facecolor", "axes.facecolor"), back),
            **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor"), text),
            **dict.fromkeys(("xtick.color", "ytick.color"), text),
            "grid.color": theme["grid"],
        }
        with matplotlib.style.context(["default", _COMMON, coloured]):
            return draw(*args, **kwargs)

    return styled_draw


def colours_of(theme: str) -> dict[str, str]:
    """Return the colours of the background, the text and the grid.

    Raises:
        ValueError: If there is no such theme.
    """
    if theme not in _THEMES:
        raise ValueError(f"no theme {theme!r}: there are {', '.join(_THEMES)}")
    return _THEMES[theme]


def colour_of_cause(place: int) -> str:
    """Return the colour of a world's failure, by its place among them."""
    return _CAUSES[place % len(_CAUSES)]


def style_of_term(place: int) -> dict[str, Any]:
    """Return the style of a term of the reward, by its place among them."""
    again, colour = divmod(place, len(_PALETTE))
    return {"color": _PALETTE[colour], "linestyle": _LINE_STYLES[again]}


class Styles:
    """How agents are drawn: those that nobody trained grey, the others by their order.

    Seeds of one recipe share a colour and differ by marker and line style.
    """

    def __init__(self, keys: Iterable[Key]) -> None:
        self.keys = list(dict.fromkeys(keys))
        self.tasks = list(dict.fromkeys(task for task, _ in self.keys))
        self._seeds: dict[str, list[str]] = {}
        for agent in dict.fromkeys(agent for _, agent in self.keys):
            self._seeds.setdefault(recipe_of(agent), []).append(agent)
        self._coloured = [recipe for recipe in self._seeds if recipe not in _GREYS]

    def of_task(self, task: str) -> list[Key]:
        return [key for key in self.keys if key[0] == task]

    def named(self, task: str, name: str) -> str:
        """Return what something of a task is called beside that of all tasks."""
        return name if len(self.tasks) == 1 else f"{task} {name}"

    def colour(self, agent: str) -> str:
        recipe = recipe_of(agent)
        if recipe in _GREYS:
            return _GREYS[recipe]
        return _PALETTE[self._coloured.index(recipe) % len(_PALETTE)]

    def of(self, key: Key) -> dict[str, Any]:
        """Return the style of an agent's line."""
        seed = self._seeds[recipe_of(key[1])].index(key[1])
        return {
            "label": key[1],
            "color": self.colour(key[1]),
            "linestyle": _LINE_STYLES[seed % len(_LINE_STYLES)],
            "marker": _MARKERS[seed % len(_MARKERS)],
        }

    def panels(
        self, columns: int, height: float, **shared: Any
    ) -> tuple[Figure, np.ndarray]:
        """Return a figure with a row of axes a task, so many inches high."""
        figure = Figure(figsize=(WIDTH, 1.0 + height * len(self.tasks)))
        return figure, figure.subplots(
            len(self.tasks), columns, squeeze=False, **shared
        )


def dodge(count: int, width: float) -> np.ndarray:
    """Return how far to draw so many marks apart, so that none hides another.

    Together they take up ``width``, around 0.
    """
    return (np.arange(count) - (count - 1) / 2) * width / max(count - 1, 1)


def recipe_of(agent: str) -> str:
    """Return an agent's name without its seed."""
    recipe, dash, seed = agent.rpartition("-")
    return recipe if dash and seed.isdecimal() else agent


def png(figure: Figure, legend: Axes | None = None, note: str | None = None) -> bytes:
    """Return a figure with the legend of one of its axes, and what its marks mean."""
    if legend is not None:
        handles, labels = legend.get_legend_handles_labels()
        columns = 4 if len(labels) > 5 else 5
        figure.legend(
            handles,
            labels,
            loc="outside lower center",
            ncols=columns,
            title=note,
            title_fontsize=SMALL,
        )
    elif note is not None:
        figure.supxlabel(note, fontsize=SMALL)
    FigureCanvasAgg(figure)
    buffer = BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
