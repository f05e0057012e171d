"""The stage that gathers demonstrations, with recordings of people."""

import json
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from stages import collect_demos
from warpzone.core.errors import InputError
from warpzone.core.params import NoiseParams, Params, parse_params
from warpzone.envs.registry import make_env
from warpzone.episodes.recording import Recording, read_recordings

ROOT = Path(__file__).parents[2]
OLD = (ROOT / "tests/data/clears.jsonl").read_text().splitlines()
ME = Path("data/recordings/me.jsonl")
DEMOS = Path("data/demos/cartpole/default.jsonl")
METRICS = Path("metrics/collect_demos/cartpole/default.json")

# A cart that mostly does what it did before: nobody balances a pole on it.
HOPELESS = {"no_op_max": 30, "sticky_probability": 0.9, "sticky_unit": "frame"}
QUIET = NoiseParams(no_op_max=0, sticky_probability=0.0, sticky_unit="frame")


@pytest.fixture
def cartpole(
    small_workspace: Params, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Params]:
    """Write a params.yaml that plays CartPole, and an empty data/recordings/."""
    monkeypatch.setattr(sys, "argv", ["collect_demos.py", "--task", "default"])
    ME.parent.mkdir(parents=True)

    def cartpole(episodes: int = 3, max_tries: int = 5, **changes: Any) -> Params:
        document = small_workspace.model_dump(mode="json") | changes
        document |= {"env": "cartpole"}
        document["run"]["tasks"] = ["default"]
        document["envs"]["cartpole"]["kwargs"]["time_limit"] = 60
        document["collect_demos"] = {"episodes": episodes, "max_tries": max_tries}
        params = parse_params(document, "params.yaml")
        Path("params.yaml").write_text(params.model_dump_json())
        return params

    return cartpole


def by_a_person(
    env: str, level: str, kwargs: dict[str, Any], actions: list[int]
) -> Recording:
    """Play without noise, and record what a person's recording holds."""
    with closing(make_env(env, kwargs, level, QUIET, "state")) as played:
        played.reset(seed=1)
        for action in actions:
            played.step(action)
        recording = Recording.of_episode(played, None)
    return recording.model_copy(update={"decisions": None})


def pole() -> Recording:
    """A person's: to and fro, until the pole falls."""
    kwargs = {"time_limit": 60}
    return by_a_person("cartpole", "default", kwargs, [0, 1] * 4)


def write_recordings(*lines: str) -> None:
    ME.write_text("".join(f"{line}\n" for line in lines))


def test_the_demonstrator_plays_as_often_as_wanted(
    cartpole: Callable[..., Params],
) -> None:
    cartpole(episodes=3)
    collect_demos.main()
    demos = read_recordings(DEMOS)
    # Seeds of demonstrations: purpose 0, seed 1, one after the other.
    assert [demo.seed for demo in demos] == [100_000, 100_001, 100_002]
    assert {demo.outcome for demo in demos} == {"success"}
    metrics = json.loads(METRICS.read_text())
    assert metrics == {
        "episodes_human": 0,
        "episodes_tried": 3,
        "episodes_kept": 3,
        # It plans nothing, so it needs the frames that it plays.
        "emulator_frames": sum(len(demo.held) for demo in demos),
        "agent_steps_mean": 60,
    }


def test_equal_params_give_equal_bytes(
    cartpole: Callable[..., Params], monkeypatch: pytest.MonkeyPatch
) -> None:
    cartpole(episodes=4)
    contents = []
    for cores in (1, 4):
        monkeypatch.setattr("os.process_cpu_count", lambda cores=cores: cores)
        collect_demos.main()
        contents.append([path.read_bytes() for path in (DEMOS, METRICS)])
    assert contents[0] == contents[1]


def test_recordings_of_people_come_first(cartpole: Callable[..., Params]) -> None:
    cartpole(episodes=2)
    mine = pole()
    write_recordings(mine.to_json())
    collect_demos.main()
    demos = read_recordings(DEMOS)
    assert demos[0] == mine
    assert len(demos) == 3
    metrics = json.loads(METRICS.read_text())
    assert (metrics["episodes_human"], metrics["episodes_kept"]) == (1, 2)
    # (8 + 60 + 60) / 3.
    assert metrics["agent_steps_mean"] == pytest.approx(128 / 3)


def test_where_the_demonstrator_fails_recordings_of_people_help(
    cartpole: Callable[..., Params], capsys: pytest.CaptureFixture[str]
) -> None:
    cartpole(noise=HOPELESS)
    said = (
        "the demonstrator succeeded on default in 0 of 5 tries, "
        "collect_demos.episodes = 3, data/recordings has {} of it"
    )
    with pytest.raises(InputError) as caught:
        collect_demos.main()
    assert str(caught.value) == (
        f"{said.format(0)}: raise collect_demos.max_tries, lower "
        "collect_demos.episodes, or record your own play"
    )
    assert not DEMOS.exists()
    write_recordings(pole().to_json())
    collect_demos.main()
    told = capsys.readouterr().err.splitlines()
    assert f"collect_demos: {said.format(1)}: these have to do" in told
    assert read_recordings(DEMOS) == [pole()]
    metrics = json.loads(METRICS.read_text())
    counts = {name: metrics[f"episodes_{name}"] for name in ("human", "tried", "kept")}
    assert counts == {"human": 1, "tried": 5, "kept": 0}


