"""Episode tables to figures: how well agents play, and where they fail.

Every function returns the bytes of a PNG, the same ones for the same tables. A key is a
task and an agent, ``progress_label`` says what progress counts. Colours come in the
order of the agents; those of one recipe share one and differ by marker and line style.
Several tasks have panels of their own.
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
    *("#8C8C8C", "#E69F00", "#0072B2", "#009E73"),
    *("#CC79A7", "#D55E00", "#56B4E9", "#F0E442"),
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
_WHOLE = "{x:,.0f}"
_NOISES = (
    ("sticky_probability", "sticky probability, per {sticky_per}"),
    ("no_op_max", "most idle frames at the start"),
)

# The defaults first, so that a matplotlibrc on this machine changes nothing.
_styled = matplotlib.style.context(
    [
        "default",
        {
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
            "lines.linewidth": 2,
            "ytick.major.pad": 8,
            "ytick.major.size": 0,
        },
    ]
)


@_styled
def agents_figure(
    metrics: Mapping[Key, Mapping[str, float]], progress_label: str
) -> bytes:
    """Draw the success rate and the mean progress of each agent, with their intervals.

    Of each agent it takes ``episodes``, and ``success_rate`` and ``progress_mean``,
    both of them also with ``_low`` and ``_high``.
    """
    styles = _Styles(metrics)
    # A gap between tasks.
    places = [i + styles.tasks.index(task) * 0.6 for i, (task, _) in enumerate(metrics)]
    figure = Figure(figsize=(_WIDTH, 1.3 + 0.45 * (places[-1] + 1)))
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, name, text in (
        (left, "success_rate", "{:.0%}"),
        (right, "progress_mean", "{:,.0f}"),
    ):
        for place, (key, row) in zip(places, metrics.items(), strict=True):
            value, colour = row[name], styles.of(key)["color"]
            bounds = row[f"{name}_low"], row[f"{name}_high"]
            axes.plot(bounds, [place, place], color=colour, linewidth=2.5, alpha=0.6)
            axes.plot(
                value, place, "o", color=colour, markersize=8, clip_on=False, zorder=3
            )
            above = {"textcoords": "offset points", "ha": "center", "fontsize": "small"}
            axes.annotate(text.format(value), (value, place), (0, 8), **above)
        axes.grid(axis="y", visible=False)
    left.set(title="Success rate", xlabel="share of the episodes", xlim=(0, 1))
    left.xaxis.set_major_formatter(PercentFormatter(1))
    right.set(title="Mean progress", xlabel=progress_label, xlim=(0, None))
    right.xaxis.set_major_formatter(_WHOLE)
    labels = [
        f"{styles.named(*key)}  (n = {row['episodes']})" for key, row in metrics.items()
    ]
    left.set_yticks(places, labels)
    left.set_ylim(places[-1] + 0.4, -0.7)
    figure.supxlabel("Lines: 95 % intervals.", fontsize="small", x=0.01, ha="left")
    return _png(figure)


@_styled
def survival_figure(tables: Mapping[Key, pd.DataFrame], progress_label: str) -> bytes:
    """Draw the share of the episodes that got at least so far."""
    styles = _Styles(tables)
    figure, rows = styles.panels(1, 3.3)
    for [axes], task in zip(rows, styles.tasks, strict=True):
        for key in styles.of_task(task):
            line = styles.of(key) | {"marker": None}
            axes.ecdf(tables[key]["progress"], complementary=True, **line)
        title = styles.named(
            f"{task}:", "Share of the episodes that got at least so far"
        )
        axes.set(title=title, xlabel=progress_label, xlim=(0, None), ylim=(0, 1.02))
        axes.xaxis.set_major_formatter(_WHOLE)
        axes.yaxis.set_major_formatter(PercentFormatter(1))
    return _png(figure, rows[0, 0])


@_styled
def deaths_figure(
    tables: Mapping[Key, pd.DataFrame], failures: Sequence[str], progress_label: str
) -> bytes:
    """Draw where each agent fails, and by which cause of ``failures``.

    Where failures have no place, the progress counts.
    """
    styles = _Styles(tables)
    furthest = max(table["progress"].to_numpy().max() for table in tables.values())
    # Whole blocks of a level, or single steps.
    width = max(1, 2 ** int(np.ceil(np.log2(max(furthest, 1) / _BINS))))
    bins = np.arange(0, furthest + 2 * width, width)
    height = 1.4 + (1.3 if len(tables) < 8 else 1) * len(tables)
    figure = Figure(figsize=(_WIDTH, height))
    rows = figure.subplots(len(tables), sharex=True, sharey=True, squeeze=False)
    for axes, (key, table) in zip(rows[:, 0], tables.items(), strict=True):
        causes = table["cause"]
        places = table["place"].astype(float).fillna(table["progress"])
        axes.hist(
            [places[causes == cause] for cause in failures],
            bins,
            stacked=True,
            color=list(_CAUSES[: len(failures)]),
            label=[failure.replace("_", " ") for failure in failures],
        )
        failed, succeeded = causes.isin(failures).sum(), table["success"].sum()
        axes.set_title(
            f"{styles.named(*key)}  (n = {len(table)}): {failed} fail, {succeeded} "
            f"succeed, {len(table) - failed - succeeded} are stopped",
            fontsize="medium",
        )
    rows[0, 0].yaxis.set_major_locator(MaxNLocator(3, integer=True))
    rows[-1, 0].set(xlabel=progress_label, xlim=(0, bins[-1]))
    rows[-1, 0].xaxis.set_major_formatter(_WHOLE)
    figure.supylabel(f"failures per bin of {width}", fontsize="medium")
    return _png(figure, rows[0, 0])


@_styled
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
    figure, rows = styles.panels(2, 2.8, sharex=True)
    for (left, right), task in zip(rows, styles.tasks, strict=True):
        trained = [key for key in styles.of_task(task) if key in curves]
        for axes, column in ((left, "eval_progress"), (right, "eval_success_rate")):
            for key in trained:
                measured = curves[key].dropna(subset=[column])
                line = styles.of(key) | {"clip_on": False, "zorder": 3}
                axes.plot(measured["agent_steps"], measured[column], **line)
            axes.set(xlabel="agent steps of training")
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
            axes.xaxis.set_tick_params(labelbottom=True)
        title = styles.named(f"{task}:", "Mean progress in evaluation")
        left.set(title=title, ylabel=progress_label)
        highest = np.nanmax([0, *(curves[k]["eval_progress"].max() for k in trained)])
        left.set_ylim(0, 1.05 * highest or 1)
        left.yaxis.set_major_formatter(_WHOLE)
        right.set(title="Success rate in evaluation", ylim=(0, 1.02))
        right.yaxis.set_major_formatter(PercentFormatter(1))
    return _png(figure, rows[0, 0])


@_styled
def noise_figure(
    summaries: Mapping[str, Mapping[Key, Mapping[str, float]]],
    conditions: Mapping[str, Mapping[str, Any]],
) -> bytes:
    """Draw the success rate of each agent over each kind of noise, with its interval.

    Args:
        summaries: By noise and agent ``success_rate``, also with ``_low`` and
            ``_high``.
        conditions: By noise ``no_op_max``, ``sticky_probability`` and ``sticky_per``.
            Those of ``default`` are held while one of the first two varies.
    """
    usual, styles = conditions["default"], _Styles(summaries["default"])
    figure, rows = styles.panels(2, 2.8, sharey=True)
    for row, task in zip(rows, styles.tasks, strict=True):
        for axes, (varied, label), (held, _) in zip(
            row, _NOISES, reversed(_NOISES), strict=True
        ):
            alike = [
                name
                for name, condition in conditions.items()
                if all(condition[key] == usual[key] for key in (held, "sticky_per"))
            ]
            names = sorted(alike, key=lambda name: conditions[name][varied])
            values = [conditions[name][varied] for name in names]
            span = np.ptp(values) or 1.0
            keys = styles.of_task(task)
            # Side by side, or an agent would hide behind another one.
            apart = min(_DODGE, _DODGE_MAX / max(len(keys) - 1, 1)) * span
            for place, key in enumerate(keys):
                drawn = pd.DataFrame([summaries[name][key] for name in names])
                rate = drawn["success_rate"]
                low, high = drawn["success_rate_low"], drawn["success_rate_high"]
                axes.errorbar(
                    np.array(values, float) + (place - (len(keys) - 1) / 2) * apart,
                    rate,
                    ((rate - low).clip(lower=0), (high - rate).clip(lower=0)),
                    elinewidth=1,
                    clip_on=False,
                    zorder=3,
                    **styles.of(key),
                )
            axes.set_xticks(values, [f"{value:g}" for value in values])
            axes.set_xlim(min(values) - 0.06 * span, max(values) + 0.06 * span)
            axes.set(xlabel=label.format(**usual), ylim=(0, 1.02))
        row[0].set(title=styles.named(f"{task}:", "Success rate under noise"))
        row[0].yaxis.set_major_formatter(PercentFormatter(1))
    return _png(figure, rows[0, 0])


class _Styles:
    """How agents are drawn, by their order: no name is known here."""

    def __init__(self, keys: Iterable[Key]) -> None:
        self._keys = list(keys)
        self.tasks = list(dict.fromkeys(task for task, _ in self._keys))
        self._seeds: dict[str, list[str]] = {}
        for agent in dict.fromkeys(agent for _, agent in self._keys):
            self._seeds.setdefault(_recipe(agent), []).append(agent)

    def of_task(self, task: str) -> list[Key]:
        return [key for key in self._keys if key[0] == task]

    def named(self, task: str, name: str) -> str:
        """Return what something of a task is called beside that of all tasks."""
        return name if len(self.tasks) == 1 else f"{task} {name}"

    def of(self, key: Key) -> dict[str, Any]:
        """Return the style of an agent's line."""
        recipe = _recipe(key[1])
        place, seed = list(self._seeds).index(recipe), self._seeds[recipe].index(key[1])
        return {
            "label": key[1],
            "color": _PALETTE[place % len(_PALETTE)],
            "linestyle": _LINE_STYLES[seed % len(_LINE_STYLES)],
            "marker": _MARKERS[seed % len(_MARKERS)],
        }

    def panels(
        self, columns: int, height: float, **shared: Any
    ) -> tuple[Figure, np.ndarray]:
        """Return a figure with a row of axes a task, so many inches high."""
        figure = Figure(figsize=(_WIDTH, 1.2 + height * len(self.tasks)))
        return figure, figure.subplots(
            len(self.tasks), columns, squeeze=False, **shared
        )


def _recipe(agent: str) -> str:
    """Return an agent's name without its seed."""
    recipe, dash, seed = agent.rpartition("-")
    return recipe if dash and seed.isdecimal() else agent


def _png(figure: Figure, legend: Axes | None = None) -> bytes:
    """Return a figure with the legend of one of its axes."""
    if legend is not None:
        handles, labels = legend.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4)
    FigureCanvasAgg(figure)
    buffer = BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
