"""Compare all agents: tables, figures and a report.

Reads data/episodes/ENV/TASK/AGENT/NOISE.csv of every task, agent and noise that
params.yaml names, default.jsonl beside it, plots/train_rl/ENV/TASK/AGENT.csv and
plots/pretrain_bc/ENV/TASK/confusion.csv. Writes metrics/compare/ENV.json,
plots/compare/ENV/{agents,noise,survival}.csv (for DVC), report.md and, in
plots/compare/ENV/, agents, survival, deaths, learning, noise, conditions, actions,
confusion and map: each as NAME.png and, for dark pages, NAME-dark.png. The map is that
of the first task's first level; a world that the screen shows whole has none.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from textwrap import fill

import numpy as np
import pandas as pd

from warpzone.core.errors import InputError
from warpzone.core.files import (
    one_line,
    write_bytes,
    write_csv,
    write_json,
    write_text,
)
from warpzone.core.names import BASELINES, agent_name, cell
from warpzone.core.params import Params
from warpzone.core.stage import read_arguments, run_stage
from warpzone.envs.registry import env_class
from warpzone.envs.replayable import ReplayableEnv
from warpzone.episodes.recording import Recording, read_recordings
from warpzone.episodes.table import (
    causes_of,
    check_comparable,
    read_episodes,
)
from warpzone.report import figures
from warpzone.report.findings import Metrics, contrast, profile, summarise
from warpzone.report.level_map import Explored, Strip, explore, level_map

METRICS = Path("metrics/compare")
PLOTS = Path("plots/compare")
REPORT = Path("report.md")

NOISE = "default"
STEP = 16
"""Of progress, between two rows of the survival table: for Mario a block's pixels."""
STRETCH = 64
"""Of progress, within which failures are said to be in one place."""
WIDTH = 88
"""Of the report's paragraphs, in characters."""

type Key = tuple[str, str]
"""A task and an agent."""


def main() -> None:
    params, _ = read_arguments(__doc__)
    world, tasks = env_class(params.env), params.run.tasks
    samples, causes = params.compare.bootstrap_samples, causes_of(world)
    noises = {noise: read_all(params, world, noise) for noise in params.evaluate.noises}
    tables = noises[NOISE]
    learning = {
        (task, name): read_curve(
            cell("plots/train_rl", params.env, task, f"{name}.csv")
        )
        for task, name in tables
        if name not in BASELINES
    }

    # Each with the same draws: what is said of one agent does not depend on the others.
    def rng() -> np.random.Generator:
        return np.random.default_rng(params.seed)

    summaries = {
        noise: {
            (task, agent): summarise(
                {task: [table]}, causes, world.FRAMES_PER_SECOND, samples, rng()
            )
            for (task, agent), table in of_key.items()
        }
        for noise, of_key in noises.items()
    }
    agents = summaries[NOISE]
    metrics = {
        task: {agent: agents[task, agent] for agent in params.agents}
        | {
            f"{a}_minus_{b}": contrast(
                {task: [tables[task, a]]}, {task: [tables[task, b]]}, samples, rng()
            )
            for a, b in pairs(params)
        }
        for task in tasks
    }
    rows = [
        # DVC's bar charts pile up what has one name.
        {"noise": noise, "task": task, "agent": agent}
        | {"name": agent if len(tasks) == 1 else f"{task} {agent}", **summary}
        for noise, of_noise in summaries.items()
        for (task, agent), summary in of_noise.items()
    ]
    curves = [
        profile([table], STEP).assign(task=task, agent=agent)
        for (task, agent), table in tables.items()
    ]
    label, plots = world.PROGRESS, PLOTS / params.env
    conditions = {n: c.model_dump() for n, c in params.evaluate.noises.items()}
    recordings = {
        (task, agent): read_recordings(
            cell("data/episodes", params.env, task, agent, f"{NOISE}.jsonl")
        )
        for task, agent in tables
    }
    confusions = {task: read_confusion(params.env, task) for task in tasks}
    explored = explore_level(params, tables, recordings)
    skip = next(iter(recordings.values()))[0].frame_skip

    def draw(theme: str) -> dict[str, bytes]:
        pngs = {
            "agents": figures.agents_figure(agents, label, theme=theme),
            "survival": figures.survival_figure(tables, label, theme=theme),
            "deaths": figures.deaths_figure(tables, world.FAILURES, label, theme=theme),
            "learning": figures.learning_figure(
                learning, tables, label, frame_skip=skip, theme=theme
            ),
            "noise": figures.noise_figure(summaries, conditions, theme=theme),
            "conditions": figures.conditions_figure(summaries, theme=theme),
            "actions": figures.actions_figure(recordings, theme=theme),
            "confusion": figures.confusion_figure(confusions, theme=theme),
        }
        if explored is not None:
            pngs["map"] = level_map(explored, params.agents, theme=theme)
        return pngs

    pngs = draw("light") | {f"{n}-dark": png for n, png in draw("dark").items()}

    write_json(METRICS / f"{params.env}.json", metrics)
    write_csv(plots / "noise.csv", pd.DataFrame(rows))
    rows = [row for row in rows if row["noise"] == NOISE]
    write_csv(plots / "agents.csv", pd.DataFrame(rows))
    columns = ["task", "agent", "progress", "share"]
    write_csv(plots / "survival.csv", pd.concat(curves).filter(columns))
    for name, png in pngs.items():
        write_bytes(plots / f"{name}.png", png)
    write_text(REPORT, report(params, world, plots, tables, summaries, metrics))


