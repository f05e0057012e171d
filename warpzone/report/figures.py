"""Episode tables to pictures: how well agents play, and where they die.

Every function returns the bytes of a PNG, the same ones for the same tables. Trained
agents of one start (``bc-seed1``, ``bc-seed2``) share a colour and differ by line
style.
"""

from collections.abc import Mapping
from io import BytesIO

import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, PercentFormatter

# Okabe and Ito's palette, which colour-blind people can tell apart,
# https://jfly.uni-koeln.de/color/.
_COLOURS = {
    "random": "#8C8C8C",
    "bc": "#E69F00",
    "bc-seed": "#0072B2",
    "scratch-seed": "#009E73",
}
_LINE_STYLES = ("-", "--", ":", "-.")
_DEATHS = {"pit": "#0072B2", "enemy": "#D55E00", "clock": "#000000"}

_BIN = 64
"""Pixels that a bar of the histogram of deaths covers: four blocks of the level."""
_X_LABEL = "distance from the start of the level (pixels)"
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


def agents_figure(metrics: Mapping[str, Mapping[str, float]]) -> bytes:
    """Draw the clear rate and the mean distance of each agent, with their intervals.

    Args:
        metrics: Of each agent ``episodes``, and ``clear_rate`` and ``x_pos_max_mean``,
            both of them also with ``_low`` and ``_high``.
    """
    with _style():
        figure = Figure(figsize=(_WIDTH, 1.3 + 0.45 * len(metrics)))
        left, right = figure.subplots(1, 2, sharey=True)
        _points(left, metrics, "clear_rate", "{:.0%}")
        left.set(title="Clear rate", xlabel="share of the episodes", xlim=(0, 1))
        left.xaxis.set_major_formatter(PercentFormatter(1))
        _points(right, metrics, "x_pos_max_mean", "{:,.0f}")
        right.set(title="Mean distance", xlabel="pixels", xlim=(0, None))
        right.xaxis.set_major_formatter("{x:,.0f}")
        left.set_yticks(
            range(len(metrics)),
            [f"{agent}  (n = {row['episodes']})" for agent, row in metrics.items()],
        )
        left.invert_yaxis()
        left.margins(y=0.15)
        figure.supxlabel("Lines: 95 % intervals.", fontsize="small", x=0.01, ha="left")
        return _png(figure)


def distance_figure(tables: Mapping[str, pd.DataFrame]) -> bytes:
    """Draw the share of the episodes that got at least so far.

    Args:
        tables: Episode tables by agent.
    """
    with _style():
        figure = Figure(figsize=(_WIDTH, 4.5))
        axes = figure.subplots()
        for agent, table in tables.items():
            axes.ecdf(
                table["x_pos_max"],
                complementary=True,
                label=f"{agent}  (n = {len(table)})",
                color=_colour(agent),
                linestyle=_line_style(agent),
                linewidth=2,
            )
        axes.set(
            title="How many episodes get how far",
            xlabel=_X_LABEL,
            ylabel="share of the episodes that got at least so far",
            xlim=(0, None),
            ylim=(0, 1.02),
        )
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        figure.legend(frameon=False, loc="outside lower center", ncols=3)
        return _png(figure)


def deaths_figure(tables: Mapping[str, pd.DataFrame]) -> bytes:
    """Draw where along the level each agent dies, and of what.

    Args:
        tables: Episode tables by agent.
    """
    furthest = max(max(table["x_pos_max"]) for table in tables.values())
    bins = np.arange(0, furthest + 2 * _BIN, _BIN)
    with _style():
        figure = Figure(figsize=(_WIDTH, 1.2 + 1.3 * len(tables)))
        rows = figure.subplots(len(tables), sharex=True, sharey=True, squeeze=False)
        for axes, (agent, table) in zip(rows[:, 0], tables.items(), strict=True):
            died = table[table["cause"].isin(_DEATHS)]
            axes.hist(
                [died.loc[died["cause"] == cause, "death_x"] for cause in _DEATHS],
                bins,
                stacked=True,
                color=list(_DEATHS.values()),
                label=list(_DEATHS),
            )
            cleared = table["cleared"].tolist().count(True)
            stopped = len(table) - len(died) - cleared
            axes.set_title(
                f"{agent}  (n = {len(table)}): {len(died)} die, {cleared} clear the "
                f"level, {stopped} are stopped",
                fontsize="medium",
            )
        rows[0, 0].legend(frameon=False, ncols=3, loc="upper right")
        rows[-1, 0].set(xlabel=_X_LABEL, xlim=(0, bins[-1]))
        rows[-1, 0].xaxis.set_major_formatter("{x:,.0f}")
        figure.supylabel(f"deaths in each {_BIN} pixels", fontsize="medium")
        return _png(figure)


