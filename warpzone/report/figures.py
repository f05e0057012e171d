"""Episode tables to charts: how well agents play, how they learn, and where they fail.

Every function returns the bytes of a PNG, the same ones for the same tables; ``theme``
is ``light`` or ``dark``. A key is a task and an agent, ``progress_label`` says what
progress counts. `warpzone.report.look` says how an agent is drawn. Several tasks have
panels of their own.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator, PercentFormatter

from warpzone.core.names import NOISE
from warpzone.envs.registry import env_class
from warpzone.episodes.recording import Recording
from warpzone.episodes.statistics import wilson
from warpzone.episodes.table import places_of
from warpzone.report.look import (
    SMALL,
    WHOLE,
    WIDTH,
    Key,
    Styles,
    colour_of_cause,
    colours_of,
    dodge,
    png,
    recipe_of,
    style_of_term,
    styled,
)

_BINS = 50
"""Bars of the histogram of failures, at most."""
_DODGE_MAX = 0.08
_DODGE = 0.02
"""How far agents are drawn apart, all and the next, as shares of the axis."""
_NOISES = (
    ("sticky_probability", "sticky probability, per {sticky_unit}"),
    ("no_op_max", "most idle frames at the start"),
)
_NO_NOISE = ("episodes", "reference")
"""Of a condition, what is not varied on purpose."""


@styled
def agents_figure(
    metrics: Mapping[Key, Mapping[str, float]],
    progress_label: str,
    *,
    theme: str = "light",
) -> bytes:
    """Draw the success rate and the mean progress of each agent, with their intervals.

    Of each agent it takes ``distinct_episodes``, and ``success_rate`` and
    ``progress_mean``, both of them also with ``_low`` and ``_high``.
    """
    styles = Styles(metrics)
    # A gap between tasks.
    places = [i + styles.tasks.index(task) * 0.6 for i, (task, _) in enumerate(metrics)]
    figure = Figure(figsize=(WIDTH, 1.2 + 0.42 * (places[-1] + 1)))
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
            above = {"textcoords": "offset points", "ha": "center", "fontsize": SMALL}
            axes.annotate(text.format(value), (value, place), (0, 8), **above)
        axes.grid(axis="y", visible=False)
    left.set(title="Success rate", xlabel="share of the episodes", xlim=(0, 1))
    left.xaxis.set_major_formatter(PercentFormatter(1))
    right.set(title="Mean progress", xlabel=progress_label, xlim=(0, None))
    right.xaxis.set_major_formatter(WHOLE)
    right.xaxis.set_major_locator(MaxNLocator(4))
    labels = [
        f"{styles.named(*key)} (n = {row['distinct_episodes']})"
        for key, row in metrics.items()
    ]
    left.set_yticks(places, labels)
    left.set_ylim(places[-1] + 0.4, -0.7)
    return png(figure, note="Lines: 95 % intervals")


@styled
def conditions_figure(
    summaries: Mapping[str, Mapping[Key, Mapping[str, float]]], *, theme: str = "light"
) -> bytes:
    """Draw the success rate of each agent under each noise, with its interval.

    By noise and agent it takes ``episodes``, ``success_rate``, also with ``_low`` and
    ``_high``.
    """
    names = list(summaries)
    styles = Styles(summaries[names[0]])
    most = max(len(styles.of_task(task)) for task in styles.tasks)
    figure, rows = styles.panels(1, 0.5 + len(names) * (0.2 + 0.14 * most))
    for [axes], task in zip(rows, styles.tasks, strict=True):
        keys = styles.of_task(task)
        for offset, key in zip(dodge(len(keys), 0.64), keys, strict=True):
            drawn = pd.DataFrame([summaries[name][key] for name in names])
            _with_intervals(axes, drawn, np.arange(len(names)) + offset, styles.of(key))
        episodes = [summaries[name][keys[0]]["episodes"] for name in names]
        labels = [f"{n} (n = {e})" for n, e in zip(names, episodes, strict=True)]
        axes.set_yticks(range(len(names)), labels)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.grid(axis="y", visible=False)
        # Every second condition is shaded.
        for place in range(1, len(names), 2):
            shade = colours_of(theme)["grid"]
            axes.axhspan(place - 0.5, place + 0.5, color=shade, alpha=0.4, zorder=0)
        title = styles.named(f"{task}:", "Success rate by condition")
        axes.set(title=title, xlabel="share of the episodes", xlim=(0, 1))
        axes.xaxis.set_major_formatter(PercentFormatter(1))
    return png(figure, rows[0, 0], "Lines: 95 % intervals (Wilson)")


def _with_intervals(
    axes: Axes, drawn: pd.DataFrame, places: np.ndarray, style: Mapping[str, Any]
) -> None:
    """Draw success rates from left to right, one below the other."""
    rate = drawn["success_rate"]
    low, high = drawn["success_rate_low"], drawn["success_rate_high"]
    axes.errorbar(
        rate,
        places,
        xerr=((rate - low).clip(lower=0), (high - rate).clip(lower=0)),
        elinewidth=1.5,
        markersize=6,
        clip_on=False,
        zorder=3,
        **{**style, "linestyle": ""},
    )


@styled
def survival_figure(
    tables: Mapping[Key, pd.DataFrame], progress_label: str, *, theme: str = "light"
) -> bytes:
    """Draw the performance profile: the share of the episodes that got at least so far.

    Bands are pointwise 95 % intervals, Wilson's. Profiles are those of Agarwal et al.
    2021, https://arxiv.org/abs/2108.13264.
    """
    styles = Styles(tables)
    furthest = max(table["progress"].to_numpy().max() for table in tables.values())
    right = 1.02 * furthest or 1.0
    figure, rows = styles.panels(1, 3.2)
    for [axes], task in zip(rows, styles.tasks, strict=True):
        keys = styles.of_task(task)
        for place, key in enumerate(keys):
            progress = np.sort(tables[key]["progress"].to_numpy())
            at = np.unique(progress)
            reached = len(progress) - np.searchsorted(progress, at)
            x = np.array([0, *at, at[-1], right])
            counts = [len(progress), *reached, 0, 0]
            bounds = [wilson(int(count), len(progress)) for count in counts]
            line = styles.of(key) | {"marker": None}
            # The first ones are broad, so that they show beside an equal one.
            line["linewidth"] = 2 + 1.5 * (len(keys) - 1 - place) / max(len(keys), 4)
            share = np.array(counts) / len(progress)
            axes.plot(x, share, drawstyle="steps-pre", **line)
            low, high = np.array(bounds).T
            band = {"color": line["color"], "alpha": 0.18, "linewidth": 0}
            axes.fill_between(x, low, high, step="pre", **band)
        title = styles.named(
            f"{task}:", "Share of the episodes that got at least so far"
        )
        axes.set(title=title, xlabel=progress_label, xlim=(0, right), ylim=(0, 1.02))
        axes.xaxis.set_major_formatter(WHOLE)
        axes.yaxis.set_major_formatter(PercentFormatter(1))
    return png(figure, rows[0, 0], "Bands: 95 % intervals (Wilson) at each point")


@styled
def deaths_figure(
    tables: Mapping[Key, pd.DataFrame],
    failures: Sequence[str],
    progress_label: str,
    *,
    theme: str = "light",
) -> bytes:
    """Draw where each agent fails, and by which cause of ``failures``."""
    styles = Styles(tables)
    furthest = max(table["progress"].to_numpy().max() for table in tables.values())
    # Whole blocks of a level, or single steps.
    width = max(1, 2 ** int(np.ceil(np.log2(max(furthest, 1) / _BINS))))
    bins = np.arange(0, furthest + 2 * width, width)
    height = 1.2 + (1.15 if len(tables) < 8 else 0.9) * len(tables)
    figure = Figure(figsize=(WIDTH, height))
    rows = figure.subplots(len(tables), sharex=True, sharey=True, squeeze=False)
    for axes, (key, table) in zip(rows[:, 0], tables.items(), strict=True):
        causes = table["cause"]
        places = places_of(table)
        axes.hist(
            [places[causes == cause] for cause in failures],
            bins,
            stacked=True,
            color=[colour_of_cause(place) for place in range(len(failures))],
            label=[failure.replace("_", " ") for failure in failures],
        )
        failed, succeeded = causes.isin(failures).sum(), table["success"].sum()
        axes.set_title(
            f"{styles.named(*key)} (n = {len(table)}): {failed} fail, {succeeded} "
            f"succeed, {len(table) - failed - succeeded} are stopped",
            fontsize=10,
            color=styles.colour(key[1]),
        )
    rows[0, 0].yaxis.set_major_locator(MaxNLocator(3, integer=True))
    rows[-1, 0].set(xlabel=progress_label, xlim=(0, bins[-1]))
    rows[-1, 0].xaxis.set_major_formatter(WHOLE)
    figure.supylabel(f"failures per bin of {width}", fontsize=10)
    return png(figure, rows[0, 0])


@styled
def learning_figure(
    curves: Mapping[Key, pd.DataFrame],
    agents: Iterable[Key],
    progress_label: str,
    *,
    frame_skip: int = 1,
    theme: str = "light",
) -> bytes:
    """Draw how far agents get, and how often they succeed, while they learn.

    Of a recipe with several seeds there is the mean and the range of the seeds, where
    all of them were evaluated.

    Args:
        curves: Of each agent, rows with ``agent_steps``, and ``eval_progress`` and
            ``eval_success_rate`` where the policy was evaluated: the first row is what
            it starts from.
        agents: All that other figures show, so that colours agree with theirs.
        progress_label: What progress counts.
        frame_skip: Emulator frames of an agent step. With more than 1, an axis above
            counts them.
        theme: ``light`` or ``dark``.
    """
    styles = Styles([*agents, *curves])
    figure, rows = styles.panels(2, 2.9, sharex=True)
    seeds = 1
    for (left, right), task in zip(rows, styles.tasks, strict=True):
        recipes: dict[str, list[Key]] = {}
        for key in styles.of_task(task):
            if key in curves:
                recipes.setdefault(recipe_of(key[1]), []).append(key)
        seeds = max(seeds, *map(len, recipes.values()), 1)
        for axes, column in ((left, "eval_progress"), (right, "eval_success_rate")):
            for recipe, keys in recipes.items():
                _draw_recipe(axes, recipe, keys, curves, column, styles)
            axes.set(xlabel="agent steps of training")
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
            axes.xaxis.set_major_locator(MaxNLocator(5))
            axes.xaxis.set_tick_params(labelbottom=True)
            if frame_skip > 1:
                _count_frames(axes, frame_skip)
        title = styles.named(f"{task}:", "Mean progress in evaluation")
        left.set(title=title, ylabel=progress_label)
        drawn = [curves[key]["eval_progress"].max() for key in curves if key[0] == task]
        left.set_ylim(0, 1.05 * np.nanmax([0, *drawn]) or 1)
        left.yaxis.set_major_formatter(WHOLE)
        right.set(title="Success rate in evaluation", ylim=(0, 1.02))
        right.yaxis.set_major_formatter(PercentFormatter(1))
    bands = "Bands: lowest to highest seed; thin lines: single seeds"
    return png(figure, rows[0, 0], bands if seeds > 1 else None)


@styled
def training_figure(
    curves: Mapping[Key, pd.DataFrame], *, theme: str = "light"
) -> bytes:
    """Draw what each term of the reward paid in an episode, while agents learned.

    Where an agent followed a curriculum, steps behind the lines show its stages.

    Args:
        curves: Of each agent, rows with ``agent_steps`` and one or more columns
            ``reward_TERM`` or ``curriculum_stage``, which a level may follow.
        theme: ``light`` or ``dark``.
    """
    styles = Styles(curves)
    terms = dict.fromkeys(
        name.removeprefix("reward_")
        for curve in curves.values()
        for name in curve.filter(regex="^reward_")
    )
    figure = Figure(figsize=(WIDTH, 1.0 + 2.2 * len(curves)))
    rows = figure.subplots(len(curves), squeeze=False, sharex=True)
    for [axes], (key, curve) in zip(rows, curves.items(), strict=True):
        for place, term in enumerate(terms):
            paid = curve.get(f"reward_{term}", pd.Series(np.nan, curve.index))
            label = term.replace("_", " ")
            axes.plot(curve["agent_steps"], paid, label=label, **style_of_term(place))
        title = f"{styles.named(*key)}: what each term of the reward paid"
        axes.set(title=title, ylabel="mean an episode")
        stages = curve.filter(regex="^curriculum_stage")
        if len(stages.columns):
            _draw_stages(axes, stages.set_index(curve["agent_steps"]), theme)
    rows[-1, 0].set_xlabel("agent steps of training")
    rows[-1, 0].xaxis.set_major_formatter(EngFormatter(sep=""))
    return png(figure, rows[0, 0])


def _draw_stages(axes: Axes, stages: pd.DataFrame, theme: str) -> None:
    """Draw the stages of a curriculum behind what is there, with an axis of their own.

    Their index is agent steps. Of levels with stages of their own, it is their mean.
    """
    behind = axes.twinx()
    shade = {"step": "post", "color": colours_of(theme)["grid"], "linewidth": 0}
    behind.fill_between(stages.index, stages.mean(axis=1), **shade)
    behind.set_ylim(0, max(1, 1.25 * stages.to_numpy().max()))
    behind.set_ylabel("stage of the curriculum")
    behind.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    behind.grid(visible=False)
    axes.set_zorder(behind.get_zorder() + 1)
    axes.patch.set_visible(False)


def has_terms(curve: pd.DataFrame) -> bool:
    """Whether `training_figure` has anything to draw of an agent."""
    return len(curve.filter(regex="^(reward_|curriculum_stage)").columns) > 0


def _draw_recipe(
    axes: Axes,
    recipe: str,
    keys: Sequence[Key],
    curves: Mapping[Key, pd.DataFrame],
    column: str,
    styles: Styles,
) -> None:
    """Draw the evaluations of a recipe's seeds."""
    drawn_over: dict[str, Any] = {"clip_on": False, "zorder": 3}
    evaluated = [
        curves[key].dropna(subset=[column]).groupby("agent_steps")[column].last()
        for key in keys
    ]
    if len(keys) == 1:
        style = styles.of(keys[0])
        axes.plot(evaluated[0].index, evaluated[0], **style | drawn_over)
        return
    thin: dict[str, Any] = {
        "linewidth": 1,
        "alpha": 0.6,
        "markersize": 4,
        "label": None,
    }
    for key, points in zip(keys, evaluated, strict=True):
        axes.plot(points.index, points, **styles.of(key) | thin | drawn_over)
    # Where one seed has stopped, the mean of the others would say something else.
    shared = pd.concat(evaluated, axis=1, join="inner").sort_index()
    colour, steps = styles.colour(keys[0][1]), shared.index.to_numpy()
    label = f"{recipe} (mean of {len(keys)} seeds)"
    style: dict[str, Any] = {"color": colour, "marker": "o", "label": label}
    axes.plot(steps, shared.mean(axis=1), **style | drawn_over)
    low, high = shared.min(axis=1), shared.max(axis=1)
    axes.fill_between(steps, low, high, color=colour, alpha=0.18, linewidth=0)


