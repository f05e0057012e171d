"""Compare all agents: tables, figures and a report.

Reads data/episodes/ENV/TASK/AGENT/NOISE.csv of every task, agent and noise that
params.yaml names, and plots/train_rl/ENV/TASK/AGENT.csv. Writes
metrics/compare/ENV.json, plots/compare/ENV/{agents,noise,survival}.csv (for DVC),
report.md and plots/compare/ENV/{agents,survival,deaths,learning,noise}.png.
"""

from collections import Counter
from collections.abc import Mapping
from itertools import starmap
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
from warpzone.episodes.table import (
    causes_of,
    check_comparable,
    contrast,
    read_episodes,
    summarise,
    survival,
)
from warpzone.report.figures import (
    agents_figure,
    deaths_figure,
    learning_figure,
    noise_figure,
    survival_figure,
)

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
type Tables = Mapping[Key, pd.DataFrame]
type Metrics = Mapping[Key, Mapping[str, float]]


def main() -> None:
    params, _ = read_arguments(__doc__)
    world = env_class(params.env)
    samples, causes = params.compare.bootstrap_samples, causes_of(world)
    noises = {noise: read_all(params, world, noise) for noise in params.evaluate.noises}
    tables = noises[NOISE]
    learning = {
        (task, name): read_curve(
            cell("plots/train_rl", params.env, task, f"{name}.csv")
        )
        for task in params.run.tasks
        for name in params.agents
        if name not in BASELINES
    }
    # Each with the same draws: what is said of one agent does not depend on the others.
    summaries = {
        noise: {
            key: summarise(table, causes, samples, np.random.default_rng(params.seed))
            for key, table in of_noise.items()
        }
        for noise, of_noise in noises.items()
    }
    agents = summaries[NOISE]
    contrasts = {
        (task, a, b): contrast(
            tables[task, a],
            tables[task, b],
            samples,
            np.random.default_rng(params.seed),
        )
        for task in params.run.tasks
        for a, b in pairs(params)
    }
    write_json(METRICS / f"{params.env}.json", metrics_by_task(agents, contrasts))

    plots = PLOTS / params.env
    rows = [
        {"noise": noise, "task": task, "agent": agent, "name": bar(params, task, agent)}
        | dict(metrics)
        for noise, of_noise in summaries.items()
        for (task, agent), metrics in of_noise.items()
    ]
    write_csv(plots / "noise.csv", pd.DataFrame(rows))
    rows = [row for row in rows if row["noise"] == NOISE]
    write_csv(plots / "agents.csv", pd.DataFrame(rows))
    curves = []
    for (task, agent), table in tables.items():
        curve = survival(table, STEP)
        curve.insert(0, "task", task)
        curve.insert(1, "agent", agent)
        curves.append(curve)
    write_csv(plots / "survival.csv", pd.concat(curves))
    label, failures = world.PROGRESS, world.FAILURES
    write_bytes(plots / "agents.png", agents_figure(agents, label))
    write_bytes(plots / "survival.png", survival_figure(tables, label))
    write_bytes(plots / "deaths.png", deaths_figure(tables, failures, label))
    write_bytes(plots / "learning.png", learning_figure(learning, tables, label))
    conditions = {n: c.model_dump() for n, c in params.evaluate.noises.items()}
    write_bytes(plots / "noise.png", noise_figure(summaries, conditions))
    write_text(REPORT, report(params, world, plots, tables, summaries, contrasts))


def bar(params: Params, task: str, agent: str) -> str:
    """Return what DVC's bar charts call an agent; they pile equal names up."""
    return agent if len(params.run.tasks) == 1 else f"{task} {agent}"


def read_all(
    params: Params, world: type[ReplayableEnv], noise: str
) -> dict[Key, pd.DataFrame]:
    """Read the tables of every task and agent under a noise."""
    tables = {}
    for task in params.run.tasks:
        of_task = {}
        for agent in params.agents:
            path = cell("data/episodes", params.env, task, agent, f"{noise}.csv")
            of_task[agent] = read_episodes(
                path, world, agent=agent, task=task, noise=noise
            )
        check_comparable(of_task)
        tables |= {(task, agent): table for agent, table in of_task.items()}
    return tables


def read_curve(path: Path) -> pd.DataFrame:
    columns = ["agent_steps", "eval_progress", "eval_success_rate"]
    try:
        return pd.read_csv(path, usecols=columns, dtype=float)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: is not a learning curve: {one_line(error)}"
        ) from error


def pairs(params: Params) -> list[tuple[str, str]]:
    """Return agents to hold against each other: does each step of the pipeline help?

    The clone against random play, each trained agent against the clone, and the recipes
    against each other, seed by seed.
    """
    recipes, seeds = params.run.recipes, params.run.seeds
    trained = [(agent_name(recipe, s), "bc") for recipe in recipes for s in seeds]
    between = [
        (agent_name(a, seed), agent_name(b, seed))
        for index, a in enumerate(recipes)
        for b in recipes[index + 1 :]
        for seed in seeds
    ]
    return [("bc", "random"), *trained, *between]


def metrics_by_task(
    agents: Metrics, contrasts: Mapping[tuple[str, str, str], Mapping[str, float]]
) -> dict[str, dict[str, Mapping[str, float]]]:
    """Return metrics as DVC shows them: by task, then by agent or by difference."""
    by_task: dict[str, dict[str, Mapping[str, float]]] = {}
    for (task, agent), metrics in agents.items():
        by_task.setdefault(task, {})[agent] = metrics
    for (task, a, b), metrics in contrasts.items():
        by_task[task][f"{a}_minus_{b}"] = metrics
    return by_task


