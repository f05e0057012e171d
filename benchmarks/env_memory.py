"""Print the megabytes of each further environment. The argument is the emulator."""

import sys

from benchmarks.game import Game, read_params
from benchmarks.memory import peak_megabytes
from warpzone.envs.mario.env import MarioEnv

FEW, MANY = 8, 32

# Enough to use all of an environment's buffers.
STEPS = 70


def main() -> None:
    game = Game.of(read_params()).but(emulator=sys.argv[1], frame_skip=1)
    envs: list[MarioEnv] = []
    peaks: list[float] = []
    for count in (FEW, MANY):
        while len(envs) < count:
            envs.append(env := MarioEnv(**game.arguments))
            env.reset(seed=0)
            # Nothing on a level harms Mario so soon if he does not move.
            for _ in range(STEPS):
                env.step(0)
        peaks.append(peak_megabytes())
    print((peaks[1] - peaks[0]) / (MANY - FEW))


if __name__ == "__main__":
    main()