def test_two_of_the_demonstrators_own_have_to_do_and_one_does_not(
    cartpole: Callable[..., Params],
) -> None:
    # At this noise it balances one pole of nine, and another one later on.
    noise = HOPELESS | {"sticky_probability": 0.6}
    cartpole(episodes=9, max_tries=9, noise=noise)
    with pytest.raises(InputError, match="in 1 of 9 tries, "):
        collect_demos.main()
    cartpole(episodes=20, max_tries=20, noise=noise)
    collect_demos.main()
    demos = read_recordings(DEMOS)
    assert 2 <= len(demos) < 20
    assert json.loads(METRICS.read_text())["episodes_tried"] == 20
    # A person's is added to them.
    write_recordings(pole().to_json())
    collect_demos.main()
    assert read_recordings(DEMOS) == [pole(), *demos]


def test_recordings_of_people_may_be_all_that_there_is(
    cartpole: Callable[..., Params],
) -> None:
    cartpole(episodes=0, max_tries=0)
    with pytest.raises(InputError) as caught:
        collect_demos.main()
    assert str(caught.value) == (
        "nobody demonstrates default: collect_demos.episodes = 0, and data/recordings "
        "has no recording of it: add one, or raise collect_demos.episodes"
    )
    write_recordings(pole().to_json())
    collect_demos.main()
    assert read_recordings(DEMOS) == [pole()]
    assert json.loads(METRICS.read_text())["episodes_tried"] == 0


def test_each_level_of_a_task_has_its_demonstrations(
    cartpole: Callable[..., Params], small_workspace: Params
) -> None:
    envs = small_workspace.model_dump(mode="json")["envs"]
    envs["cartpole"]["tasks"] = {"default": ["default", "default"]}
    cartpole(episodes=2, envs=envs)
    collect_demos.main()
    assert len(read_recordings(DEMOS)) == 4
    assert json.loads(METRICS.read_text())["episodes_kept"] == 4


def test_recordings_of_the_level_are_added_and_those_of_others_left_out(
    small_workspace: Params,
) -> None:
    ME.parent.mkdir(parents=True)
    kwargs = small_workspace.world.kwargs
    mine = by_a_person("mario", "1-1", kwargs, [1] * 5)
    other = by_a_person("mario", "1-2", kwargs, [1] * 5)
    write_recordings(mine.to_json(), other.to_json(), pole().to_json())
    assert collect_demos.human_recordings(small_workspace, "1-1") == [mine]
    assert collect_demos.human_recordings(small_workspace, "1-2") == [other]
    assert collect_demos.human_recordings(small_workspace, "1-3") == []


def test_old_recordings_of_people_are_read_and_written_as_new_ones(
    small_workspace: Params,
) -> None:
    ME.parent.mkdir(parents=True)
    # On 1-4, without the decisions and the noise that only agents have.
    old = json.loads(OLD[3]) | {"decisions": None, "seed": None}
    write_recordings(json.dumps(old))
    [mine] = collect_demos.human_recordings(small_workspace, "1-4")
    assert mine.outcome == "success"
    assert [list(run) for run in mine.frame_actions] == old["buttons"]
    assert set(json.loads(mine.to_json())) == set(Recording.model_fields)


def test_without_recordings_there_are_none(small_workspace: Params) -> None:
    assert collect_demos.human_recordings(small_workspace, "1-1") == []


def test_a_recording_that_does_not_replay_is_refused_with_its_file_and_line(
    cartpole: Callable[..., Params],
) -> None:
    cartpole()
    wrong = pole().model_copy(update={"state_sha256": "0" * 64})
    write_recordings(pole().to_json(), wrong.to_json())
    with pytest.raises(
        InputError, match=r"me\.jsonl, line 2: .* another state: .* recorded 000"
    ):
        collect_demos.main()
    assert not DEMOS.exists()


def test_a_bad_recording_among_many_is_told_before_anything_is_played(
    cartpole: Callable[..., Params],
    small_workspace: Params,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    envs = small_workspace.model_dump(mode="json")["envs"]
    envs["cartpole"]["tasks"] = {"default": ["default", "default"]}
    cartpole(envs=envs)
    good, bad = pole(), pole().model_copy(update={"state_sha256": "0" * 64})
    lines = [one.to_json() for one in (good, good, bad, good)]
    write_recordings(*lines)
    ME.with_name("a.jsonl").write_text(f"{lines[0]}\n")
    monkeypatch.setattr(collect_demos, "planned", lambda *_: pytest.fail("it plays"))
    with pytest.raises(
        InputError, match=r"^data/recordings/me\.jsonl, line 3: "
    ) as one:
        collect_demos.main()
    assert "it is of" not in str(one.value)
    # Of another release: the replay decides.
    write_recordings(*(line.replace("gymnasium ", "gymnasium 0.") for line in lines))
    with pytest.raises(InputError, match=r"me\.jsonl, line 3: .*; it is of 'gymn"):
        collect_demos.main()


def test_a_recording_of_other_decisions_is_refused(
    small_workspace: Params,
) -> None:
    ME.parent.mkdir(parents=True)
    kwargs = small_workspace.world.kwargs | {"frame_skip": 6}
    write_recordings(by_a_person("mario", "1-1", kwargs, [1] * 5).to_json())
    with pytest.raises(InputError, match=r"line 1: frame skip is 6, params\.yaml"):
        collect_demos.human_recordings(small_workspace, "1-1")