def read_all(
    params: Params, world: type[ReplayableEnv], noise: str
) -> dict[Key, pd.DataFrame]:
    """Read the tables of every task and agent under a noise."""
    tables = {
        (task, agent): read_episodes(
            cell("data/episodes", params.env, task, agent, f"{noise}.csv"),
            world,
            agent=agent,
            task=task,
            noise=noise,
        )
        for task in params.run.tasks
        for agent in params.agents
    }
    for task in params.run.tasks:
        check_comparable({agent: tables[task, agent] for agent in params.agents})
    return tables


def read_curve(path: Path) -> pd.DataFrame:
    columns = ["agent_steps", "eval_progress", "eval_success_rate"]
    try:
        return pd.read_csv(path, usecols=columns, dtype=float)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: is not a learning curve: {one_line(error)}"
        ) from error


def read_confusion(env: str, task: str) -> pd.DataFrame:
    path = cell("plots/pretrain_bc", env, task, "confusion.csv")
    try:
        return pd.read_csv(path, usecols=["actual", "predicted"], dtype=str)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: is no table of decisions: {one_line(error)}"
        ) from error


def explore_level(
    params: Params,
    tables: Mapping[Key, pd.DataFrame],
    recordings: Mapping[Key, Sequence[Recording]],
) -> Explored | None:
    """Replay what happened on the first level of the first task."""
    task = params.run.tasks[0]
    strips = {
        agent: Strip(tables[task, agent], recordings[task, agent])
        for agent in params.agents
    }
    try:
        return explore(params.levels(task)[0], strips)
    except ValueError as error:
        raise InputError(str(error)) from error


def pairs(params: Params) -> list[tuple[str, str]]:
    """Return agents to hold against each other: does each step of the pipeline help?

    The clone against random play, each trained agent against the clone, and the recipes
    against each other, seed by seed.
    """
    recipes, seeds = params.run.recipes, params.run.seeds
    trained = [(agent_name(recipe, s), "bc") for recipe in recipes for s in seeds]
    between = [
        (agent_name(a, seed), agent_name(b, seed))
        for a, b in combinations(recipes, 2)
        for seed in seeds
    ]
    return [("bc", "random"), *trained, *between]


