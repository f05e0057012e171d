"""Compare the two emulators frame by frame, and agents on both.

Plays the same buttons on nes-py and on FCEUmm: random play on every level, and the
clears in tests/data/. Then lets the agents of params.yaml play their evaluation again:
the episodes in data/episodes/ were on nes-py, here they are on FCEUmm. Writes
benchmarks/emulators.md and benchmarks/emulators.json.

Run it with `python -m benchmarks.emulators`, after `make repro`: some minutes.
"""

from collections.abc import Iterable
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.game import WORLD, read_params
from warpzone.agents.model import load_agent
from warpzone.agents.policy import make_deterministic
from warpzone.core.files import write_json, write_text
from warpzone.core.names import cell
from warpzone.core.params import Params
from warpzone.core.progress import progress_bar
from warpzone.envs.mario.cartridge import make_console
from warpzone.envs.mario.level import LEVELS, LevelPlay
from warpzone.envs.mario.state import read_state
from warpzone.envs.nes.buttons import RIGHT, A, B
from warpzone.envs.nes.consoles import Console
from warpzone.envs.nes.machine import SCREEN_SHAPE
from warpzone.envs.registry import env_class, make_env
from warpzone.episodes.agent import Agent, RandomAgent
from warpzone.episodes.play import play_episodes
from warpzone.episodes.recording import read_recordings
from warpzone.episodes.table import read_episodes

CLEARS = Path("tests/data/clears.jsonl")
PAGE = Path("benchmarks/emulators.md")
RESULTS = Path("benchmarks/emulators.json")

RUN = RIGHT | B
BUTTONS = (RUN, RUN, RUN | A, RUN | A, RUN | A, RIGHT, RIGHT | A, A, 0)
RANDOM_EPISODES = 3
FRAMES = 800
NOISE = "default"


@dataclass
class Agreement:
    """How far the emulators agree on one level.

    Attributes:
        frames: Frames compared.
        state: Frames in which anything of `GameState`, the distance walked or the end
            of the episode differs.
        screens: Frames whose grey screens differ.
        pixels: The most pixels that differ in one of them, of 61,440.
        ram: Bytes of RAM that differ, summed over the frames.
    """

    frames: int = 0
    state: int = 0
    screens: int = 0
    pixels: int = 0
    ram: int = 0


def main() -> None:
    params = read_params()
    levels = {level: Agreement() for level in LEVELS}
    clears = read_recordings(CLEARS)
    with progress_bar(len(LEVELS) + len(clears), "comparing", "level") as bar:
        for level, agreement in levels.items():
            for seed in range(RANDOM_EPISODES):
                compare(level, random_play(seed), agreement)
            bar.update(1)
        for clear in clears:
            compare(clear.level, clear.held, levels[clear.level])
            bar.update(1)
    make_deterministic(params.seed)
    agents = [
        {"task": task, "agent": name} | play_again(task, name, params)
        for task, name in evaluated(params)
    ]
    write_json(
        RESULTS,
        {
            "levels": {level: asdict(row) for level, row in levels.items()},
            "agents": agents,
        },
    )
    write_text(PAGE, page(levels, agents))


def random_play(seed: int) -> Iterable[int]:
    """Yield buttons that mostly run and jump to the right."""
    rng = np.random.default_rng(seed)
    held = RUN
    for _ in range(FRAMES):
        if rng.random() < 0.1:
            held = int(rng.choice(BUTTONS))
        yield held


def compare(level: str, buttons: Iterable[int], agreement: Agreement) -> None:
    """Play the same on both, and add what differs."""
    plays = [LevelPlay(make_console(name), level) for name in ("nes-py", "fceumm")]
    for held in buttons:
        for play in plays:
            play.advance(held)
        states, screens, ram = zip(*map(seen, plays), strict=True)
        pixels = int((screens[0] != screens[1]).sum())
        agreement.frames += 1
        agreement.state += states[0] != states[1]
        agreement.screens += pixels > 0
        agreement.pixels = max(agreement.pixels, pixels)
        agreement.ram += int((ram[0] != ram[1]).sum())
        if any(play.is_over for play in plays):
            return


def seen(play: LevelPlay) -> tuple[tuple, np.ndarray, np.ndarray]:
    """Return the state, the grey screen and the RAM of a level in play."""
    state = (read_state(play.ram), play.odometer.progress, play.emulator_frames)
    return state, grey(play.console), np.frombuffer(play.ram, np.uint8).copy()


