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


class TrajectoryRecorder:
    """Keeps what is seen before each agent step of an episode, and labels it.

    Args:
        key: What the pupil sees.
    """

    def __init__(self, key: str) -> None:
        self._key = key
        self._seen: list[np.ndarray] = []
        self._states: list[np.ndarray] = []

    def record(self, observation: Mapping[str, np.ndarray]) -> None:
        """Keep one observation. Of a stack of frames only the newest is new."""
        seen = observation[self._key]
        if seen.ndim == 3 and self._seen:
            self._seen.append(seen[-1].copy())
        elif seen.ndim == 3:
            self._seen += list(seen.copy())
        else:
            self._seen.append(seen.copy())
        self._states.append(observation["state"].copy())

    def label(
        self, teacher: PolicyAgent, stuck_steps: int
    ) -> tuple[Transitions, Transitions]:
        """Return what the teacher would have done in every step of the episode.

        Whoever is stuck is where the teacher hardly ever is: it knows no way out
        either. So it is not asked there, and every action is as probable as any other:
        most often a button has been held for too long, and whatever lets go of it
        helps.

        Args:
            teacher: Sees the state.
            stuck_steps: Agent steps at the episode's end in which nothing moved.

        Returns:
            What was seen and how probable each action is: for as long as the episode
            got on; and what followed.
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
class Log:
    """What happened so far. JSON can say it."""

    episodes: list[list[str]] = field(default_factory=list)
    """Those of each round, as recordings."""
    rounds: list[dict[str, Any]] = field(default_factory=list)
    """Rows of the table."""
    agent_steps: int = 0
    emulator_frames: int = 0


class DAgger:
    """Clones a teacher's play, then goes on in rounds that the pupil plays.

    It is saved after each round.

    Args:
        teacher: Sees the state.
        pupil: Is trained in place; `policy` is what plays.
        make_env: Makes an env on a level; the observations are a dictionary of what the
            pupil sees and the state.
        levels: The task's.
        params: How to train.
        seed: Of the episodes and the batches.
        checkpoint: What it holds is resumed.
    """

    def __init__(
        self,
        teacher: PolicyAgent,
        pupil: PolicyAgent,
        make_env: Callable[[str], ReplayableEnv],
        levels: Sequence[str],
        params: PretrainBCParams,
        seed: int,
        checkpoint: Checkpoint,
    ) -> None:
        self._teacher = teacher
        self._make_env = make_env
        self._levels = levels
        self._params = params
        self._seed = seed
        self._checkpoint = checkpoint
        self._cloner = Cloner(pupil, params, np.random.default_rng(seed))
        self.pupil = pupil.playing(self._cloner.average.policy)
        self.log = Log()
        self.train: list[Transitions] = []
        self.held_out: list[Transitions] = []

    def run(self) -> None:
        """Play all rounds, resuming after the last one that was saved."""
        params = self._params
        if self._checkpoint.has("state"):
            stored = self._checkpoint.load("state")
            self._cloner.load_state_dict(stored["cloner"])
            self.log = Log(**stored["log"])
        for round_ in range(params.rounds + 1):
            is_new = round_ == len(self.log.rounds)
            row = self._play(round_) if is_new else self._replay(round_)
            if not is_new:
                continue
            updates = params.round_updates if round_ else params.updates
            with progress_bar(updates, f"cloning, round {round_}", "update") as bar:
                fit = self._cloner.fit(self.train, updates, on_update=bar.update)
            row["pairs"] = sum(map(len, self.train + self.held_out))
            self.log.rounds.append(row | self._metrics(fit))
            self._checkpoint.save(
                "state",
                {"cloner": self._cloner.state_dict(), "log": vars(self.log)},
            )
        with progress_bar(params.final_updates, "cloning, at the end", "update") as bar:
            fit = self._cloner.fit(self.train, params.final_updates, True, bar.update)
        self.log.rounds[-1] |= self._metrics(fit)

    def measure(self) -> tuple[Metrics, Transitions, np.ndarray]:
        """Return how well the pupil predicts held-out labels, these, and its own."""
        pairs = join(self.held_out)
        metrics, predictions = measure(self.pupil.policy, self.pupil.key, pairs)
        return metrics, pairs, predictions

    def _play(self, round_: int) -> dict[str, Any]:
        """Play the episodes of a round: first the teacher, then the pupil."""
        params = self._params
        count = params.round_episodes if round_ else params.episodes
        first = params.episodes + (round_ - 1) * count if round_ else 0
        seeds = [
            episode_seed(Purpose.DAGGER, self._seed, first + index)
            for index in range(count)
        ]
        recorders = [TrajectoryRecorder(self.pupil.key) for _ in seeds]
        with progress_bar(count, f"playing, round {round_}", "episode") as bar:
            table, recordings = play_episodes(
                self.pupil if round_ else self._teacher,
                self._make_env,
                self._levels,
                seeds,
                params.n_envs,
                bar.update,
                lambda index, observation: recorders[index].record(observation),
            )
        self.log.episodes.append([recording.to_json() for recording in recordings])
        score = Score.of(table)
        self.log.agent_steps += score.agent_steps
        self.log.emulator_frames += score.emulator_frames
        self._take(recorders, table["cause"].tolist())
        return {
            "round": round_,
            "success_rate": score.success_rate,
            "progress": score.progress,
        }

    def _replay(self, round_: int) -> dict[str, Any]:
        """Play the episodes of a round again, as they were."""
        source = f"round {round_}"
        recorders, causes = [], []
        lines = self.log.episodes[round_]
        with progress_bar(len(lines), f"replaying, {source}", "episode") as bar:
            for line in lines:
                recording = Recording.parse(line, source)
                recorder = TrajectoryRecorder(self.pupil.key)
                with closing(self._make_env(recording.level)) as env:
                    for observation in replay_steps(recording, env, source):
                        recorder.record(observation)
                    causes.append(env.cause)
                recorders.append(recorder)
                bar.update()
        self._take(recorders, causes)
        return {}

    def _take(
        self, recorders: Sequence[TrajectoryRecorder], causes: Sequence[str | None]
    ) -> None:
        """Label a round, and divide it into pairs to train on and to hold out."""
        with closing(self._make_env(self._levels[0])) as env:
            stuck_limit = env.stuck_limit
        labelled = [
            recorder.label(self._teacher, stuck_limit if cause == "stuck" else 0)
            for recorder, cause in zip(recorders, causes, strict=True)
        ]
        episodes = [moving for moving, _ in labelled]
        train, held_out = split_episodes(episodes, self._params.held_out_share)
        self.train += [*train, *(stuck for _, stuck in labelled if len(stuck))]
        self.held_out += held_out

    def _metrics(self, fit: Metrics) -> dict[str, float]:
        measured, _, _ = self.measure()
        return {
            "train_loss": fit.loss,
            "held_out_loss": measured.loss,
            "train_accuracy": fit.accuracy,
            "held_out_accuracy": measured.accuracy,
        }
