"""Compare the two emulators frame by frame, and agents on both.

Plays the same buttons on nes-py and on FCEUmm: random play on every level, and the
clears in tests/data/. Then lets the agents of models/ play the episodes of
data/episodes/, which were on nes-py, again on FCEUmm. Writes benchmarks/emulators.md
and benchmarks/emulators.json.

Run it with `python -m benchmarks.emulators`, after `make repro`: some minutes.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from stages.evaluate import EPISODES, folder_of
from warpzone.agents.policy import load_agent, make_deterministic
from warpzone.core.files import write_json, write_text
from warpzone.core.params import Params, load_params
from warpzone.core.progress import progress_bar
from warpzone.envs.mario.cartridge import make_console
from warpzone.envs.mario.level import LEVELS, LevelPlay
from warpzone.envs.mario.state import read_state
from warpzone.envs.nes.buttons import RIGHT, A, B
from warpzone.envs.nes.console import SCREEN_SHAPE, Console
from warpzone.episodes.agent import Agent
from warpzone.episodes.evaluation import agent_names, play_episodes, read_episodes
from warpzone.episodes.recording import read_recordings

PARAMS = Path("params.yaml")
CLEARS = Path("tests/data/clears.jsonl")
PAGE = Path("benchmarks/emulators.md")
RESULTS = Path("benchmarks/emulators.json")

RUN = RIGHT | B
BUTTONS = (RUN, RUN, RUN | A, RUN | A, RUN | A, RIGHT, RIGHT | A, A, 0)
RANDOM_EPISODES = 3
FRAMES = 800


@dataclass
class Agreement:
    """How far the emulators agree on one level.

    Attributes:
        frames: Frames compared.
        figures: Frames in which anything of `GameState`, the distance walked or the end
            of the episode differs.
        pictures: Frames whose grey screens differ.
        pixels: The most pixels that differ in one of them, of 61,440.
        ram: Bytes of RAM that differ, summed over the frames.
    """

    frames: int = 0
    figures: int = 0
    pictures: int = 0
    pixels: int = 0
    ram: int = 0


def main() -> None:
    params = load_params(PARAMS)
    levels = {level: Agreement() for level in LEVELS}
    clears = read_recordings(CLEARS)
    with progress_bar(len(LEVELS) + len(clears), "Comparing", "level") as bar:
        for level, agreement in levels.items():
            for seed in range(RANDOM_EPISODES):
                compare(level, random_play(seed), agreement)
            bar.update(1)
        for clear in clears:
            compare(clear.level, clear.frame_buttons, levels[clear.level])
            bar.update(1)
    agents = {
        name: play_again(name, agent, params) for name, agent in all_agents(params)
    }
    write_json(
        RESULTS,
        {
            "levels": {level: asdict(row) for level, row in levels.items()},
            "agents": agents,
        },
    )
    write_text(PAGE, page(levels, agents, params))


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
        figures, pictures, ram = zip(*map(seen, plays), strict=True)
        pixels = int((pictures[0] != pictures[1]).sum())
        agreement.frames += 1
        agreement.figures += figures[0] != figures[1]
        agreement.pictures += pixels > 0
        agreement.pixels = max(agreement.pixels, pixels)
        agreement.ram += int((ram[0] != ram[1]).sum())
        if any(play.is_over for play in plays):
            return


def seen(play: LevelPlay) -> tuple[tuple, np.ndarray, np.ndarray]:
    """Return the figures, the picture and the RAM of a level in play."""
    figures = (read_state(play.ram), play.odometer.progress, play.emulator_frames)
    return figures, grey(play.emulator), np.frombuffer(play.ram, np.uint8).copy()


def grey(emulator: Console) -> np.ndarray:
    picture = np.empty(SCREEN_SHAPE, np.uint8)
    emulator.read_grey(picture)
    return picture


def all_agents(params: Params) -> Iterable[tuple[str, Agent]]:
    """Yield the agents that have been evaluated."""
    make_deterministic(params.seed)
    for name in agent_names(params.runs):
        if (EPISODES / f"{name}.csv").is_file():
            yield name, load_agent(folder_of(name), params)


def play_again(name: str, agent: Agent, params: Params) -> dict[str, float]:
    """Play the episodes of an evaluation, which was on nes-py, on FCEUmm."""
    official = read_episodes(EPISODES / f"{name}.csv", name)
    game = params.game.model_copy(update={"emulator": "fceumm"})
    with progress_bar(len(official), f"{name} on FCEUmm", "episode") as bar:
        fast, _ = play_episodes(
            agent,
            game,
            params.noise,
            official["seed"].tolist(),
            params.evaluate.envs,
            bar.update,
        )
    ends = ["x_pos_max", "agent_steps"]
    same = (official[ends].to_numpy() == fast[ends].to_numpy()).all(axis=1)
    return {
        "episodes": len(official),
        "same_episodes": int(same.sum()),
        **{
            f"{figure}_{emulator}": round(float(table[column].to_numpy().mean()), 4)
            for emulator, table in (("nes-py", official), ("fceumm", fast))
            for figure, column in (
                ("clear_rate", "cleared"),
                ("x_pos_max", "x_pos_max"),
            )
        },
    }


def page(
    levels: dict[str, Agreement], agents: dict[str, dict[str, float]], params: Params
) -> str:
    """Return the page."""
    total = Agreement(
        frames=sum(row.frames for row in levels.values()),
        figures=sum(row.figures for row in levels.values()),
        pictures=sum(row.pictures for row in levels.values()),
        pixels=max(row.pixels for row in levels.values()),
        ram=sum(row.ram for row in levels.values()),
    )
    rows = "".join(
        f"| {name} | {row.frames:,} | {row.figures:,} | {row.pictures:,} | "
        f"{row.pixels:,} | {row.ram / row.frames:.0f} |\n"
        for name, row in [*levels.items(), ("all", total)]
    )
    agent_rows = "".join(
        f"| {name} | {row['episodes']:.0f} | {row['same_episodes']:.0f} | "
        f"{row['clear_rate_nes-py']:.0%} | {row['clear_rate_fceumm']:.0%} | "
        f"{row['x_pos_max_nes-py']:,.0f} | {row['x_pos_max_fceumm']:,.0f} |\n"
        for name, row in agents.items()
    )
    return f"""\
# nes-py and FCEUmm, side by side

`python -m benchmarks.emulators` writes this page.

The same buttons on both: {RANDOM_EPISODES} episodes of random play on every level, and
the clears of `tests/data/clears.jsonl`. Compared after every frame: position, score,
coins, clock, lives, power-up, death, flag, the distance walked and the frames that
cutscenes took (`figures`); the grey screen, 61,440 pixels; and all 2,048 bytes of RAM.
RAM is never all the same, because nes-py ends a frame later, where the game has begun
with the next one: its frame counter, timers, random numbers and sound are a step ahead.

| level | frames | figures differ | pictures differ | most pixels | mean RAM bytes |
|---|---|---|---|---|---|
{rows}
## Agents on both

The episodes of the evaluation on {params.game.level}, with
the noise of `params.yaml`. An episode is the same when it ends at the same x after as
many agent steps.

| agent | episodes | same | clears, nes-py | FCEUmm | mean distance, nes-py | FCEUmm |
|---|---|---|---|---|---|---|
{agent_rows}"""


if __name__ == "__main__":
    main()
