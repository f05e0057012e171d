"""Episode tables to figures: how well agents play, and where they fail.

Every function returns the bytes of a PNG, the same ones for the same tables. A key is a
task and an agent. Colours come in the order of the agents; those of one recipe share
one and differ by marker and line style. Several tasks have panels of their own.
"""

from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from typing import Any

import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator, PercentFormatter

type Key = tuple[str, str]
"""A task and an agent."""

# Okabe and Ito's palette, which colour-blind people can tell apart, after a grey for
# whoever comes first, https://jfly.uni-koeln.de/color/.
_PALETTE = (
    "#8C8C8C",
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
_DODGE = 0.012
_DODGE_MAX = 0.06
"""How far agents are drawn apart, the next and all, as shares of the axis."""
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
    "figure.constrained_layout.wspace": 0.05,
    "grid.color": "#E4E4E4",
    "legend.frameon": False,
    "legend.handlelength": 3.5,
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
    styles = _Styles(metrics)
    # A gap between tasks.
    places = [place + styles.task(key) * 0.6 for place, key in enumerate(metrics)]
    with _style():
        figure = Figure(figsize=(_WIDTH, 1.3 + 0.45 * (places[-1] + 1)))
        left, right = figure.subplots(1, 2, sharey=True)
        for axes, name, text in (
            (left, "success_rate", "{:.0%}"),
            (right, "progress_mean", "{:,.0f}"),
        ):
            for place, (key, row) in zip(places, metrics.items(), strict=True):
                bounds = row[f"{name}_low"], row[f"{name}_high"]
                _point(axes, place, row[name], bounds, styles.colour(key), text)
            axes.grid(axis="y", visible=False)
        left.set(title="Success rate", xlabel="share of the episodes", xlim=(0, 1))
        left.xaxis.set_major_formatter(PercentFormatter(1))
        right.set(title="Mean progress", xlabel=progress_label, xlim=(0, None))
        right.xaxis.set_major_formatter("{x:,.0f}")
        left.set_yticks(
            places,
            [
                f"{styles.name(k)}  (n = {row['episodes']})"
                for k, row in metrics.items()
            ],
        )
        left.set_ylim(places[-1] + 0.4, -0.7)
        figure.supxlabel("Lines: 95 % intervals.", fontsize="small", x=0.01, ha="left")
        return _png(figure)


def survival_figure(tables: Mapping[Key, pd.DataFrame], progress_label: str) -> bytes:
    """Draw the share of the episodes that got at least so far."""
    styles = _Styles(tables)
    with _style():
        figure = Figure(figsize=(_WIDTH, 1.2 + 3.3 * len(styles.tasks)))
        rows = figure.subplots(len(styles.tasks), squeeze=False)
        for axes, task in zip(rows[:, 0], styles.tasks, strict=True):
            for key in styles.of_task(task):
                axes.ecdf(
                    tables[key]["progress"],
                    complementary=True,
                    label=key[1],
                    color=styles.colour(key),
                    linestyle=styles.line(key),
                    linewidth=2,
                )
            axes.set(
                title=styles.title(
                    task, "Share of the episodes that got at least so far"
                ),
                xlabel=progress_label,
                xlim=(0, None),
                ylim=(0, 1.02),
            )
            axes.xaxis.set_major_formatter("{x:,.0f}")
            axes.yaxis.set_major_formatter(PercentFormatter(1))
        _legend(figure, rows[0, 0])
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
    styles = _Styles(tables)
    furthest = max(table["progress"].to_numpy().max() for table in tables.values())
    # Whole blocks of a level, or single steps.
    width = max(1, 2 ** int(np.ceil(np.log2(max(furthest, 1) / _BINS))))
    bins = np.arange(0, furthest + 2 * width, width)
    with _style():
        figure = Figure(
            figsize=(_WIDTH, 1.4 + (1.3 if len(tables) < 8 else 1) * len(tables))
        )
        rows = figure.subplots(len(tables), sharex=True, sharey=True, squeeze=False)
        for axes, (key, table) in zip(rows[:, 0], tables.items(), strict=True):
            causes = table["cause"].to_numpy()
            places = table["place"].to_numpy(float, na_value=np.nan)
            places = np.where(np.isnan(places), table["progress"].to_numpy(), places)
            axes.hist(
                [places[causes == cause] for cause in failures],
                bins,
                stacked=True,
                color=list(_CAUSES[: len(failures)]),
                label=[failure.replace("_", " ") for failure in failures],
            )
            failed = int(np.isin(causes, failures).sum())
            succeeded = int(table["success"].to_numpy().sum())
            axes.set_title(
                f"{styles.name(key)}  (n = {len(table)}): {failed} fail, {succeeded} "
                f"succeed, {len(table) - failed - succeeded} are stopped",
                fontsize="medium",
            )
        rows[0, 0].yaxis.set_major_locator(MaxNLocator(3, integer=True))
        rows[-1, 0].set(xlabel=progress_label, xlim=(0, bins[-1]))
        rows[-1, 0].xaxis.set_major_formatter("{x:,.0f}")
        figure.supylabel(f"failures per bin of {width}", fontsize="medium")
        _legend(figure, rows[0, 0])
        return _png(figure)


def learning_figure(
    curves: Mapping[Key, pd.DataFrame], agents: Iterable[Key], progress_label: str
) -> bytes:
    """Draw how far agents get, and how often they succeed, while they learn.

    Args:
        curves: Of each agent, rows with ``agent_steps``, and ``eval_progress`` and
            ``eval_success_rate`` where the policy was evaluated: the first row is what
            it starts from.
        agents: All that other figures show, so that colours agree with theirs.
        progress_label: What progress counts.
    """
    styles = _Styles(agents)
    with _style():
        figure = Figure(figsize=(_WIDTH, 1.2 + 2.8 * len(styles.tasks)))
        rows = figure.subplots(len(styles.tasks), 2, sharex=True, squeeze=False)
        for (left, right), task in zip(rows, styles.tasks, strict=True):
            trained = [key for key in styles.of_task(task) if key in curves]
            for axes, column in ((left, "eval_progress"), (right, "eval_success_rate")):
                for key in trained:
                    measured = curves[key].dropna(subset=[column])
                    axes.plot(
                        measured["agent_steps"],
                        measured[column],
                        label=key[1],
                        color=styles.colour(key),
                        linestyle=styles.line(key),
                        marker=styles.marker(key),
                        linewidth=2,
                        clip_on=False,
                        zorder=3,
                    )
                axes.set(xlabel="agent steps of training")
                axes.xaxis.set_major_formatter(EngFormatter(sep=""))
                axes.xaxis.set_tick_params(labelbottom=True)
            title = styles.title(task, "Mean progress in evaluation")
            left.set(title=title, ylabel=progress_label)
            highest = np.nanmax(
                [0, *(curves[key]["eval_progress"].max() for key in trained)]
            )
            left.set_ylim(0, 1.05 * highest or 1)
            left.yaxis.set_major_formatter("{x:,.0f}")
            right.set(title="Success rate in evaluation", ylim=(0, 1.02))
            right.yaxis.set_major_formatter(PercentFormatter(1))
        _legend(figure, rows[0, 0])
        return _png(figure)


def noise_figure(
    summaries: Mapping[str, Mapping[Key, Mapping[str, float]]],
    conditions: Mapping[str, Mapping[str, Any]],
) -> bytes:
    """Draw the success rate of each agent over each kind of noise, with its interval.

    Args:
        summaries: By noise and agent ``success_rate``, also with ``_low`` and
            ``_high``.
        conditions: By noise ``no_op_max`` and ``sticky_probability``. Those of
            ``default`` are held while the other one varies.
    """
    usual, styles = conditions["default"], _Styles(summaries["default"])
    with _style():
        figure = Figure(figsize=(_WIDTH, 1.2 + 2.8 * len(styles.tasks)))
        rows = figure.subplots(len(styles.tasks), 2, sharey=True, squeeze=False)
        for (left, right), task in zip(rows, styles.tasks, strict=True):
            for axes, varied, held, label in (
                (
                    left,
                    "sticky_probability",
                    "no_op_max",
                    "sticky probability, per frame",
                ),
                (
                    right,
                    "no_op_max",
                    "sticky_probability",
                    "most idle frames at the start",
                ),
            ):
                names = sorted(
                    (
                        name
                        for name in conditions
                        if conditions[name][held] == usual[held]
                    ),
                    key=lambda name: conditions[name][varied],
                )
                _noise_lines(
                    axes,
                    [conditions[name][varied] for name in names],
                    {
                        key: [summaries[name][key] for name in names]
                        for key in styles.of_task(task)
                    },
                    styles,
                )
                axes.set(xlabel=label, ylim=(0, 1.02))
            left.set(title=styles.title(task, "Success rate under noise"))
            left.yaxis.set_major_formatter(PercentFormatter(1))
        _legend(figure, rows[0, 0])
        return _png(figure)


class _Styles:
    """How agents are drawn, by their order: no name is known here."""

    def __init__(self, keys: Iterable[Key]) -> None:
        self._keys = list(keys)
        self.tasks = list(dict.fromkeys(task for task, _ in self._keys))
        self._agents: dict[str, list[str]] = {}
        for agent in dict.fromkeys(agent for _, agent in self._keys):
            self._agents.setdefault(_recipe(agent), []).append(agent)

    def of_task(self, task: str) -> list[Key]:
        return [key for key in self._keys if key[0] == task]

    def task(self, key: Key) -> int:
        """Return the place of a key's task among the tasks."""
        return self.tasks.index(key[0])

    def name(self, key: Key) -> str:
        """Return what an agent is called beside those of all tasks."""
        return self._named(*key)

    def title(self, task: str, title: str) -> str:
        """Return the title of what shows one task."""
        return self._named(f"{task}:", title)

    def _named(self, task: str, name: str) -> str:
        return name if len(self.tasks) == 1 else f"{task} {name}"

    def colour(self, key: Key) -> str:
        place = list(self._agents).index(_recipe(key[1]))
        return _PALETTE[place % len(_PALETTE)]

    def line(self, key: Key) -> str:
        return _LINE_STYLES[self._seed(key) % len(_LINE_STYLES)]

    def marker(self, key: Key) -> str:
        return _MARKERS[self._seed(key) % len(_MARKERS)]

    def _seed(self, key: Key) -> int:
        """Return the place of an agent among those of its recipe."""
        return self._agents[_recipe(key[1])].index(key[1])


def _recipe(agent: str) -> str:
    """Return an agent's name without its seed."""
    recipe, dash, seed = agent.rpartition("-")
    return recipe if dash and seed.isdecimal() else agent


def _point(
    axes: Axes,
    place: float,
    value: float,
    bounds: tuple[float, float],
    colour: str,
    text: str,
) -> None:
    """Draw a point with its interval, and the value above it."""
    axes.plot(bounds, [place, place], color=colour, linewidth=2.5, alpha=0.6)
    axes.plot(value, place, "o", color=colour, markersize=8, clip_on=False, zorder=3)
    axes.annotate(
        text.format(value),
        (value, place),
        (0, 8),
        textcoords="offset points",
        ha="center",
        fontsize="small",
    )


def _noise_lines(
    axes: Axes,
    values: Sequence[float],
    agents: Mapping[Key, Sequence[Mapping[str, float]]],
    styles: _Styles,
) -> None:
    """Draw the success rates of agents over the values of a noise."""
    span = np.ptp(values) or 1.0
    # Side by side, or an agent would hide behind another one.
    apart = min(_DODGE, _DODGE_MAX / max(len(agents) - 1, 1)) * span
    for place, (key, rows) in enumerate(agents.items()):
        rate = np.array([row["success_rate"] for row in rows])
        low = rate - [row["success_rate_low"] for row in rows]
        high = [row["success_rate_high"] for row in rows] - rate
        axes.errorbar(
            np.array(values, float) + (place - (len(agents) - 1) / 2) * apart,
            rate,
            (np.maximum(low, 0), np.maximum(high, 0)),
            label=key[1],
            color=styles.colour(key),
            linestyle=styles.line(key),
            marker=styles.marker(key),
            linewidth=2,
            elinewidth=1,
            clip_on=False,
            zorder=3,
        )
    axes.set_xticks(values, [f"{value:g}" for value in values])
    axes.set_xlim(min(values) - 0.06 * span, max(values) + 0.06 * span)


def _legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4)


def _style():
    # The defaults first, so that a matplotlibrc on this machine changes nothing.
    return matplotlib.style.context(["default", _STYLE])


def _png(figure: Figure) -> bytes:
    FigureCanvasAgg(figure)
    buffer = BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
