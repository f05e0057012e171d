import json
import os
import shutil
from contextlib import chdir, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike

from warpzone.core.errors import InputError
from warpzone.training import checkpoint as module
from warpzone.training.checkpoint import Checkpoint, checkpointed, like_parameters

STATE = {
    "z": 0.1 + 0.2,
    "rows": [{"y": None, "x": float("nan"), "w": float("-inf")}],
    "big": 2**100,
    "tiny": 5e-324,
    "said": "état",
    "is_full": True,
}
TREE = STATE | {
    "b": torch.arange(6.0).reshape(2, 3),
    "more": {"a": torch.tensor(7), 0: [np.arange(4, dtype=np.uint8)]},
}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    return Checkpoint(tmp_path / "one.checkpoint")


def kept(checkpoint: Checkpoint, tree: Any) -> Any:
    """Save a tree and return what another process finds."""
    checkpoint.save(tree)
    return Checkpoint(checkpoint.path).state


def test_what_is_loaded_is_what_was_saved(checkpoint: Checkpoint) -> None:
    assert checkpoint.state is None
    loaded = kept(checkpoint, TREE)
    assert loaded.keys() == TREE.keys()
    assert torch.equal(loaded["b"], TREE["b"])
    assert torch.equal(loaded["more"]["a"], torch.tensor(7))
    assert list(loaded["more"]) == ["a", 0]
    assert json.dumps({name: loaded[name] for name in STATE}) == json.dumps(STATE)


@pytest.mark.parametrize(
    "array",
    [
        np.array([True, False]),
        np.arange(12, dtype=np.int64).reshape(3, 4).T,
        np.array([[0.1 + 0.2, np.nan, -0.0]]),
        np.array([1e-45, 3.4e38], np.float32),
        np.zeros((0, 4), np.float32),
        np.array(5, np.uint8),
        np.arange(3, dtype=np.uint32),
    ],
)
def test_an_array_keeps_its_numbers_type_and_shape(
    checkpoint: Checkpoint, array: np.ndarray
) -> None:
    loaded = kept(checkpoint, {"array": array})["array"]
    assert isinstance(loaded, np.ndarray)
    assert (loaded.dtype, loaded.shape) == (array.dtype, array.shape)
    assert loaded.tobytes() == array.tobytes()
    # It may be written to, as a replay buffer is.
    loaded[...] = 0


@pytest.mark.parametrize(
    "tensor",
    [
        torch.tensor(3.0),
        torch.tensor([1, 2], dtype=torch.uint8),
        torch.rand(2, 3, 4, 4).to(memory_format=torch.channels_last),
        torch.rand(3, requires_grad=True),
        torch.zeros(0),
    ],
)
def test_a_tensor_keeps_its_numbers_type_and_shape(
    checkpoint: Checkpoint, tensor: torch.Tensor
) -> None:
    [loaded] = kept(checkpoint, [tensor])
    assert (loaded.dtype, loaded.shape) == (tensor.dtype, tensor.shape)
    assert torch.equal(loaded, tensor)
    assert not loaded.requires_grad


def test_numbers_of_numpy_become_python_s(checkpoint: Checkpoint) -> None:
    # A third is no float32; what is kept is the float32 to the bit.
    numbers = [np.float64(0.1), np.float32(1 / 3), np.int64(2), np.True_]
    loaded = kept(checkpoint, numbers)
    assert loaded == [0.1, 0.3333333432674408, 2, True]


def test_weights_that_two_names_share_are_kept_under_both(
    checkpoint: Checkpoint,
) -> None:
    shared = torch.arange(3.0)
    loaded = kept(checkpoint, {"a": shared, "b": shared, "c": shared[1:]})
    assert [loaded[name].tolist() for name in "abc"] == [[0, 1, 2], [0, 1, 2], [1, 2]]


def test_the_last_save_counts_and_leaves_nothing_beside(checkpoint: Checkpoint) -> None:
    checkpoint.save(1)
    assert kept(checkpoint, 2) == 2
    assert list(checkpoint.path.parent.iterdir()) == [checkpoint.path]


@pytest.mark.parametrize("place", [0, 40, 200, -1])
def test_a_flipped_byte_is_told(checkpoint: Checkpoint, place: int) -> None:
    checkpoint.save(TREE)
    path = checkpoint.path
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"one.checkpoint: is damaged: delete it"):
        Checkpoint(path)


@pytest.mark.parametrize("length", [0, 10, 100])
def test_a_cut_file_is_told(checkpoint: Checkpoint, length: int) -> None:
    checkpoint.save(TREE)
    path = checkpoint.path
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(InputError, match="is damaged"):
        Checkpoint(path)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "repo"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def path_of(facts: object, *inputs: Path, stage: str = "s") -> Path:
    with checkpointed(stage, facts, inputs) as checkpoint:
        return checkpoint.path