def _count_frames(axes: Axes, frame_skip: int) -> None:
    """Add an axis above that counts emulator frames."""
    above = axes.secondary_xaxis(
        "top",
        (
            lambda x: np.asarray(x) * frame_skip,
            lambda x: np.asarray(x) / frame_skip,
        ),
    )
    above.set_xlabel(f"emulator frames ({frame_skip} an agent step)", fontsize=SMALL)
    above.tick_params(labelsize=SMALL)
    above.xaxis.set_major_formatter(EngFormatter(sep=""))
    above.xaxis.set_major_locator(MaxNLocator(5))


@styled
def noise_figure(
    summaries: Mapping[str, Mapping[Key, Mapping[str, float]]],
    conditions: Mapping[str, Mapping[str, Any]],
    *,
    theme: str = "light",
) -> bytes:
    """Draw the success rate of each agent over each kind of noise, with its interval.

    Args:
        summaries: By noise and agent ``success_rate``, also with ``_low`` and
            ``_high``.
        conditions: By noise ``no_op_max`` and ``sticky_probability``, and whatever
            else it says. One varies, all else is that of ``default``.
        theme: ``light`` or ``dark``.
    """
    usual, styles = conditions[NOISE], Styles(summaries[NOISE])
    figure, rows = styles.panels(2, 2.8, sharey=True)
    for row, task in zip(rows, styles.tasks, strict=True):
        for axes, (varied, label) in zip(row, _NOISES, strict=True):
            free = {varied, *_NO_NOISE}
            held = {name: value for name, value in usual.items() if name not in free}
            alike = [n for n in conditions if held.items() <= conditions[n].items()]
            names = sorted(alike, key=lambda name: conditions[name][varied])
            values = [conditions[name][varied] for name in names]
            span = np.ptp(values) or 1.0
            keys = styles.of_task(task)
            # Side by side, or an agent would hide behind another one.
            apart = min(_DODGE * (len(keys) - 1), _DODGE_MAX) * span
            for offset, key in zip(dodge(len(keys), apart), keys, strict=True):
                drawn = pd.DataFrame([summaries[name][key] for name in names])
                rate = drawn["success_rate"]
                low, high = drawn["success_rate_low"], drawn["success_rate_high"]
                axes.errorbar(
                    np.array(values, float) + offset,
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
    return png(figure, rows[0, 0])


@styled
def actions_figure(
    recordings: Mapping[Key, Sequence[Recording]], *, theme: str = "light"
) -> bytes:
    """Draw the share of each action in an agent's decisions.

    Raises:
        ValueError: If an agent has no recording.
    """
    styles = Styles(recordings)
    for task, agent in recordings:
        if not recordings[task, agent]:
            raise ValueError(f"{agent} has no recording of {task}")
    counts = {
        key: Counter(code for one in of_agent for code in one.decided)
        for key, of_agent in recordings.items()
    }
    codes = sorted({code for of_agent in counts.values() for code in of_agent})
    name = env_class(next(iter(recordings.values()))[0].env).code_name
    most = max(len(styles.of_task(task)) for task in styles.tasks)
    figure, rows = styles.panels(1, 0.3 + len(codes) * (0.1 + 0.14 * most))
    for [axes], task in zip(rows, styles.tasks, strict=True):
        keys = styles.of_task(task)
        for offset, key in zip(dodge(len(keys), 0.6), keys, strict=True):
            shares = np.array([counts[key][code] for code in codes])
            shares = shares / shares.sum()
            places = np.arange(len(codes)) + offset
            style = styles.of(key)
            thick = 0.6 / max(len(keys) - 1, 1) * 0.9
            colour, label = style["color"], style["label"]
            axes.barh(places, shares, thick, color=colour, label=label)
            for place, share in zip(places, shares, strict=True):
                axes.annotate(
                    f"{share:.0%}" if share >= 0.005 or share == 0 else "< 1%",
                    (share, place),
                    (3, 0),
                    textcoords="offset points",
                    va="center",
                    fontsize=SMALL,
                )
        axes.set_yticks(range(len(codes)), [name(code) for code in codes])
        axes.set_ylim(len(codes) - 0.5, -0.5)
        axes.grid(axis="y", visible=False)
        title = styles.named(f"{task}:", "What agents do")
        axes.set(title=title, xlabel="share of the decisions", xlim=(0, None))
        axes.xaxis.set_major_formatter(PercentFormatter(1))
    return png(figure, rows[0, 0])


@styled
def confusion_figure(
    confusions: Mapping[str, pd.DataFrame], *, theme: str = "light"
) -> bytes:
    """Draw what the clone does where its teacher does something.

    Args:
        confusions: By task, a row a decision: ``actual`` is the teacher's, and
            ``predicted`` the clone's.
        theme: ``light`` or ``dark``.

    Raises:
        ValueError: If there are no decisions.
    """
    for task, table in confusions.items():
        if len(table) == 0:
            raise ValueError(f"the confusion of {task} has no rows")
    tables = {task: _crossed(table) for task, table in confusions.items()}
    height = sum(0.9 + 0.42 * len(table) for table in tables.values())
    figure = Figure(figsize=(WIDTH, height + 0.2))
    ratios = [0.5 + len(table) for table in tables.values()]
    rows = figure.subplots(len(tables), squeeze=False, height_ratios=ratios)
    colours = colours_of(theme)
    scale = LinearSegmentedColormap.from_list("", [colours["back"], "#0072B2"])
    for [axes], (task, table) in zip(rows, tables.items(), strict=True):
        totals = table.sum(axis=1)
        shares = table.div(totals.clip(lower=1), axis=0)
        axes.imshow(shares, cmap=scale, vmin=0, vmax=1, aspect="auto")
        for (row, column), share in np.ndenumerate(shares.to_numpy()):
            count = table.iloc[row, column]
            axes.text(
                column,
                row,
                f"{count:,}  ({share:.1%})" if count else "0",
                ha="center",
                va="center",
                color="#FFFFFF" if share > 0.5 else colours["text"],
            )
        named = [f"{name} (n = {totals[name]:,})" for name in table]
        axes.set_yticks(range(len(named)), named)
        axes.set_xticks(range(len(named)), list(table))
        axes.tick_params(bottom=False)
        axes.set_xticks(np.arange(len(named) + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(len(named) + 1) - 0.5, minor=True)
        axes.tick_params(which="minor", length=0)
        axes.grid(visible=False)
        axes.grid(which="minor", color=colours["grid"], linewidth=1)
        axes.spines["bottom"].set_visible(False)
        title = "What the clone does, by what its teacher does"
        if len(tables) > 1:
            title = f"{task}: {title}"
        axes.set(title=title, xlabel="the clone's action", ylabel="the teacher's")
    return png(figure)


def _crossed(decisions: pd.DataFrame) -> pd.DataFrame:
    """Return how often each action met each other one, the most frequent first."""
    both = pd.concat([decisions["actual"], decisions["predicted"]])
    names = both.value_counts(sort=False).sort_index()
    order = names.sort_values(ascending=False, kind="stable").index
    crossed = pd.crosstab(decisions["actual"], decisions["predicted"])
    return crossed.reindex(index=order, columns=order, fill_value=0)