def grey(console: Console) -> np.ndarray:
    screen = np.empty(SCREEN_SHAPE, np.uint8)
    console.read_grey(screen)
    return screen


def evaluated(params: Params) -> list[tuple[str, str]]:
    """Return the tasks and agents of Mario that have been evaluated."""
    return [
        (task, name)
        for task in params.run.tasks
        for name in params.agents
        if episodes_of(task, name).is_file()
    ]


def episodes_of(task: str, name: str) -> Path:
    return cell("data/episodes", WORLD, task, name, f"{NOISE}.csv")


def play_again(task: str, name: str, params: Params) -> dict[str, float]:
    """Play the episodes of an evaluation, which was on nes-py, on FCEUmm."""
    official = read_episodes(
        episodes_of(task, name), env_class(WORLD), agent=name, task=task, noise=NOISE
    )
    world = params.envs[WORLD]
    make = partial(
        make_env,
        WORLD,
        {**world.kwargs, "emulator": "fceumm"},
        noise=params.evaluate.noises[NOISE],
    )
    levels = world.tasks[task]
    with closing(make(level=levels[0], obs_type=("pixels", "state"))) as env:
        folder = cell("models", WORLD, task, name)
        agent: Agent = (
            RandomAgent(len(env.codes)) if name == "random" else load_agent(folder, env)
        )
    with progress_bar(len(official), f"{name} on FCEUmm", "episode") as bar:
        fast, _ = play_episodes(
            agent,
            lambda level: make(level=level, obs_type=agent.keys),
            levels,
            official["seed"].tolist(),
            params.evaluate.n_envs,
            bar.update,
        )
    ends = ["progress", "agent_steps"]
    same = (official[ends].to_numpy() == fast[ends].to_numpy()).all(axis=1)
    return {
        "episodes": len(official),
        "same_episodes": int(same.sum()),
        **{
            f"{metric}_{emulator}": round(float(table[column].to_numpy().mean()), 4)
            for emulator, table in (("nes-py", official), ("fceumm", fast))
            for metric, column in (
                ("success_rate", "success"),
                ("progress_mean", "progress"),
            )
        },
    }


def page(levels: dict[str, Agreement], agents: list[dict[str, Any]]) -> str:
    """Return the page."""
    total = Agreement(
        frames=sum(row.frames for row in levels.values()),
        state=sum(row.state for row in levels.values()),
        screens=sum(row.screens for row in levels.values()),
        pixels=max(row.pixels for row in levels.values()),
        ram=sum(row.ram for row in levels.values()),
    )
    rows = "".join(
        f"| {name} | {row.frames:,} | {row.state:,} | {row.screens:,} | "
        f"{row.pixels:,} | {row.ram / row.frames:.0f} |\n"
        for name, row in [*levels.items(), ("all", total)]
    )
    agent_rows = "".join(
        f"| {row['task']} | {row['agent']} | {row['episodes']} | "
        f"{row['same_episodes']} | "
        f"{row['success_rate_nes-py']:.0%} | {row['success_rate_fceumm']:.0%} | "
        f"{row['progress_mean_nes-py']:,.0f} | {row['progress_mean_fceumm']:,.0f} |\n"
        for row in agents
    )
    return f"""\
# nes-py and FCEUmm, side by side

`python -m benchmarks.emulators` writes this page.

The same buttons on both: {RANDOM_EPISODES} episodes of random play on every level, and
the clears of `tests/data/clears.jsonl`. Compared after every frame: position, score,
coins, clock, lives, power-up, death, flag, the distance walked and the frames that
cutscenes took (state); the grey screen, 61,440 pixels; and all 2,048 bytes of RAM.
RAM is never all the same, because nes-py ends a frame later, where the game has begun
with the next one: its frame counter, timers, random numbers and sound are a step ahead.

| level | frames | state differs | screen differs | most pixels | mean RAM bytes |
|---|---|---|---|---|---|
{rows}
## Agents on both

The episodes of the evaluation, with the default noise of `params.yaml`. An episode is
the same when it ends at the same x after as many agent steps.

| task | agent | played | same | success, nes-py | FCEUmm | distance, nes-py | FCEUmm |
|---|---|---|---|---|---|---|---|
{agent_rows}"""


if __name__ == "__main__":
    main()
