"""What a comparison tells: numbers, pictures, and the sections of a report."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isfinite
from typing import Any

import numpy as np
import pandas as pd

from warpzone.core.names import NOISE, UNTRAINED
from warpzone.envs.replayable import ReplayableEnv
from warpzone.episodes.recording import Recording
from warpzone.episodes.table import causes_of, distinct, places_of
from warpzone.report import figures
from warpzone.report.findings import Metrics, contrast, profile, summarise
from warpzone.report.inference import (
    detectable_difference,
    detectable_mean_difference,
    holm,
)
from warpzone.report.level_map import Explored, Strip, explore, level_map
from warpzone.report.look import Key, recipe_of
from warpzone.report.pages import Part, Table

_STEP = 16
"""Of progress, between two rows of the profile: for Mario a block's pixels."""
_STRETCH = 64
"""Of progress, within which failures are said to be in one place."""
_SHOWN = (
    "success_rate",
    "success_rate_low",
    "success_rate_high",
    "progress_iqm",
    "success_seconds_median",
)
"""What DVC shows of an agent in `dvc exp show`."""


@dataclass(frozen=True)
class Comparison:
    """What agents did, and what that says.

    All agents of a task have played the same levels and seeds in a condition.
    """

    world: type[ReplayableEnv]
    conditions: Mapping[str, Mapping[str, Any]]
    """By name, as params.yaml has them."""
    tables: Mapping[str, Mapping[Key, pd.DataFrame]]
    """Episode tables by condition."""
    recordings: Mapping[Key, Sequence[Recording]]
    """Those of the default condition."""
    curves: Mapping[Key, pd.DataFrame]
    """Evaluations in training."""
    second_tries: Mapping[Key, pd.DataFrame]
    """Where they began in training, see `warpzone.report.level_map.level_map`; a column
    ``level`` says where else they may have been."""
    confusions: Mapping[str, pd.DataFrame]
    """What clones did and should have done, by task."""
    pairs: Sequence[tuple[str, str]]
    """What to hold against each other: two agents, in each task, or two recipes, over
    all tasks and training seeds, of which each has several."""
    level: str
    """Of which a map is drawn."""
    samples: int
    """Of a bootstrap."""
    seed: int

    def _rng(self) -> np.random.Generator:
        # Each with the same draws: what is said of one does not depend on the others.
        return np.random.default_rng(self.seed)

    @property
    def tasks(self) -> list[str]:
        return list(dict.fromkeys(task for task, _ in self.tables[NOISE]))

    @property
    def agents(self) -> list[str]:
        return list(dict.fromkeys(agent for _, agent in self.tables[NOISE]))

    def seeds_of(self, recipe: str) -> list[str]:
        """Return the agents of a recipe."""
        return [agent for agent in self.agents if recipe_of(agent) == recipe]

    @cached_property
    def summaries(self) -> dict[str, dict[Key, Metrics]]:
        """Metrics of each agent, by condition."""
        return {
            condition: {
                (task, agent): self._summarise({task: [table]})
                for (task, agent), table in tables.items()
            }
            for condition, tables in self.tables.items()
        }

    def _summarise(self, played: Mapping[str, Sequence[pd.DataFrame]]) -> Metrics:
        fps = self.world.FRAMES_PER_SECOND
        causes = causes_of(self.world)
        return summarise(played, causes, fps, self.samples, self._rng())

    @cached_property
    def different(self) -> dict[Key, Strip]:
        """The different episodes of each agent under the default condition."""
        tables = {key: distinct(table) for key, table in self.tables[NOISE].items()}
        return {
            key: Strip(table, [self.recordings[key][row] for row in table.index])
            for key, table in tables.items()
        }

    @cached_property
    def recipes(self) -> dict[str, Metrics]:
        """Metrics of each recipe over all its seeds and tasks; of one alone nothing."""
        found = {}
        for recipe in dict.fromkeys(map(recipe_of, self.agents)):
            played = self._played(recipe, self.tasks)
            if recipe not in UNTRAINED and sum(map(len, played.values())) > 1:
                found[recipe] = self._summarise(played)
        return found

    def _played(self, name: str, tasks: Sequence[str]) -> dict[str, list[pd.DataFrame]]:
        """Return the default tables of an agent, or of all agents of a recipe."""
        seeds = [name] if name in self.agents else self.seeds_of(name)
        return {task: [self.tables[NOISE][task, a] for a in seeds] for task in tasks}

    @cached_property
    def differences(self) -> list[dict[str, Any]]:
        """Rows with ``task``, ``a``, ``b`` and what `contrast` says of them.

        The p values are Holm's, for all of them together.
        """
        agents = [pair for pair in self.pairs if pair[0] in self.agents]
        recipes = [pair for pair in self.pairs if pair[0] not in self.agents]
        sides = [([task], pair) for task in self.tasks for pair in agents]
        sides += [(self.tasks, pair) for pair in recipes]
        rows: list[dict[str, Any]] = [
            {"task": " and ".join(tasks), "a": a, "b": b}
            | contrast(
                self._played(a, tasks),
                self._played(b, tasks),
                self.samples,
                self._rng(),
            )
            for tasks, (a, b) in sides
        ]
        places = [(row, name) for row in rows for name in ("success_p", "progress_p")]
        adjusted = holm([row[name] for row, name in places])
        for (row, name), p in zip(places, adjusted, strict=True):
            row[name] = round(p, 6)
        return rows

    @cached_property
    def explored(self) -> Explored | None:
        """The map of the first task's level; None where the screen shows all."""
        task = self.tasks[0]
        strips = {agent: self.different[task, agent] for agent in self.agents}
        return explore(self.level, strips)

    # Numbers.

    def metrics(self) -> dict[str, dict[str, Metrics]]:
        """Return the few numbers that DVC shows, by task and agent."""
        return {
            task: {
                agent: {
                    name: self.summaries[NOISE][task, agent][name] for name in _SHOWN
                }
                for agent in self.agents
                if agent not in UNTRAINED
            }
            for task in self.tasks
        }

    def frames(self) -> dict[str, pd.DataFrame]:
        """Return all numbers as tables, by file name."""
        rows = [
            # DVC's bar charts pile up what has one name.
            {"noise": condition, "task": task, "agent": agent}
            | {"name": self._named(task, agent), **summary}
            for condition, summaries in self.summaries.items()
            for (task, agent), summary in summaries.items()
        ]
        curves = [
            profile([table], _STEP).assign(task=task, agent=agent)
            for (task, agent), table in self.tables[NOISE].items()
        ]
        survival = pd.concat(curves)
        return {
            "noise": pd.DataFrame(rows),
            "agents": pd.DataFrame([row for row in rows if row["noise"] == NOISE]),
            "differences": pd.DataFrame(self.differences),
            "survival": survival.filter(
                ["task", "agent", "progress", "share", "share_low", "share_high"]
            ),
        }

    def _named(self, task: str, agent: str) -> str:
        return agent if len(self.tasks) == 1 else f"{task} {agent}"

    # Pictures.

    def pictures(self, theme: str) -> dict[str, bytes]:
        """Draw all pictures in a theme, ``light`` or ``dark``: PNGs by name."""
        tables = {key: strip.table for key, strip in self.different.items()}
        recordings = {key: strip.recordings for key, strip in self.different.items()}
        label = self.world.PROGRESS
        skip = next(iter(recordings.values()))[0].frame_skip
        pngs = {
            "agents": figures.agents_figure(self.summaries[NOISE], label, theme=theme),
            "survival": figures.survival_figure(tables, label, theme=theme),
            "deaths": figures.deaths_figure(
                tables, self.world.FAILURES, label, theme=theme
            ),
            "noise": figures.noise_figure(self.summaries, self.conditions, theme=theme),
            "conditions": figures.conditions_figure(self.summaries, theme=theme),
            "actions": figures.actions_figure(recordings, theme=theme),
        }
        if self.curves:
            pngs["learning"] = figures.learning_figure(
                self.curves, tables, label, frame_skip=skip, theme=theme
            )
        curves = {
            key: one for key, one in self.curves.items() if figures.has_terms(one)
        }
        if curves:
            pngs["training"] = figures.training_figure(curves, theme=theme)
        if self.confusions:
            pngs["confusion"] = figures.confusion_figure(self.confusions, theme=theme)
        if self.explored is not None:
            tries = {
                agent: table.loc[table["level"] == self.level]
                for (task, agent), table in self.second_tries.items()
                if task == self.tasks[0]
            }
            pngs["map"] = level_map(self.explored, self.agents, tries, theme=theme)
        return pngs

    # Words.

    def introduction(self, reference: Mapping[str, Any]) -> str:
        """Say how agents were measured; ``reference``: what may differ in the env."""
        noise = self.conditions[NOISE]
        said = (
            f"Every agent plays the same {noise['episodes']} episodes of each task, "
            f"with seeds that nothing else uses. Noise: 0 to {noise['no_op_max']} idle "
            f"frames before the first decision; in each {noise['sticky_unit']} the "
            "previous action is held with probability "
            f"{noise['sticky_probability']:g}. "
        )
        names = [n for n, c in self.conditions.items() if c["reference"]]
        changes = [f"{name} {value}" for name, value in reference.items()]
        if names and changes:
            said += (
                f"In the condition {', '.join(names)} the env has "
                f"{', '.join(changes)}. "
            )
        return said + (
            "In brackets: 95 % intervals, Wilson's for success rates and a bootstrap's "
            "for means, both about these very agents in new episodes. IQM: the mean "
            "of the middle half. Time: of the game, median of the successes. Episodes "
            "that are the same to the last button count once."
        )

    def agents_table(self) -> Table:
        unit = self.world.PROGRESS
        return Table(
            [
                {"task": task, "agent": agent, "episodes": of["episodes"]}
                | {
                    "success rate": bracketed(of, "success_rate", ".0%"),
                    f"mean {unit}": bracketed(of, "progress_mean", ",.0f"),
                    "IQM": bracketed(of, "progress_iqm", ",.0f"),
                    "median": bracketed(of, "progress_median", ",.0f"),
                    "time": _or_dash(of["success_seconds_median"], ".1f", " s"),
                }
                for (task, agent), of in self.summaries[NOISE].items()
            ]
        )

    def recipes_table(self) -> Table:
        return Table(
            [
                {"recipe": recipe, "seeds": of["seeds"], "episodes": of["episodes"]}
                | {
                    "success rate": bracketed(of, "success_rate", ".0%"),
                    f"mean {self.world.PROGRESS}": bracketed(
                        of, "progress_mean", ",.0f"
                    ),
                    "IQM": bracketed(of, "progress_iqm", ",.0f"),
                }
                for recipe, of in self.recipes.items()
            ]
        )

    def differences_table(self) -> Table:
        return Table(
            [
                {"task": row["task"], "difference": f"{row['a']} minus {row['b']}"}
                | {
                    "success rate": bracketed(row, "success_rate", "+.0%"),
                    "p of success": _p(row["success_p"]),
                    f"mean {self.world.PROGRESS}": bracketed(
                        row, "progress_mean", "+,.0f"
                    ),
                    "gets further": bracketed(row, "improvement", ".0%"),
                    "p of progress": _p(row["progress_p"]),
                }
                for row in self.differences
            ]
        )

    def differences_parts(self) -> list[Part]:
        if not self.pairs:
            return []
        return [
            "Each against the one that it builds on. Gets further: the probability "
            "that an episode of the first gets further than one of the second, ties "
            "counting half. Intervals: Newcombe's for success rates, a bootstrap's for "
            "means, DeLong's for probabilities. p: of Fisher's exact test and of Mann "
            "and Whitney's, corrected by Holm for all of this table. Where recipes "
            "have several training seeds, one value a seed counts, over all tasks: "
            "intervals are Welch's, p is Mann and Whitney's.",
            self.differences_table(),
        ]

    def power_words(self) -> str:
        """Say how large a difference these episodes and seeds can show."""
        said = []
        for task in self.tasks:
            agents = [a for a in self.agents if a not in UNTRAINED]
            best = max((self.summaries[NOISE][task, a] for a in agents), key=_rate)
            trials = int(best["distinct_episodes"])
            least = detectable_difference(_rate(best), trials)
            shown = f"{least:.0%} or more" if isfinite(least) else "none at all"
            said.append(
                f"On {task}, {trials} episodes each show, in 80 % of cases, a "
                f"difference of {shown} from a success rate of {_rate(best):.0%}."
            )
        for recipe, of in self.recipes.items():
            if of["seeds"] > 1:
                rates = [
                    np.mean([_rate(self.summaries[NOISE][t, a]) for t in self.tasks])
                    for a in self.seeds_of(recipe)
                ]
                least = detectable_mean_difference(
                    float(np.std(rates, ddof=1)), len(rates)
                )
                said.append(
                    f"{len(rates)} seeds that vary like those of {recipe} show a "
                    f"difference of {least:.0%} or more between recipes."
                )
        if all(of["seeds"] < 2 for of in self.recipes.values()):
            said.append(
                "Each recipe has one training seed: nothing here says how agents of "
                "other seeds would play."
            )
        return " ".join(said)

    def conditions_table(self) -> Table:
        return Table(
            [
                {
                    "task": task,
                    "condition": name,
                    "idle frames": f"0 to {c['no_op_max']}",
                }
                | {
                    "sticky": f"{c['sticky_probability']:g} a {c['sticky_unit']}",
                    "plays": _plays(c["temperature"]),
                    "episodes": self.summaries[name][task, self.agents[0]]["episodes"],
                }
                | {a: _rate_of(self.summaries[name][task, a]) for a in self.agents}
                for task in self.tasks
                for name, c in self.conditions.items()
            ]
        )

    def card_table(self, task: str, agent: str) -> Table:
        """Return how one agent plays, by condition."""
        return Table(
            [
                {"condition": name, "success rate": _rate_of(of[task, agent])}
                | {
                    f"mean {self.world.PROGRESS}": bracketed(
                        of[task, agent], "progress_mean", ",.0f"
                    ),
                    "time": _or_dash(
                        of[task, agent]["success_seconds_median"], ".1f", " s"
                    ),
                }
                for name, of in self.summaries.items()
            ]
        )

    def conditions_words(self) -> str:
        return (
            "Success rates. Without any noise an agent that draws nothing plays one "
            "episode again and again: that tests its memory, and says how many "
            "different episodes there were. Greedy agents take the likeliest action "
            "everywhere, sampled ones draw from the policy. random and script play "
            "as they always do."
        )

    def ends_table(self) -> Table:
        return Table(
            [
                {"task": key[0], "agent": key[1]}
                | {
                    _spoken(cause): self.summaries[NOISE][key][f"ended_by_{cause}"]
                    for cause in causes_of(self.world)
                }
                | {"most failures": most_failures(strip.table, self.world.FAILURES)}
                for key, strip in self.different.items()
            ]
        )

    def ends_words(self) -> str:
        return (
            f"Success: {', '.join(map(_spoken, self.world.SUCCESSES))}. "
            f"Failure: {', '.join(map(_spoken, self.world.FAILURES))}. "
            "Stuck: no progress for too long. Time limit: stopped by the env. The "
            f"last column counts failures by cause and place, in stretches of "
            f"{_STRETCH}; the unit is that of progress: {self.world.PROGRESS}."
        )

    def recipes_parts(self) -> list[Part]:
        if not self.recipes:
            return []
        return [
            "Recipes over all their seeds and tasks, which weigh the same. With "
            "several seeds the intervals are about agents of new seeds: the "
            "effective-sample-size Wilson interval for success rates, Student's t of "
            "one value a seed for means.",
            self.recipes_table(),
        ]


