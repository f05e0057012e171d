"""Compare all agents: one table, figures and a report.

Reads data/episodes/AGENT.csv of random, bc and every agent that runs in params.yaml
names, and plots/train_rl/AGENT.csv. Writes metrics/compare.json,
plots/compare/{agents,distance}.csv (for DVC), report.md and
plots/compare/{agents,distance,deaths,learning}.png.
"""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from warpzone.core.errors import InputError
from warpzone.core.files import write_bytes, write_csv, write_json, write_text
from warpzone.core.params import RunsParams, load_params
from warpzone.core.stage import argument_parser, run_stage
from warpzone.episodes.evaluation import (
    CAUSES,
    agent_names,
    check_comparable,
    contrast,
    distance_survival,
    read_episodes,
    summarise,
)
from warpzone.report.figures import (
    agents_figure,
    deaths_figure,
    distance_figure,
    learning_figure,
)

PARAMS = Path("params.yaml")
EPISODES = Path("data/episodes")
CURVES = Path("plots/train_rl")
METRICS = Path("metrics/compare.json")
PLOTS = Path("plots/compare")
REPORT = Path("report.md")

BLOCK = 16
"""Pixels a block of the level is wide."""
STRETCH = 64
"""Pixels within which deaths are said to be in one place."""

type Metrics = Mapping[str, Mapping[str, float]]


def main() -> None:
    argument_parser(__doc__).parse_args()
    params = load_params(PARAMS)
    samples = params.compare.bootstrap_samples
    tables = {
        agent: read_episodes(EPISODES / f"{agent}.csv", agent)
        for agent in agent_names(params.runs)
    }
    check_comparable(tables)

    # Each with the same draws: what is said of one agent does not depend on the others.
    agents = {
        agent: summarise(table, samples, np.random.default_rng(params.seed))
        for agent, table in tables.items()
    }
    contrasts = {
        f"{a}_minus_{b}": contrast(
            tables[a], tables[b], samples, np.random.default_rng(params.seed)
        )
        for a, b in pairs(params.runs)
    }
    write_json(METRICS, agents | contrasts)

    rows = [{"agent": agent, **metrics} for agent, metrics in agents.items()]
    write_csv(PLOTS / "agents.csv", pd.DataFrame(rows))
    curves = {agent: distance_survival(table, BLOCK) for agent, table in tables.items()}
    distance = pd.concat(curves, names=["agent"]).reset_index("agent")
    write_csv(PLOTS / "distance.csv", distance)
    write_bytes(PLOTS / "agents.png", agents_figure(agents))
    write_bytes(PLOTS / "distance.png", distance_figure(tables))
    write_bytes(PLOTS / "deaths.png", deaths_figure(tables))
    learning = {name: read_curve(CURVES / f"{name}.csv") for name in params.runs.names}
    write_bytes(PLOTS / "learning.png", learning_figure(learning))
    write_text(REPORT, report(tables, agents, contrasts))


def read_curve(path: Path) -> pd.DataFrame:
    columns = ["agent_steps", "x_pos_max", "selection_clear_rate"]
    try:
        return pd.read_csv(path, usecols=columns, dtype=float)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: is not a learning curve: {reason}") from error


def pairs(runs: RunsParams) -> list[tuple[str, str]]:
    """Agents to hold against each other: does each step of the pipeline help?"""
    trained = [(name, "bc") for name in runs.names]
    starts = [
        (f"bc-seed{seed}", f"scratch-seed{seed}")
        for seed in runs.seed
        if {"bc", "scratch"} <= set(runs.init)
    ]
    return [("bc", "random"), *trained, *starts]


def report(
    tables: Mapping[str, pd.DataFrame], agents: Metrics, contrasts: Metrics
) -> str:
    first = tables["random"].iloc[0]
    return f"""\
# Agents on level {first["level"]}

Every agent plays the same {len(tables["random"])} episodes, with seeds that nothing
else uses, from {first["seed"]}. Noise: 0 to {first["no_op_max"]} idle frames before the
first decision; in each frame the previous buttons are held with probability
{first["sticky_probability"]:g}. In brackets: 95 % intervals, Wilson's for clear rates,
Newcombe's for their differences, a bootstrap's for distances.

| agent | episodes | clear rate | mean distance (pixels) | median | agent steps |
|---|---|---|---|---|---|
{"".join(agent_row(agent, metrics) for agent, metrics in agents.items())}
![Clear rate and mean distance of each agent]({PLOTS}/agents.png)

![Share of the episodes that got at least so far]({PLOTS}/distance.png)

## What helps

| difference | clear rate | mean distance (pixels) |
|---|---|---|
{"".join(contrast_row(name, metrics) for name, metrics in contrasts.items())}
## How they learned

![Distance and clear rate while training]({PLOTS}/learning.png)

## How episodes end

Pit: below the screen. Enemy: anything that hurts. Clock: the game's own. Stuck and time
limit: stopped by the environment. The places are pixels from the left edge of the area
that Mario is in.

| agent | {" | ".join(cause.replace("_", " ") for cause in CAUSES)} | most deaths |
|{"---|" * (len(CAUSES) + 2)}
{"".join(end_row(agent, tables[agent], agents[agent]) for agent in tables)}
![Where along the level each agent dies]({PLOTS}/deaths.png)
"""


def agent_row(agent: str, metrics: Mapping[str, float]) -> str:
    return (
        f"| {agent} | {metrics['episodes']} "
        f"| {bracketed(metrics, 'clear_rate', '.0%')} "
        f"| {bracketed(metrics, 'x_pos_max_mean', ',.0f')} "
        f"| {metrics['x_pos_max_median']:,.0f} | {metrics['agent_steps_mean']:,.0f} |\n"
    )


def contrast_row(name: str, metrics: Mapping[str, float]) -> str:
    return (
        f"| {name.replace('_minus_', ' minus ')} "
        f"| {bracketed(metrics, 'clear_rate', '+.0%')} "
        f"| {bracketed(metrics, 'x_pos_max_mean', '+,.0f')} |\n"
    )


def end_row(agent: str, table: pd.DataFrame, metrics: Mapping[str, float]) -> str:
    died = table.dropna(subset="death_x")
    places = Counter(zip(died["cause"], died["death_x"] // STRETCH, strict=True))
    # Equal counts in the order of the level.
    most = sorted(places.items(), key=lambda item: (-item[1], item[0][1], item[0][0]))
    named = [
        f"{cause} at {place * STRETCH:,} to {(place + 1) * STRETCH - 1:,} ({deaths})"
        for (cause, place), deaths in most[:3]
    ]
    counts = " | ".join(str(metrics[f"ended_by_{cause}"]) for cause in CAUSES)
    return f"| {agent} | {counts} | {', '.join(named) or 'none'} |\n"


def bracketed(metrics: Mapping[str, float], name: str, form: str) -> str:
    """Format a value with its interval, for example ``23% (16% to 32%)``."""
    value, low, high = (metrics[f"{name}{end}"] for end in ("", "_low", "_high"))
    return f"{value:{form}} ({low:{form}} to {high:{form}})"


if __name__ == "__main__":
    run_stage(main)