def report(
    params: Params,
    world: type[ReplayableEnv],
    plots: Path,
    tables: Tables,
    summaries: Mapping[str, Metrics],
    contrasts: Mapping[tuple[str, str, str], Mapping[str, float]],
) -> str:
    agents, causes, unit = summaries[NOISE], causes_of(world), world.PROGRESS
    names = " | ".join(params.agents)
    contrast_rows = "".join(starmap(contrast_row, contrasts.items()))
    end_rows = [end_row(key, tables[key], agents[key], world) for key in tables]
    return f"""\
# Agents of {params.env}: {", ".join(params.run.tasks)}

{introduction(params)}

| task | agent | episodes | success rate | mean {unit} | median | mean agent steps |
|---|---|---|---|---|---|---|
{"".join(starmap(agent_row, agents.items()))}
![Success rate and mean progress of each agent]({plots}/agents.png)

![Share of the episodes that got at least so far]({plots}/survival.png)

## What helps

| task | difference | success rate | mean {unit} |
|---|---|---|---|
{contrast_rows}
## How they learned

![Progress and success rate while training]({plots}/learning.png)

## Under other noise

Success rates.

| task | noise | idle frames | sticky probability | episodes | {names} |
|{"---|" * (len(params.agents) + 5)}
{"".join(noise_rows(params, summaries))}
![Success rate under more and less noise]({plots}/noise.png)

## How episodes end

{glossary(world)}

| task | agent | {" | ".join(map(spoken, causes))} | most failures |
|{"---|" * (len(causes) + 3)}
{"".join(end_rows)}
![Where each agent fails]({plots}/deaths.png)
"""


def introduction(params: Params) -> str:
    noises = params.evaluate.noises
    noise = noises[NOISE]
    reference = [name for name, condition in noises.items() if condition.reference]
    changes = [f"{name} {value}" for name, value in params.world.reference.items()]
    return fill(
        f"Every agent plays the same {noise.episodes} episodes of each task, with "
        "seeds that nothing else uses. "
        f"Noise: 0 to {noise.no_op_max} idle frames before the first decision; in each "
        "frame the previous action is held with probability "
        f"{noise.sticky_probability:g}. "
        + (
            f"Under the noise {', '.join(reference)} the env has {', '.join(changes)}. "
            if reference and changes
            else ""
        )
        + "In brackets: 95 % intervals, Wilson's for success rates, Newcombe's for "
        "their differences, a bootstrap's for means.",
        WIDTH,
    )


def glossary(world: type[ReplayableEnv]) -> str:
    return fill(
        f"Success: {', '.join(map(spoken, world.SUCCESSES))}. "
        f"Failure: {', '.join(map(spoken, world.FAILURES))}. "
        "Stuck: no progress for too long. Time limit: stopped by the env. The last "
        f"column counts failures by cause and place, in stretches of {STRETCH}; the "
        f"unit is that of progress: {world.PROGRESS}.",
        WIDTH,
    )


def agent_row(key: Key, metrics: Mapping[str, float]) -> str:
    return (
        f"| {' | '.join(key)} | {metrics['episodes']} "
        f"| {bracketed(metrics, 'success_rate', '.0%')} "
        f"| {bracketed(metrics, 'progress_mean', ',.0f')} "
        f"| {metrics['progress_median']:,.0f} | {metrics['agent_steps_mean']:,.0f} |\n"
    )


def contrast_row(key: tuple[str, str, str], metrics: Mapping[str, float]) -> str:
    task, a, b = key
    return (
        f"| {task} | {a} minus {b} "
        f"| {bracketed(metrics, 'success_rate', '+.0%')} "
        f"| {bracketed(metrics, 'progress_mean', '+,.0f')} |\n"
    )


def noise_rows(params: Params, summaries: Mapping[str, Metrics]) -> list[str]:
    rows = []
    for task in params.run.tasks:
        for noise, condition in params.evaluate.noises.items():
            metrics = [summaries[noise][task, agent] for agent in params.agents]
            rates = [bracketed(each, "success_rate", ".0%") for each in metrics]
            rows.append(
                f"| {task} | {noise} | 0 to {condition.no_op_max} "
                f"| {condition.sticky_probability:g} | {metrics[0]['episodes']} "
                f"| {' | '.join(rates)} |\n"
            )
    return rows


def end_row(
    key: Key,
    table: pd.DataFrame,
    metrics: Mapping[str, float],
    world: type[ReplayableEnv],
) -> str:
    # Where failures have no place, the progress counts.
    places = table["place"].to_numpy(float, na_value=np.nan)
    places = np.where(np.isnan(places), table["progress"].to_numpy(), places)
    counts = Counter(
        (int(place // STRETCH), cause)
        for place, cause in zip(places, table["cause"], strict=True)
        if cause in world.FAILURES
    )
    # Equal counts in the order of the level.
    most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    named = [
        f"{spoken(cause)} at {stretch * STRETCH:,} to "
        f"{(stretch + 1) * STRETCH - 1:,} ({count})"
        for (stretch, cause), count in most[:3]
    ]
    ends = " | ".join(str(metrics[f"ended_by_{cause}"]) for cause in causes_of(world))
    return f"| {' | '.join(key)} | {ends} | {', '.join(named) or 'none'} |\n"


def spoken(cause: str) -> str:
    return cause.replace("_", " ")


def bracketed(metrics: Mapping[str, float], name: str, form: str) -> str:
    """Format a value with its interval, for example ``23% (16% to 32%)``."""
    value, low, high = (metrics[f"{name}{end}"] for end in ("", "_low", "_high"))
    return f"{value:{form}} ({low:{form}} to {high:{form}})"


if __name__ == "__main__":
    run_stage(main)