def learning_figure(curves: Mapping[str, pd.DataFrame]) -> bytes:
    """Draw how far agents get, and how often they clear the level, while they learn.

    Args:
        curves: Of each agent, rows with ``agent_steps``, ``x_pos_max`` of the training
            episodes, and ``selection_clear_rate`` where it was measured.
    """
    with _style():
        figure = Figure(figsize=(_WIDTH, 4.0))
        left, right = figure.subplots(1, 2, sharex=True)
        for axes, column in ((left, "x_pos_max"), (right, "selection_clear_rate")):
            for agent, curve in curves.items():
                measured = curve.dropna(subset=[column])
                axes.plot(
                    measured["agent_steps"],
                    measured[column],
                    label=agent,
                    color=_colour(agent),
                    linestyle=_line_style(agent),
                    linewidth=2,
                )
            axes.set(xlabel="agent steps of training")
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        left.set(title="Mean distance in training (pixels)", ylim=(0, None))
        left.yaxis.set_major_formatter("{x:,.0f}")
        right.set(title="Clear rate in selection episodes", ylim=(-0.02, 1.02))
        right.yaxis.set_major_formatter(PercentFormatter(1))
        handles, labels = left.get_legend_handles_labels()
        figure.legend(
            handles, labels, frameon=False, loc="outside lower center", ncols=3
        )
        return _png(figure)


def robustness_figure(table: pd.DataFrame, usual: Mapping[str, float]) -> bytes:
    """Draw the clear rate of each agent over each kind of noise, with its interval.

    Args:
        table: Rows with ``agent``, ``no_op_max``, ``sticky_probability``, ``episodes``,
            ``clear_rate``, ``clear_rate_low`` and ``clear_rate_high``.
        usual: What ``no_op_max`` and ``sticky_probability`` are while the other varies.
    """
    with _style():
        figure = Figure(figsize=(_WIDTH, 4.0))
        left, right = figure.subplots(1, 2, sharey=True)
        for axes, varied, held, label in (
            (left, "sticky_probability", "no_op_max", "sticky probability, per frame"),
            (right, "no_op_max", "sticky_probability", "most idle frames at the start"),
        ):
            rows = table.loc[table[held] == usual[held]].sort_values(by=[varied])
            for agent, of_agent in rows.groupby("agent", sort=False):
                rate = of_agent["clear_rate"]
                below = rate - of_agent["clear_rate_low"]
                above = of_agent["clear_rate_high"] - rate
                axes.errorbar(
                    of_agent[varied],
                    rate,
                    (below, above),
                    label=agent,
                    color=_colour(str(agent)),
                    linestyle=_line_style(str(agent)),
                    marker="o",
                    linewidth=2,
                    elinewidth=1,
                )
            axes.set(xlabel=label, ylim=(-0.02, 1.02))
        left.set(title="Clear rate under noise", ylabel="share of the episodes")
        left.yaxis.set_major_formatter(PercentFormatter(1))
        handles, labels = left.get_legend_handles_labels()
        figure.legend(
            handles, labels, frameon=False, loc="outside lower center", ncols=3
        )
        return _png(figure)


def _points(
    axes: Axes, metrics: Mapping[str, Mapping[str, float]], name: str, text: str
) -> None:
    """Draw one point and one interval an agent, with the value above it."""
    for place, (agent, row) in enumerate(metrics.items()):
        value, low, high = row[name], row[f"{name}_low"], row[f"{name}_high"]
        colour = _colour(agent)
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


def _colour(agent: str) -> str:
    return _COLOURS[agent.rstrip("0123456789")]


def _line_style(agent: str) -> str:
    _, _, seed = agent.partition("-seed")
    return _LINE_STYLES[(int(seed or 1) - 1) % len(_LINE_STYLES)]


def _style():
    # The defaults first, so that a matplotlibrc on this machine changes nothing.
    return matplotlib.style.context(["default", _STYLE])


def _png(figure: Figure) -> bytes:
    FigureCanvasAgg(figure)
    buffer = BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
