"""Episode tables to figures: how well agents play, and where they fail.

Every function returns the bytes of a PNG, the same ones for the same tables. A key is a
task and an agent. Agents of one recipe share a colour and differ by line style; of
several tasks, each has a panel or a marker of its own.
"""

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, PercentFormatter

type Key = tuple[str, str]

# Okabe and Ito's palette, which colour-blind people can tell apart,
# https://jfly.uni-koeln.de/color/.
_GREY = "#8C8C8C"
_PALETTE = (
    "#E69F00",
    "#0072B2",
    "#009E73",
    "#CC79A7",
    "#D55E00",
    "#56B4E9",
    "#F0E442",
)
_CAUSES = ("#0072B2", "#D55E00", "#000000", "#009E73", "#CC79A7")
_LINE_STYLES = ("-", "--", ":", "-.")
_MARKERS = "os^Dv"

_BINS = 50
"""Bars of the histogram of failures, at most."""
_WIDTH = 9.0
"""Of a figure, in inches."""
_STYLE = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "savefig.dpi": 150,
    "figure.constrained_layout.use": True,
    "grid.color": "#E4E4E4",
    "ytick.major.pad": 8,
    "ytick.major.size": 0,
}


def agents_figure(
    metrics: Mapping[Key, Mapping[str, float]], progress_label: str
) -> bytes:
    """Draw the success rate and the mean progress of each agent, with their intervals.

    Args:
        metrics: Of each ``episodes``, and ``success_rate`` and ``progress_mean``, both
            of them also with ``_low`` and ``_high``.
        progress_label: What progress counts.
    """
    with _style():
        figure = Figure(figsize=(_WIDTH, 1.3 + 0.45 * len(metrics)))
        left, right = figure.subplots(1, 2, sharey=True)
        styles = _Styles(metrics)
        _points(left, metrics, styles, "success_rate", "{:.0%}")
        left.set(title="Success rate", xlabel="share of the episodes", xlim=(0, 1))
        left.xaxis.set_major_formatter(PercentFormatter(1))
        _points(right, metrics, styles, "progress_mean", "{:,.0f}")
        right.set(title="Mean progress", xlabel=progress_label, xlim=(0, None))
        right.xaxis.set_major_formatter("{x:,.0f}")
        left.set_yticks(
            range(len(metrics)),
            [
                f"{styles.name(k)}  (n = {row['episodes']})"
                for k, row in metrics.items()
            ],
        )
        left.invert_yaxis()
        left.margins(y=0.15)
        figure.supxlabel("Lines: 95 % intervals.", fontsize="small", x=0.01, ha="left")
        return _png(figure)


def survival_figure(tables: Mapping[Key, pd.DataFrame], progress_label: str) -> bytes:
    """Draw the share of the episodes that got at least so far."""
    with _style():
        figure = Figure(figsize=(_WIDTH, 4.5))
        axes = figure.subplots()
        styles = _Styles(tables)
        for key, table in tables.items():
            axes.ecdf(
                table["progress"],
                complementary=True,
                label=f"{styles.name(key)}  (n = {len(table)})",
                color=styles.colour(key),
                linestyle=styles.line(key),
                linewidth=2,
            )
        axes.set(
            title="How many episodes get how far",
            xlabel=progress_label,
            ylabel="share of the episodes that got at least so far",
            xlim=(0, None),
            ylim=(0, 1.02),
        )
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        figure.legend(frameon=False, loc="outside lower center", ncols=3)
        return _png(figure)


def deaths_figure(
    tables: Mapping[Key, pd.DataFrame], failures: Sequence[str], progress_label: str
) -> bytes:
    """Draw where each agent fails, and of what.

    Args:
        tables: Episode tables. Where failures have no place, the progress counts.
        failures: Causes that are failures.
        progress_label: What progress counts.
    """
    furthest = max(table["progress"].max() for table in tables.values())
    # Whole blocks of a level, or single steps.
    width = max(1, 2 ** int(np.ceil(np.log2(max(furthest, 1) / _BINS))))
    bins = np.arange(0, furthest + 2 * width, width)
    with _style():
        figure = Figure(figsize=(_WIDTH, 1.2 + 1.3 * len(tables)))
        rows = figure.subplots(len(tables), sharex=True, sharey=True, squeeze=False)
        styles = _Styles(tables)
        for axes, (key, table) in zip(rows[:, 0], tables.items(), strict=True):
            failed = table[table["cause"].isin(failures)]
            places = failed["place"].astype(float).fillna(failed["progress"])
            axes.hist(
                [places[failed["cause"] == cause] for cause in failures],
                bins,
                stacked=True,
                color=list(_CAUSES[: len(failures)]),
                label=list(failures),
            )
            succeeded = int(table["success"].sum())
            axes.set_title(
                f"{styles.name(key)}  (n = {len(table)}): {len(failed)} fail, "
                f"{succeeded} succeed, {len(table) - len(failed) - succeeded} are "
                "stopped",
                fontsize="medium",
            )
        rows[0, 0].legend(frameon=False, ncols=3, loc="upper right")
        rows[-1, 0].set(xlabel=progress_label, xlim=(0, bins[-1]))
        rows[-1, 0].xaxis.set_major_formatter("{x:,.0f}")
        figure.supylabel(f"failures in each {width}", fontsize="medium")
        return _png(figure)