def report(
    params: Params,
    world: type[ReplayableEnv],
    plots: Path,
    tables: Mapping[Key, pd.DataFrame],
    summaries: Mapping[str, Mapping[Key, Metrics]],
    metrics: Mapping[str, Mapping[str, Metrics]],
) -> str:
    unit, tasks, default = world.PROGRESS, params.run.tasks, summaries[NOISE]
    agents = [
        {
            "task": task,
            "agent": agent,
            "episodes": of["episodes"],
            **intervals(of, unit),
        }
        | {"median": f"{of['progress_median']:,.0f}"}
        | {"mean agent steps": f"{of['agent_steps_mean']:,.0f}"}
        for (task, agent), of in default.items()
    ]
    differences = [
        {"task": task, "difference": f"{a} minus {b}"}
        | intervals(metrics[task][f"{a}_minus_{b}"], unit, "+")
        for task in tasks
        for a, b in pairs(params)
    ]
    rates = [
        {"task": task, "noise": name, "idle frames": f"0 to {noise.no_op_max}"}
        | {"sticky probability": f"{noise.sticky_probability:g} a {noise.sticky_per}"}
        | {"episodes": of_noise[task, params.agents[0]]["episodes"]}
        | {
            a: bracketed(of_noise[task, a], "success_rate", ".0%")
            for a in params.agents
        }
        for task in tasks
        for name, noise in params.evaluate.noises.items()
        for of_noise in [summaries[name]]
    ]
    ends = [
        {"task": key[0], "agent": key[1]}
        | {spoken(c): default[key][f"ended_by_{c}"] for c in causes_of(world)}
        | {"most failures": most_failures(table, world.FAILURES)}
        for key, table in tables.items()
    ]
    return f"""\
# Agents of {params.env}: {", ".join(params.run.tasks)}

{introduction(params)}

{markdown(agents)}
![Success rate and mean progress of each agent]({plots}/agents.png)

![Share of the episodes that got at least so far]({plots}/survival.png)

## What helps

{markdown(differences)}
## How they learned

![Progress and success rate while training]({plots}/learning.png)

## Under other noise

Success rates.

{markdown(rates)}
![Success rate under more and less noise]({plots}/noise.png)

## How episodes end

{glossary(world)}

{markdown(ends)}
![Where each agent fails]({plots}/deaths.png)
"""


def introduction(params: Params) -> str:
    noise = params.evaluate.noises[NOISE]
    said = (
        f"Every agent plays the same {noise.episodes} episodes of each task, with "
        f"seeds that nothing else uses. Noise: 0 to {noise.no_op_max} idle frames "
        f"before the first decision; in each {noise.sticky_per} the previous action is "
        f"held with probability {noise.sticky_probability:g}. "
    )
    noises = [
        n for n, condition in params.evaluate.noises.items() if condition.reference
    ]
    changes = [f"{name} {value}" for name, value in params.world.reference.items()]
    if noises and changes:
        said += (
            f"Under the noise {', '.join(noises)} the env has {', '.join(changes)}. "
        )
    said += "In brackets: 95 % intervals, Wilson's for success rates, Newcombe's for "
    return fill(f"{said}their differences, a bootstrap's for means.", WIDTH)


def glossary(world: type[ReplayableEnv]) -> str:
    return fill(
        f"Success: {', '.join(map(spoken, world.SUCCESSES))}. "
        f"Failure: {', '.join(map(spoken, world.FAILURES))}. "
        "Stuck: no progress for too long. Time limit: stopped by the env. The last "
        f"column counts failures by cause and place, in stretches of {STRETCH}; the "
        f"unit is that of progress: {world.PROGRESS}.",
        WIDTH,
    )


def most_failures(table: pd.DataFrame, failures: Sequence[str]) -> str:
    """Name the three causes and stretches with the most failures."""
    # Where failures have no place, the progress counts.
    places = table["place"].astype(float).fillna(table["progress"])
    counts = Counter(
        (int(place // STRETCH), cause)
        for place, cause in zip(places, table["cause"], strict=True)
        if cause in failures
    )
    # Equal counts in the order of the level.
    most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    named = [
        f"{spoken(cause)} at {stretch * STRETCH:,} to "
        f"{(stretch + 1) * STRETCH - 1:,} ({count})"
        for (stretch, cause), count in most[:3]
    ]
    return ", ".join(named) or "none"


def markdown(rows: Sequence[Mapping[str, object]]) -> str:
    """Return a table in Markdown."""
    lines = [f"| {' | '.join(map(str, row.values()))} |\n" for row in rows]
    return f"| {' | '.join(rows[0])} |\n|{'---|' * len(rows[0])}\n" + "".join(lines)


def spoken(cause: str) -> str:
    return cause.replace("_", " ")


def intervals(metrics: Metrics, unit: str, sign: str = "") -> dict[str, str]:
    return {
        "success rate": bracketed(metrics, "success_rate", f"{sign}.0%"),
        f"mean {unit}": bracketed(metrics, "progress_mean", f"{sign},.0f"),
    }


def bracketed(metrics: Metrics, name: str, form: str) -> str:
    """Format a value with its interval, for example ``23% (16% to 32%)``."""
    value, low, high = (metrics[f"{name}{end}"] for end in ("", "_low", "_high"))
    return f"{value:{form}} ({low:{form}} to {high:{form}})"


if __name__ == "__main__":
    run_stage(main)
