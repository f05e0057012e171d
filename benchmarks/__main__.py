"""Measure how close everything is to what this machine could do.

Writes benchmarks/results.json and benchmarks/README.md. With --quick it writes nothing:
it prints the page after one short round of everything but nes-py 8, which says that the
benchmark works and nothing else.
"""

import json
import platform
import time
from argparse import ArgumentParser
from contextlib import closing
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from pathlib import Path

from stable_baselines3.common.vec_env import SubprocVecEnv

from benchmarks.costs import growth, memory, start_up
from benchmarks.game import Game, read_params
from benchmarks.legacy_env import compare_legacy
from benchmarks.measuring import FULL, QUICK, Result, Size
from benchmarks.page import page
from benchmarks.stepping import EMULATORS, THREADS, compare_stepping
from benchmarks.training import compare_cloning, compare_planning, compare_training
from warpzone.agents.policy import make_deterministic
from warpzone.core.errors import InputError
from warpzone.core.files import write_json, write_text
from warpzone.core.params import Params
from warpzone.envs.mario.env import MarioEnv
from warpzone.envs.nes.consoles import REFERENCE_EMULATOR, installed_emulators

RESULTS = Path("benchmarks/results.json")
README = Path("benchmarks/README.md")
PROFILE = Path("benchmarks/profile.md")
# Pixels of a frame: what the field uses, legacy.py too. Our own default is smaller.
SIDE = 84
PACKAGES = ("stable-baselines3", "torch", "numpy")


def main() -> None:
    """Measure everything and write it down."""
    parser = ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="try it, in a minute")
    is_quick = parser.parse_args().quick
    size = QUICK if is_quick else FULL
    params = read_params()
    game = Game.of(params).but(height=SIDE, width=SIDE)
    # As the stages do.
    make_deterministic(params.seed)

    began = time.perf_counter()
    results, left_out = measure(params, game, size, with_legacy=not is_quick)
    setting = {
        "minutes": (time.perf_counter() - began) / 60,
        "machine": f"{platform.system()}, {platform.machine()}",
        "threads": THREADS,
        "envs": size.envs,
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
    if is_quick:
        # Fails on what is not finite, as write_json does.
        json.dumps(document, allow_nan=False)
        print(text)
    else:
        write_json(RESULTS, document)
        write_text(README, text)


def measure(
    params: Params, game: Game, size: Size, with_legacy: bool
) -> tuple[list[Result], str]:
    """Return what was measured, and why something was not, if so."""
    results: list[Result] = [*start_up(size), *memory()]
    left_out = ""
    games = {name: game.but(emulator=name) for name in EMULATORS}
    for emulator, chosen in games.items():
        make = [partial(MarioEnv, **chosen.arguments)] * size.envs
        # It takes half a minute to start, so all comparisons use the same one.
        with closing(SubprocVecEnv(list(make), start_method="spawn")) as subproc_envs:
            results += compare_stepping(chosen, size, subproc_envs)
            if emulator == REFERENCE_EMULATOR:
                for trained in games.values():
                    results += compare_training(params, trained, size, subproc_envs)
        results += compare_planning(chosen, size)
    results += compare_cloning(params, game, size)
    if with_legacy:
        try:
            results += compare_legacy(game, size)
        except InputError as error:
            left_out = f"Not compared with what most people run, nes-py 8: {error}."
    results += growth(game, size)
    return results, left_out


if __name__ == "__main__":
    main()
