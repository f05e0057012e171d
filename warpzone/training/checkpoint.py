"""Checkpoints: an interrupted stage resumes bit for bit.

They are no outputs. Their names hold a hash of all that decides a stage's result, so a
run with other parameters, inputs or code never finds them.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from warpzone.core.errors import InputError
from warpzone.core.files import locked, read_bytes, write_bytes

CHECKPOINTS = Path(".checkpoints")

_LIBRARY = Path(__file__).parents[1]


class Checkpoint:
    """A file that is whole or absent, to resume from.

    It holds a tree of dictionaries, lists, tensors, NumPy arrays, and what JSON can
    say, to the bit: floats keep all their digits.

    Args:
        path: The file.

    Attributes:
        state: What it held at first; None where it was absent.

    Raises:
        InputError: If it is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.state: Any = self._load(read_bytes(path)) if path.exists() else None

    def save(self, state: Any) -> None:
        """Replace what it holds."""
        tensors: dict[str, torch.Tensor] = {}
        text = json.dumps(_flatten(state, tensors)).encode()
        tensors["state"] = torch.frombuffer(bytearray(text), dtype=torch.uint8)
        content = save(tensors)
        # Copies of the repository that do the same share it.
        mine = self.path.with_suffix(f".{Path.cwd().name}")
        write_bytes(mine, hashlib.sha256(content).digest() + content)
        mine.replace(self.path)

    def _load(self, stored: bytes) -> Any:
        digest, content = stored[:32], stored[32:]
        try:
            if hashlib.sha256(content).digest() != digest:
                raise ValueError("another SHA-256")
            tensors = load(content)
            state = json.loads(tensors["state"].numpy().tobytes())
        except (SafetensorError, ValueError, KeyError) as error:
            raise InputError(
                f"{self.path}: is damaged: delete it to begin anew"
            ) from error
        return _restore(state, tensors)


@contextmanager
def checkpointed(
    stage: str, facts: Any, inputs: Iterable[Path]
) -> Iterator[Checkpoint]:
    """Keep a stage's checkpoint until it has succeeded.

    Args:
        stage: Its name, with what tells its cells apart.
        facts: Parameters and whatever else decides the result; JSON can say it.
        inputs: Files and folders that decide it too. The library's own code is added.

    Raises:
        InputError: If an input cannot be read, or if the stage is running already; the
            message names the process.
    """
    here = Path.cwd()
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    given = [path for one in (*inputs, _LIBRARY) for path in (one, *one.rglob("*"))]
    # Copies of the repository lie elsewhere.
    names = {path.absolute().relative_to(here, walk_up=True) for path in given}
    for name in sorted(names):
        if not name.is_dir() and "__pycache__" not in name.parts:
            content = hashlib.sha256(read_bytes(name)).hexdigest()
            digest.update(f"{name.as_posix()} {content}\n".encode())
    # DVC runs queued experiments in copies of the repository, each of which is new.
    is_copy = here.parent.parts[-3:] == (".dvc", "tmp", "exps")
    root = here.parents[3] if is_copy else Path()
    file = f"{stage}-{digest.hexdigest()[:16]}.checkpoint"
    with locked(CHECKPOINTS / f"{stage}.lock"):
        checkpoint = Checkpoint(root / CHECKPOINTS / file)
        yield checkpoint
        checkpoint.path.unlink(missing_ok=True)


def like_parameters(optimizer: torch.optim.Optimizer) -> None:
    """Lay out what an optimizer remembers as its parameters are.

    Loading keeps the numbers and loses the layout, which decides how sums are rounded.
    """
    for parameter, remembered in optimizer.state.items():
        for name, value in remembered.items():
            if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
                remembered[name] = torch.empty_like(parameter).copy_(value)


def _flatten(tree: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """Return a tree that JSON can say, with the names of tensors that are put aside."""
    name = str(len(tensors))
    match tree:
        case torch.Tensor():
            tensors[name] = tree.detach().cpu().clone().contiguous()
            return {"tensor": name}
        case np.ndarray():
            # Not ascontiguousarray, which gives a number the shape (1,).
            tensors[name] = torch.from_numpy(np.array(tree, order="C"))
            return {"array": name}
        case dict():
            return {"items": [[k, _flatten(v, tensors)] for k, v in tree.items()]}
        case list() | tuple():
            return [_flatten(item, tensors) for item in tree]
        case np.generic():
            return tree.item()
    return tree


def _restore(tree: Any, tensors: dict[str, torch.Tensor]) -> Any:
    match tree:
        case {"tensor": name}:
            return tensors[name]
        case {"array": name}:
            return tensors[name].numpy()
        case {"items": items}:
            return {key: _restore(item, tensors) for key, item in items}
        case list():
            return [_restore(item, tensors) for item in tree]
    return tree
