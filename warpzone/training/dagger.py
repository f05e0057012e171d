"""DAgger: a teacher says what it would have done where its pupil has been.

Ross, Gordon and Bagnell 2011, https://arxiv.org/abs/1011.0686.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from warpzone.agents.policy import Policy, action_odds
from warpzone.core.params import GameParams
from warpzone.envs.mario.env import MarioEnv
from warpzone.envs.mario.observation import PictureStack
from warpzone.training.bc import Demonstration


class Witness:
    """Keeps what is to be seen and the memory, before each agent step of an episode.

    Args:
        game: How agents see the game.
    """

    def __init__(self, game: GameParams) -> None:
        self._game = game
        self._view = PictureStack(game)
        self._pictures: list[np.ndarray] = []
        self._ram: list[np.ndarray] = []

    def look(self, env: MarioEnv) -> None:
        """See an environment before its next agent step, whatever its agent sees."""
        emulator = env.play.emulator
        if not self._ram:
            self._view.fill(emulator, env.held)
            self._pictures += list(self._view.observation.copy())
        else:
            self._view.push(emulator, env.held)
            self._pictures.append(self._view.observation[-1].copy())
        self._ram.append(np.array(env.play.ram))

    def ask(
        self, teacher: Policy, temperature: float, is_stuck: bool
    ) -> tuple[Demonstration, Demonstration]:
        """Say, for every step of the episode, what the teacher would have done.

        Whoever is stuck is where the teacher hardly ever is: it knows no way out
        either. So it is not asked there, and every action is as probable as any other:
        most often a button has been held for too long, and whatever lets go of it
        helps.

        Args:
            teacher: A policy that sees RAM.
            temperature: That it plays with.
            is_stuck: Whether the episode ended for want of progress.

        Returns:
            What was to be seen and how probable each action is: for as long as Mario
            got on; and what followed.
        """
        depth = self._game.frame_stack
        pictures = sliding_window_view(np.stack(self._pictures), depth, axis=0)
        pictures = np.moveaxis(pictures, -1, 1)
        # At first the older pictures still show him move.
        stuck = max(0, self._game.stuck_limit - depth) if is_stuck else 0
        asked = len(self._ram) - stuck
        odds = action_odds(teacher, np.stack(self._ram[:asked]), temperature)
        told = (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32)
        actions = told.shape[1]
        any_ = np.full((stuck, actions), 1 / actions, np.float32)
        return (
            Demonstration(pictures[:asked], told),
            Demonstration(pictures[asked:], any_),
        )
