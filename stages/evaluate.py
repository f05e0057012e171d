"""Measure an agent on the official game, with seeds that nothing else uses.

AGENT is random, bc or INIT-seedN, as runs in params.yaml names the trained ones. Reads
models/bc/ or models/rl/AGENT/. Writes data/episodes/AGENT.csv (one row an episode),
data/episodes/AGENT.jsonl (its recordings) and metrics/evaluate/AGENT.json.
"""

from pathlib import Path

import numpy as np

from warpzone.agents.policy import load_agent, make_deterministic
from warpzone.core.errors import InputError
from warpzone.core.files import write_csv, write_json, write_lines
from warpzone.core.params import load_params
from warpzone.core.progress import progress_bar
from warpzone.core.seeds import Purpose, episode_seed
from warpzone.core.stage import argument_parser, run_stage
from warpzone.envs.nes.consoles import REFERENCE_EMULATOR
from warpzone.episodes.evaluation import (
    agent_names,
    play_episodes,
    read_episodes,
    summarise,
)

PARAMS = Path("params.yaml")
CLONE = Path("models/bc")
TRAINED = Path("models/rl")
EPISODES = Path("data/episodes")
METRICS = Path("metrics/evaluate")

# More would move the bounds by less than a pixel in a hundred.
BOOTSTRAP_SAMPLES = 10_000


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("agent", metavar="AGENT")
    name = parser.parse_args().agent
    params = load_params(PARAMS)
    if name not in (known := agent_names(params.runs)):
        raise InputError(f"no agent {name!r}: {PARAMS} knows {', '.join(known)}")

    make_deterministic(params.seed)
    agent = load_agent(folder_of(name), params)
    episodes, envs = params.evaluate.episodes, params.evaluate.envs
    seeds = [
        episode_seed(Purpose.EVALUATION, params.seed, index)
        for index in range(episodes)
    ]
    with progress_bar(episodes, f"evaluating {name}", "episode") as bar:
        game = params.game.model_copy(update={"emulator": REFERENCE_EMULATOR})
        table, recordings = play_episodes(
            agent, game, params.noise, seeds, envs, bar.update
        )
    table.insert(0, "agent", name)

    path = EPISODES / f"{name}.csv"
    write_csv(path, table)
    write_lines(path.with_suffix(".jsonl"), [log.to_json() for log in recordings])
    # From the file, so that whoever computes them again finds the same digits.
    table = read_episodes(path, name)
    rng = np.random.default_rng(params.seed)
    write_json(METRICS / f"{name}.json", summarise(table, BOOTSTRAP_SAMPLES, rng))


def folder_of(name: str) -> Path | None:
    """Return where an agent is stored; random play is not."""
    if name == "random":
        return None
    return CLONE if name == "bc" else TRAINED / name


if __name__ == "__main__":
    run_stage(main)