def most_failures(table: pd.DataFrame, failures: Sequence[str]) -> str:
    """Name the three causes and stretches with the most failures."""
    counts = Counter(
        (int(place // _STRETCH), cause)
        for place, cause in zip(places_of(table), table["cause"], strict=True)
        if cause in failures
    )
    # Equal counts in the order of the level.
    most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    named = [
        f"{_spoken(cause)} at {stretch * _STRETCH:,} to "
        f"{(stretch + 1) * _STRETCH - 1:,} ({count})"
        for (stretch, cause), count in most[:3]
    ]
    return ", ".join(named) or "none"


def _rate(metrics: Metrics) -> float:
    return metrics["success_rate"]


def _rate_of(metrics: Metrics) -> str:
    """Format a success rate, and how many different episodes there were if not all."""
    played, different = metrics["episodes"], metrics["distinct_episodes"]
    if different == 1 < played:
        return f"{_rate(metrics):.0%}, one episode"
    more = f", {different} different" if different < played else ""
    return bracketed(metrics, "success_rate", ".0%") + more


def bracketed(metrics: Mapping[str, Any], name: str, form: str) -> str:
    """Format a value with its interval, for example ``23% (16% to 32%)``."""
    value, low, high = (metrics[f"{name}{end}"] for end in ("", "_low", "_high"))
    interval = "" if low is None else f" ({low:{form}} to {high:{form}})"
    return f"{value:{form}}{interval}"


def _or_dash(value: float | None, form: str, unit: str = "") -> str:
    return "-" if value is None else f"{value:{form}}{unit}"


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _plays(temperature: float | None) -> str:
    named = {None: "as ever", 0.0: "greedy", 1.0: "sampled"}
    return named.get(temperature, f"temperature {temperature:g}" if temperature else "")


def _spoken(cause: str) -> str:
    return cause.replace("_", " ")
