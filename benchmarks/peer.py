"""The peer that people can install today: stable-retro, with its own environment.

It plays the same cartridge on the same FCEUmm, with the wrappers of stable-retro's own
example, ``stable_retro/examples/ppo.py``. It allows one emulator in a process, so SB3's
SubprocVecEnv runs it, as in that example.
"""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from importlib.resources import files
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import gymnasium as gym
from stable_baselines3.common.vec_env import (
    SubprocVecEnv,
    VecEnv,
    VecFrameStack,
    VecTransposeImage,
)

from benchmarks.game import LEVEL, Game
from benchmarks.measuring import Line, Row, Size, alternate
from benchmarks.stepping import THREADS, random_play
from warpzone.envs.mario.actions import ACTION_SETS
from warpzone.envs.mario.cartridge import rom_path
from warpzone.envs.mario.env import MarioEnv
from warpzone.envs.nes.buttons import NO_BUTTONS, action_name
from warpzone.envs.vec_env import ThreadedVecEnv

EMULATOR = "fceumm"
NAME = "stable-retro in SubprocVecEnv"

_GAME = "SuperMarioBros-Nes-v0"
_STATE = f"Level{LEVEL}"
# What it knows of the game: rewards, ends, where an episode begins.
_KNOWLEDGE = ("data.json", "scenario.json", "metadata.json", f"{_STATE}.state")
_STACK = 4


def make_retro_env(folder: Path, buttons: Sequence[Sequence[str]]) -> gym.Env:
    """Return stable-retro's environment in its example's wrappers.

    Args:
        folder: Of the game, see `retro_envs`.
        buttons: What each action presses.
    """
    # Not installed on every platform.
    from stable_retro.data import Integrations, add_custom_integration
    from stable_retro.examples.discretizer import Discretizer
    from stable_retro.examples.ppo import make_retro, wrap_deepmind_retro

    add_custom_integration(str(folder))
    env = make_retro(
        game=_GAME,
        state=_STATE,
        inttype=Integrations.CUSTOM_ONLY,
        render_mode="rgb_array",
    )
    return wrap_deepmind_retro(Discretizer(env, buttons))


@contextmanager
def retro_envs(game: Game, count: int) -> Iterator[VecEnv]:
    """Run so many environments of stable-retro, a process each."""
    known = Path(str(files("stable_retro"))) / "data" / "stable" / _GAME
    buttons = [
        [] if mask == NO_BUTTONS else action_name(mask).upper().split("+")
        for mask in ACTION_SETS[game.kwargs["action_set"]]
    ]
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / _GAME).mkdir()
        for file in _KNOWLEDGE:
            shutil.copyfile(known / file, folder / _GAME / file)
        # Of another edition than the one that stable-retro has a checksum of.
        shutil.copyfile(rom_path(), folder / _GAME / "rom.nes")
        processes = SubprocVecEnv([partial(make_retro_env, folder, buttons)] * count)
        with closing(VecTransposeImage(VecFrameStack(processes, _STACK))) as envs:
            yield envs


def compare_with_retro(game: Game, size: Size) -> list[Row]:
    """Step our environments, on the same emulator, against stable-retro's."""
    make = partial(MarioEnv, **game.arguments)
    with ExitStack() as stack:
        ours = stack.enter_context(closing(ThreadedVecEnv([make] * size.envs)))
        paces = alternate(
            {
                "theirs": random_play(
                    stack.enter_context(retro_envs(game, size.envs)), size.seconds
                ),
                "ours": random_play(ours, size.seconds),
            },
            size.rounds,
            "stepping, and stable-retro",
        )
    return [
        Row(
            topic="Stepping",
            contestant=f"ThreadedVecEnv, {EMULATOR}",
            baseline=NAME,
            unit="agent steps/s",
            words=(
                f"{size.envs} environments: its own, a process each, with the wrappers "
                "of its example for PPO: skip, grey, resize, stack"
            ),
            values=[pace.agent_steps for pace in paces["ours"]],
            baseline_values=[pace.agent_steps for pace in paces["theirs"]],
        )
    ]


def growth_of_retro(game: Game, size: Size) -> Line:
    """Measure how the rate of stable-retro's environments grows."""
    values: list[float] = []
    for count in size.processes:
        with retro_envs(game, count) as envs:
            play = random_play(envs, size.seconds / 2)
            values.append(median(play().agent_steps for _ in range(size.rounds)))
    return Line(
        topic="Growth",
        name="environments",
        unit="agent steps/s",
        words=f"{NAME}, a process each, {THREADS} cores",
        sizes=size.processes,
        values=values,
        contestant=NAME,
    )
