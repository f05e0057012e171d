"""Measure how fast environments step, against what the emulator alone could do.

Writes benchmarks/results.json and benchmarks/README.md. The contestants take
turns, so that a busy machine slows all of them alike; what counts is the ratio of the
medians.
"""

import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv

from warpzone.files import write_json, write_text
from warpzone.game.actions import ACTION_SETS
from warpzone.game.emulator import NesPyEmulator
from warpzone.game.env import MarioEnv
from warpzone.game.level import LevelPlay
from warpzone.game.vec_env import ThreadedVecEnv
from warpzone.params import Params, load_params
from warpzone.progress import progress_bar

PARAMS = Path("params.yaml")
RESULTS = Path("benchmarks/results.json")
README = Path("benchmarks/README.md")

ENVS = 16
ROUNDS = 7
STEPS_PER_ROUND = 40

type Contestant = Callable[[], float]
"""Works for a while and returns agent steps a second."""


def main() -> None:
    """Let the contestants take turns and write down their medians."""
    params = load_params(PARAMS)
    threads = os.process_cpu_count() or 1
    with ExitStack() as stack:
        make = [partial(MarioEnv, params.game, params.noise)] * ENVS
        vec_envs: dict[str, VecEnv] = {
            "ThreadedVecEnv": ThreadedVecEnv(make),
            "SB3 SubprocVecEnv": SubprocVecEnv(list(make), start_method="spawn"),
            "SB3 DummyVecEnv": DummyVecEnv(list(make)),
        }
        contestants: dict[str, Contestant] = {
            "emulator alone": emulator_alone(params, threads)
        }
        for name, envs in vec_envs.items():
            stack.callback(envs.close)
            contestants[name] = stepping(envs, params)
        rates = take_turns(contestants)
    limit = rates["emulator alone"]
    write_json(
        RESULTS,
        {
            "envs": ENVS,
            "threads": threads,
            "rounds": ROUNDS,
            "agent_steps_per_second": rates,
            "share_of_limit": {name: rate / limit for name, rate in rates.items()},
        },
    )
    rows = "".join(
        f"| {name} | {rate:,.0f} | {rate / limit:.2f} |\n"
        for name, rate in rates.items()
    )
    write_text(
        README,
        f"""\
# Benchmarks

`make bench` writes this page. Agent steps a second of {ENVS} environments on {threads}
threads, random play, frame skip {params.game.frame_skip}, pictures of
{params.game.height}x{params.game.width}; medians of {ROUNDS} rounds in which the
contestants took turns. The limit is the emulator on as many threads with nothing around
it: {params.game.frame_skip} frames a step.

| contestant | agent steps/s | share of the limit |
|---|---|---|
{rows}""",
    )


def take_turns(contestants: dict[str, Contestant]) -> dict[str, float]:
    """Return the median rate of each."""
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    with progress_bar(ROUNDS, "Benchmark", "round") as bar:
        for _ in range(ROUNDS):
            for name, contestant in contestants.items():
                rates[name].append(contestant())
            bar.update(1)
    return {name: statistics.median(values) for name, values in rates.items()}


def emulator_alone(params: Params, threads: int) -> Contestant:
    """Advance one console a thread, and do nothing else."""
    plays = [LevelPlay(NesPyEmulator(), params.game.level) for _ in range(threads)]
    steps = ENVS * STEPS_PER_ROUND // threads
    frames = steps * params.game.frame_skip

    def advance(play: LevelPlay) -> None:
        play.restart()
        for _ in range(frames):
            play.emulator.advance(0)

    def work() -> float:
        began = time.perf_counter()
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(advance, plays))
        return steps * threads / (time.perf_counter() - began)

    return work


def stepping(envs: VecEnv, params: Params) -> Contestant:
    """Step a vector of environments with random actions."""
    rng = np.random.default_rng(0)
    actions = len(ACTION_SETS[params.game.action_set])
    envs.seed(0)
    envs.reset()

    def work() -> float:
        began = time.perf_counter()
        for _ in range(STEPS_PER_ROUND):
            envs.step(rng.integers(actions, size=ENVS))
        return ENVS * STEPS_PER_ROUND / (time.perf_counter() - began)

    return work


if __name__ == "__main__":
    main()
