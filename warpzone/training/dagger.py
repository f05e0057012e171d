"""DAgger: a teacher labels what its pupil does.

Ross, Gordon and Bagnell 2011, https://arxiv.org/abs/1011.0686.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from warpzone.agents.policy import PolicyAgent
from warpzone.core.params import PretrainBCParams
from warpzone.core.progress import progress_bar
from warpzone.core.seeds import Purpose, episode_seed
from warpzone.envs.replayable import ReplayableEnv
from warpzone.episodes.play import play_episodes
from warpzone.episodes.recording import Recording, replay_steps
from warpzone.episodes.table import Score
from warpzone.training.bc import (
    Cloner,
    Metrics,
    Transitions,
    join,
    measure,
    split_episodes,
)
from warpzone.training.checkpoint import Checkpoint

# Attributes that the rest of the training depends on, beside the cloner.
_KEPT = ("rounds", "episodes", "emulator_frames")


class TrajectoryRecorder:
    """Keeps what a pupil sees before each agent step of an episode, and labels it."""

    def __init__(self, key: str) -> None:
        self._key = key
        self._seen: list[np.ndarray] = []
        self._states: list[np.ndarray] = []

    def record(self, observation: Mapping[str, np.ndarray]) -> None:
        """Keep one observation. Of a stack of frames only the newest is new."""
        seen = observation[self._key]
        stack = seen if seen.ndim == 3 else seen[None]
        self._seen += list(stack[-1:].copy() if self._seen else stack.copy())
        self._states.append(observation["state"].copy())

    def label(
        self, teacher: PolicyAgent, stuck_steps: int
    ) -> tuple[Transitions, Transitions]:
        """Return what the teacher would have done, and what it is not asked about.

        Whoever is stuck is where the teacher hardly ever is: it knows no way out
        either. So every action is as probable as any other in the ``stuck_steps`` at
        the episode's end in which nothing moved: most often a button has been held for
        too long, and whatever lets go of it helps.
        """
        observations = np.stack(self._seen)
        depth = len(self._seen) - len(self._states) + 1
        if self._seen[0].ndim == 2:
            windows = sliding_window_view(observations, depth, axis=0)
            observations = np.moveaxis(windows, -1, 1)
        # At first the older frames of a stack still show it move.
        stuck = max(0, stuck_steps - depth)
        asked = len(self._states) - stuck
        weights = teacher.action_weights(np.stack(self._states[:asked]))
        told = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
        even = np.full((stuck, told.shape[1]), 1 / told.shape[1], np.float32)
        return (
            Transitions(observations[:asked], told),
            Transitions(observations[asked:], even),
        )


@dataclass
class DAgger:
    """Clones a teacher's play, then goes on in rounds that the pupil plays.

    It is saved after each round. What the checkpoint holds is resumed.
    """

    teacher: PolicyAgent
    """Sees the state."""
    pupil: PolicyAgent
    """Its policy is trained in place, and then replaced by what plays."""
    make_env: Callable[[str], ReplayableEnv]
    """Makes an env on a level; the observations are a dictionary of what the pupil sees
    and the state."""
    levels: Sequence[str]
    stuck_limit: int
    """Of the env."""
    params: PretrainBCParams
    seed: int
    """Of the episodes and the batches."""
    checkpoint: Checkpoint
    rounds: list[dict[str, Any]] = field(default_factory=list)
    """Rows of the table."""
    episodes: list[list[str]] = field(default_factory=list)
    """Those of each round, as recordings."""
    emulator_frames: int = 0
    train: list[Transitions] = field(default_factory=list)
    held_out: list[Transitions] = field(default_factory=list)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        self._cloner = Cloner(self.pupil, self.params, rng)
        self.pupil = self.pupil.playing(self._cloner.average.policy)

    def run(self) -> None:
        """Play all rounds, resuming after the last one that was saved."""
        params = self.params
        if (stored := self.checkpoint.state) is not None:
            self._cloner.load_state_dict(stored["cloner"])
            vars(self).update({name: stored[name] for name in _KEPT})
        for round_, lines in enumerate(self.episodes):
            self._replay(round_, lines)
        for round_ in range(len(self.rounds), params.rounds + 1):
            row = self._play(round_)
            updates = params.round_updates if round_ else params.updates
            row |= self._fit(f"cloning, round {round_}", updates)
            self.rounds.append(row)
            kept = {name: getattr(self, name) for name in _KEPT}
            self.checkpoint.save(kept | {"cloner": self._cloner.state_dict()})
        self.rounds[-1] |= self._fit("cloning, at the end", params.final_updates, True)

    def measure(self) -> tuple[Metrics, Transitions, np.ndarray]:
        """Return how well the pupil predicts held-out labels, these, and its own."""
        pairs = join(self.held_out)
        metrics, predictions = measure(self.pupil.policy, self.pupil.key, pairs)
        return metrics, pairs, predictions

    def _play(self, round_: int) -> dict[str, Any]:
        """Play the episodes of a round: first the teacher, then the pupil."""
        params = self.params
        count = params.round_episodes if round_ else params.episodes
        first = params.episodes + (round_ - 1) * count if round_ else 0
        indices = range(first, first + count)
        seeds = [episode_seed(Purpose.DAGGER, self.seed, index) for index in indices]
        recorders = [TrajectoryRecorder(self.pupil.key) for _ in seeds]
        with progress_bar(count, f"playing, round {round_}", "episode") as bar:
            table, recordings = play_episodes(
                self.pupil if round_ else self.teacher,
                self.make_env,
                self.levels,
                seeds,
                params.n_envs,
                bar.update,
                lambda index, observation: recorders[index].record(observation),
            )
        self.episodes.append([recording.to_json() for recording in recordings])
        self._take(recorders, table["cause"].tolist())
        score = Score.of(table)
        self.emulator_frames += score.emulator_frames
        return {
            "round": round_,
            "success_rate": score.success_rate,
            "progress": score.progress,
        }

    def _replay(self, round_: int, lines: Sequence[str]) -> None:
        """Play the episodes of a round again, as they were."""
        source = f"round {round_}"
        recorders, causes = [], []
        with progress_bar(len(lines), f"replaying, {source}", "episode") as bar:
            for line in lines:
                recording = Recording.parse(line, source)
                recorder = TrajectoryRecorder(self.pupil.key)
                with closing(self.make_env(recording.level)) as env:
                    for observation in replay_steps(recording, env, source):
                        recorder.record(observation)
                    causes.append(env.cause)
                recorders.append(recorder)
                bar.update()
        self._take(recorders, causes)

    def _take(
        self, recorders: Sequence[TrajectoryRecorder], causes: Sequence[str | None]
    ) -> None:
        """Label a round, and divide it into pairs to train on and to hold out."""
        labelled = [
            recorder.label(self.teacher, self.stuck_limit if cause == "stuck" else 0)
            for recorder, cause in zip(recorders, causes, strict=True)
        ]
        episodes = [moving for moving, _ in labelled]
        train, held_out = split_episodes(episodes, self.params.held_out_share)
        self.train += [*train, *(stuck for _, stuck in labelled if len(stuck))]
        self.held_out += held_out

    def _fit(self, title: str, updates: int, anneal: bool = False) -> dict[str, float]:
        """Train on all pairs so far and return columns of the table."""
        with progress_bar(updates, title, "update") as bar:
            fit = self._cloner.fit(self.train, updates, anneal, bar.update)
        measured, _, _ = self.measure()
        return {
            "pairs": sum(map(len, self.train + self.held_out)),
            "train_loss": fit.loss,
            "held_out_loss": measured.loss,
            "train_accuracy": fit.accuracy,
            "held_out_accuracy": measured.accuracy,
        }