@pytest.mark.usefixtures("workspace")
def test_all_that_decides_a_result_names_the_file() -> None:
    demos, model = Path("demos"), Path("model")
    model.mkdir()
    for path in (demos, model / "weights"):
        path.write_text("1")
    usual = path_of({"seed": 1}, demos, model)
    assert path_of({"seed": 1}, demos, model) == usual
    assert path_of({"seed": 2}, demos, model) != usual
    assert path_of({"seed": 1}, demos, model, stage="t") != usual
    for path in (demos, model / "weights"):
        path.write_text("2")
        assert path_of({"seed": 1}, demos, model) != usual
        path.write_text("1")
    (model / "more").write_text("1")
    assert path_of({"seed": 1}, demos, model) != usual


@pytest.mark.usefixtures("workspace")
def test_an_input_that_is_missing_is_named() -> None:
    with pytest.raises(InputError, match=r"^models/bc: cannot be read: No such file"):
        path_of(1, Path("models/bc"))


@pytest.mark.usefixtures("workspace")
def test_success_removes_the_file_and_failure_keeps_it() -> None:
    def fail(checkpoint: Checkpoint) -> None:
        checkpoint.save(TREE)
        raise InputError("no")

    with pytest.raises(InputError), checkpointed("s", 1, []) as checkpoint:
        fail(checkpoint)
    assert checkpoint.path.exists()
    with checkpointed("s", 2, []) as other:
        assert other.state is None
    with checkpointed("s", 1, []) as again:
        assert again.state is not None
    assert not checkpoint.path.exists()


@pytest.mark.usefixtures("workspace")
def test_a_second_run_of_a_stage_is_refused_and_names_the_first() -> None:
    with (
        checkpointed("s", 1, []),
        pytest.raises(InputError, match=f"process {os.getpid()} is at work here"),
        checkpointed("s", 2, []),
    ):
        pass


@pytest.fixture
def copies(workspace: Path) -> list[Path]:
    """Where DVC runs two queued experiments."""
    folders = [workspace / f".dvc/tmp/exps/tmp{number}" for number in range(2)]
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "demos").write_text("1")
    return folders


def test_a_queued_experiment_resumes_in_another_copy(
    workspace: Path, copies: list[Path]
) -> None:
    with (
        suppress(KeyboardInterrupt),
        chdir(copies[0]),
        checkpointed("s", 1, [Path("demos")]) as checkpoint,
    ):
        checkpoint.save(TREE)
        raise KeyboardInterrupt
    assert list(workspace.glob(".checkpoints/*.checkpoint")) == [checkpoint.path]
    shutil.rmtree(copies[0])
    with chdir(copies[1]), checkpointed("s", 1, [Path("demos").absolute()]) as again:
        assert again.state is not None
    assert not checkpoint.path.exists()


def test_queued_experiments_that_do_the_same_do_not_disturb_each_other(
    copies: list[Path],
) -> None:
    contexts, kept = [checkpointed("s", 1, []) for _ in copies], []
    for folder, context in zip(copies, contexts, strict=True):
        with chdir(folder):
            kept.append(context.__enter__())
            kept[-1].save(1)
    assert kept[0].path == kept[1].path
    contexts[0].__exit__(None, None, None)
    with chdir(copies[1]):
        kept[1].save(2)
    assert Checkpoint(kept[1].path).state == 2
    contexts[1].__exit__(None, None, None)
    assert not kept[1].path.exists()


# The last one keeps a plain number beside its tensors.
@pytest.mark.parametrize(
    "kind", [torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop, RMSpropTFLike]
)
def test_an_optimizer_resumes_where_it_was(kind: type, checkpoint: Checkpoint) -> None:
    def build() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(1)
        net = torch.nn.Conv2d(3, 8, 3).to(memory_format=torch.channels_last)
        return net, kind(net.parameters(), 0.1)

    def learn(net: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        net(torch.ones(2, 3, 5, 5)).square().mean().backward()
        optimizer.step()

    net, optimizer = build()
    learn(net, optimizer)
    stored: Any = {"net": dict(net.state_dict()), "optimizer": optimizer.state_dict()}
    stored = kept(checkpoint, stored)
    other, restored = build()
    other.load_state_dict(stored["net"])
    restored.load_state_dict(stored["optimizer"])
    like_parameters(restored)
    for one in ((net, optimizer), (other, restored)):
        learn(*one)
    pairs = list(zip(net.parameters(), other.parameters(), strict=True))
    for ours, theirs in pairs:
        assert torch.equal(ours, theirs)
        mine, other_s = optimizer.state[ours], restored.state[theirs]
        assert mine.keys() == other_s.keys()
        for name, value in mine.items():
            if isinstance(value, torch.Tensor):
                assert torch.equal(value, other_s[name])
                assert value.stride() == other_s[name].stride()
            else:
                assert value == other_s[name]


def test_what_python_and_the_compiler_keep_decides_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "_LIBRARY", tmp_path / "library")
    kept = tmp_path / "library/__pycache__"
    kept.mkdir(parents=True)
    names = set()
    for suffix in ("pyc", "nbi", "nbc"):
        (kept / f"one.{suffix}").write_text("compiled")
        with checkpointed("stage", {}, []) as one:
            names.add(one.path)
    assert len(names) == 1
    (tmp_path / "library/one.py").write_text("x = 1\n")
    with checkpointed("stage", {}, []) as one:
        assert one.path not in names
