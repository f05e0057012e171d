"""Measure how close everything is to what this machine could do.

Writes results.json, README.md and stepping.png in benchmarks/. With --quick it writes
nothing: it prints the page after one short round of everything but nes-py 8, which says
that the benchmark works and nothing else.
"""

import json
import multiprocessing
import platform
import time
from argparse import ArgumentParser
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from pathlib import Path

from stable_baselines3.common.vec_env import SubprocVecEnv

from benchmarks import peer
from benchmarks.costs import growth, memory, start_up
from benchmarks.figure import stepping_figure
from benchmarks.game import Game, read_params
from benchmarks.gil import gil_held
from benchmarks.legacy_env import compare_legacy
from benchmarks.measuring import FULL, QUICK, Line, Result, Size
from benchmarks.page import FIGURE, page
from benchmarks.stepping import (
    EMULATORS,
    THREADS,
    compare_with_alone,
    compare_with_sb3,
)
from benchmarks.training import compare_cloning, compare_planning, compare_training
from warpzone.agents.policy import make_deterministic
from warpzone.core.errors import InputError
from warpzone.core.files import write_bytes, write_json, write_text
from warpzone.core.params import Params
from warpzone.envs.mario.env import MarioEnv
from warpzone.envs.nes.consoles import (
    REFERENCE_EMULATOR,
    emulator_version,
    installed_emulators,
)

HERE = Path("benchmarks")
RESULTS = HERE / "results.json"
README = HERE / "README.md"
PROFILE = HERE / "profile.md"
# Pixels of a frame: what the field uses, legacy.py too. Our own default is smaller.
SIDE = 84
PACKAGES = ("stable-baselines3", "torch", "numpy", "numba")

LEGACY = "legacy"
PARTS = (
    *("start-up", "memory", "alone", "gil", "sb3", "retro", LEGACY),
    *("training", "planning", "cloning", "growth"),
)

# What processes of SubprocVecEnv import, once for all of them.
_PRELOADED = ("benchmarks.__main__", "stable_retro.examples.ppo")


def main() -> None:
    """Measure everything and write it down."""
    parser = ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="try it, in a minute")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=PARTS,
        metavar="PART",
        help=f"print these and write nothing: {', '.join(PARTS)}",
    )
    arguments = parser.parse_args()
    size = QUICK if arguments.quick else FULL
    wanted = arguments.only or [
        part for part in PARTS if not (arguments.quick and part == LEGACY)
    ]
    params = read_params()
    game = Game.of(params).but(height=SIDE, width=SIDE)
    # As the stages do.
    make_deterministic(params.seed)
    multiprocessing.set_forkserver_preload(list(_PRELOADED))

    began = time.perf_counter()
    parts = measurements(params, game, size)
    results: list[Result] = []
    reasons: list[str] = []
    for part in wanted:
        try:
            results += parts[part]()
        except InputError as error:
            reasons.append(f"Not measured ({part}): {error}.")
    left_out = " ".join(reasons)
    setting = {
        "minutes": (time.perf_counter() - began) / 60,
        "machine": f"{platform.system()}, {platform.machine()}",
        "threads": THREADS,
        "envs": size.envs,
        "many_envs": size.many_envs,
        "rounds": size.rounds,
        "turn_seconds": size.seconds,
        "frame_skip": game.kwargs["frame_skip"],
        "frame_side": SIDE,
        "device": params.device,
        "left_out": left_out,
        "versions": [
            *installed_emulators(),
            f"Python {platform.python_version()}",
            *(f"{package} {version(package)}" for package in PACKAGES),
        ],
    }
    text = page(results, setting, left_out, PROFILE.read_text(encoding="utf-8"))
    document = {"setting": setting, "results": [asdict(result) for result in results]}
    grown = [one for one in results if isinstance(one, Line) and one.contestant]
    figure = stepping_figure(grown, THREADS) if grown else b""
    if arguments.quick or arguments.only:
        # Fails on what is not finite, as write_json does.
        json.dumps(document, allow_nan=False)
        print(text)
    else:
        write_json(RESULTS, document)
        write_bytes(HERE / FIGURE, figure)
        write_text(README, text)


def measurements(
    params: Params, game: Game, size: Size
) -> Mapping[str, Callable[[], Sequence[Result]]]:
    """Return what measures each of `PARTS`.

    Each raises an `InputError` where something that it needs is not to be had.
    """
    games = {name: game.but(emulator=name) for name in EMULATORS}

    def fast() -> Game:
        emulator_version(peer.EMULATOR)
        return games[peer.EMULATOR]

    def processes(emulator: str) -> SubprocVecEnv:
        make = partial(MarioEnv, **games[emulator].arguments)
        return SubprocVecEnv([make] * size.envs)

    def sb3() -> list[Result]:
        results: list[Result] = []
        for emulator, chosen in games.items():
            with closing(processes(emulator)) as envs:
                results += compare_with_sb3(chosen, size, envs)
        return results

    def training() -> list[Result]:
        with closing(processes(REFERENCE_EMULATOR)) as envs:
            return [
                row
                for chosen in games.values()
                for row in compare_training(params, chosen, size, envs)
            ]

    def of_each(measure: Callable[[Game, Size], Sequence[Result]]) -> list[Result]:
        return [row for chosen in games.values() for row in measure(chosen, size)]

    return {
        "start-up": lambda: start_up(size),
        "memory": memory,
        "alone": lambda: of_each(compare_with_alone),
        "gil": lambda: gil_held(fast(), size),
        "sb3": sb3,
        "retro": lambda: peer.compare_with_retro(fast(), size),
        LEGACY: lambda: compare_legacy(game, size),
        "training": training,
        "planning": lambda: of_each(compare_planning),
        "cloning": lambda: compare_cloning(params, game, size),
        "growth": lambda: growth(fast(), size),
    }


if __name__ == "__main__":
    main()
