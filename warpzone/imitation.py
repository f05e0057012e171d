"""One policy learns from another one's play, though it sees something else."""

from collections.abc import Callable

import numpy as np

from warpzone.agents.checkpoints import Checkpoint
from warpzone.agents.cloning import Cloner, join, watch_all
from warpzone.agents.policy import Policy, PolicyAgent, set_weights, weights_of
from warpzone.evaluation import play_episodes
from warpzone.game.observation import ObsType
from warpzone.params import ImitationParams, Params
from warpzone.seeds import Purpose, episode_seed

_NAME = "imitation"


def work(imitation: ImitationParams) -> int:
    """Return how many steps `imitate` tells of: episodes, again, and updates."""
    return 2 * imitation.imitation_episodes + imitation.imitation_updates


def imitate(
    player: Policy,
    sees: ObsType,
    learner: Policy,
    params: Params,
    imitation: ImitationParams,
    seed: int,
    checkpoint: Checkpoint,
    on_step: Callable[[], object] = lambda: None,
) -> dict[str, int]:
    """Let a policy play and another one clone what it did.

    Args:
        player: Plays as it is measured.
        sees: What it sees; the learner sees the other.
        learner: Is trained in place, as the clone of the demonstrations was.
        params: All of them.
        imitation: How much.
        seed: Of the episodes and of the batches.
        checkpoint: Where the outcome is kept, and taken from if it is there.
        on_step: Called `work` times, unless the outcome was kept.

    Returns:
        What it took: agent steps, and emulator frames to play and to replay.
    """
    if not checkpoint.has(_NAME):
        seeds = [
            episode_seed(Purpose.IMITATION, seed, index)
            for index in range(imitation.imitation_episodes)
        ]
        agent = PolicyAgent(player, params.evaluate.temperature)
        game, envs = params.game, imitation.envs
        table, recordings = play_episodes(
            agent, game, params.noise, seeds, envs, on_step, sees
        )
        seen: ObsType = "ram" if sees == "pictures" else "pictures"
        shown = watch_all(recordings, game, "imitation", on_step, seen)
        cloner = Cloner(learner, params.pretrain_bc, np.random.default_rng(seed))
        updates = imitation.imitation_updates
        cloner.fit(join(shown), updates, anneal=True, on_update=on_step)
        steps, frames = table[["agent_steps", "emulator_frames"]].sum()
        cost = {
            "imitation_agent_steps": int(steps),
            "imitation_emulator_frames": 2 * int(frames),
        }
        checkpoint.save(_NAME, weights_of(cloner.average.policy), cost)
    stored = checkpoint.load(_NAME)
    set_weights(learner, stored.tensors)
    return stored.state