def learning_figure(curves: Mapping[Key, pd.DataFrame], progress_label: str) -> bytes:
    """Draw how far agents get, and how often they succeed, while they learn.

    Args:
        curves: Of each agent, rows with ``agent_steps``, and ``eval_progress`` and
            ``eval_success_rate`` where the policy was evaluated.
        progress_label: What progress counts.
    """
    with _style():
        figure = Figure(figsize=(_WIDTH, 4.0))
        left, right = figure.subplots(1, 2, sharex=True)
        styles = _Styles(curves)
        for axes, column in ((left, "eval_progress"), (right, "eval_success_rate")):
            for key, curve in curves.items():
                measured = curve.dropna(subset=[column])
                axes.plot(
                    measured["agent_steps"],
                    measured[column],
                    label=styles.name(key),
                    color=styles.colour(key),
                    linestyle=styles.line(key),
                    marker="o",
                    linewidth=2,
                )
            axes.set(xlabel="agent steps of training")
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        left.set(title="Mean progress in evaluation", ylim=(0, None))
        left.set_ylabel(progress_label)
        left.yaxis.set_major_formatter("{x:,.0f}")
        right.set(title="Success rate in evaluation", ylim=(-0.02, 1.02))
        right.yaxis.set_major_formatter(PercentFormatter(1))
        _legend(figure, left)
        return _png(figure)


def noise_figure(
    summaries: Mapping[str, Mapping[Key, Mapping[str, float]]],
    conditions: Mapping[str, Mapping[str, Any]],
) -> bytes:
    """Draw the success rate of each agent over each kind of noise, with its interval.

    Args:
        summaries: By noise and agent ``success_rate``, also with ``_low`` and ``_high``.
        conditions: By noise ``no_op_max`` and ``sticky_probability``. Those of
            ``default`` are held while the other one varies.
    """
    usual = conditions["default"]
    with _style():
        figure = Figure(figsize=(_WIDTH, 4.0))
        left, right = figure.subplots(1, 2, sharey=True)
        keys = list(summaries["default"])
        styles = _Styles(keys)
        for axes, varied, held, label in (
            (left, "sticky_probability", "no_op_max", "sticky probability, per frame"),
            (right, "no_op_max", "sticky_probability", "most idle frames at the start"),
        ):
            names = sorted(
                (name for name in conditions if conditions[name][held] == usual[held]),
                key=lambda name: conditions[name][varied],
            )
            values = np.array([conditions[name][varied] for name in names], float)
            span = max(np.ptp(values), 1e-9)
            for place, key in enumerate(keys):
                rows = [summaries[name][key] for name in names]
                rate = np.array([row["success_rate"] for row in rows])
                low = rate - [row["success_rate_low"] for row in rows]
                high = [row["success_rate_high"] for row in rows] - rate
                # Side by side, or an agent would hide behind another one.
                dodge = (place - (len(keys) - 1) / 2) * 0.012 * span
                axes.errorbar(
                    values + dodge,
                    rate,
                    (np.maximum(low, 0), np.maximum(high, 0)),
                    label=styles.name(key),
                    color=styles.colour(key),
                    linestyle=styles.line(key),
                    marker=styles.marker(key),
                    linewidth=2,
                    elinewidth=1,
                )
            axes.set(xlabel=label, ylim=(-0.02, 1.02))
        left.set(title="Success rate under noise", ylabel="share of the episodes")
        left.yaxis.set_major_formatter(PercentFormatter(1))
        _legend(figure, left)
        return _png(figure)


class _Styles:
    """How agents are drawn, by their order: no name is known here."""

    def __init__(self, keys: Any) -> None:
        keys = list(keys)
        self._tasks = list(dict.fromkeys(task for task, _ in keys))
        recipes = dict.fromkeys(_recipe(agent) for _, agent in keys)
        self._recipes = [recipe for recipe in recipes if recipe != "random"]

    def name(self, key: Key) -> str:
        """Return what a figure calls an agent."""
        return key[1] if len(self._tasks) == 1 else f"{key[0]} {key[1]}"

    def colour(self, key: Key) -> str:
        recipe = _recipe(key[1])
        if recipe == "random":
            return _GREY
        return _PALETTE[self._recipes.index(recipe) % len(_PALETTE)]

    def line(self, key: Key) -> str:
        seed = key[1].removeprefix(_recipe(key[1])).removeprefix("-")
        return _LINE_STYLES[(int(seed or 1) - 1) % len(_LINE_STYLES)]

    def marker(self, key: Key) -> str:
        return _MARKERS[self._tasks.index(key[0]) % len(_MARKERS)]


def _recipe(agent: str) -> str:
    """Return an agent's name without its seed."""
    recipe, dash, seed = agent.rpartition("-")
    return recipe if dash and seed.isdecimal() else agent


def _points(
    axes: Axes,
    metrics: Mapping[Key, Mapping[str, float]],
    styles: _Styles,
    name: str,
    text: str,
) -> None:
    """Draw one point and one interval an agent, with the value above it."""
    for place, (key, row) in enumerate(metrics.items()):
        value, low, high = row[name], row[f"{name}_low"], row[f"{name}_high"]
        colour = styles.colour(key)
        axes.plot([low, high], [place, place], color=colour, linewidth=2.5, alpha=0.6)
        axes.plot(
            value, place, "o", color=colour, markersize=8, clip_on=False, zorder=3
        )
        axes.annotate(
            text.format(value),
            (value, place),
            (0, 8),
            textcoords="offset points",
            ha="center",
            fontsize="small",
        )
    axes.grid(axis="y", visible=False)


def _legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, loc="outside lower center", ncols=3)


def _style():
    # The defaults first, so that a matplotlibrc on this machine changes nothing.
    return matplotlib.style.context(["default", _STYLE])


def _png(figure: Figure) -> bytes:
    FigureCanvasAgg(figure)
    buffer = BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
