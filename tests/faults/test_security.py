"""Nothing that is read can run code: canaries that would sing if it did."""

import hashlib
import io
import json
import pickle
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import (  # pyright: ignore[reportMissingImports]
    DVC,
    ROOT,
    environment,
    must,
    run_in,
)

from tools.pipeline_copy import copy_repository, write_yaml
from tools.provenance import describe
from warpzone.agents.model import load_agent
from warpzone.core.errors import InputError
from warpzone.core.params import load_params
from warpzone.envs.mario.env import MarioEnv
from warpzone.episodes.recording import read_recordings
from warpzone.episodes.table import read_episodes
from warpzone.training.checkpoint import Checkpoint


class Canary:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


@pytest.fixture
def sings(tmp_path: Path) -> Path:
    """The file that appears when code was run."""
    return tmp_path / "sings"


def as_pickle(sings: Path) -> bytes:
    return pickle.dumps(Canary(sings))


def as_npy(sings: Path) -> bytes:
    content = io.BytesIO()
    np.save(content, np.array([Canary(sings)], object), allow_pickle=True)
    return content.getvalue()


def as_zip(sings: Path) -> bytes:
    """As np.savez and SB3 write it, with a path that leads out of the folder."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("data.pkl", as_pickle(sings))
        archive.writestr("a.npy", as_npy(sings))
        archive.writestr("../sings", "sings")
    return content.getvalue()


def as_torch(sings: Path) -> bytes:
    content = io.BytesIO()
    torch.save({"policy": Canary(sings)}, content)
    return content.getvalue()


def as_yaml(sings: Path) -> bytes:
    return f"!!python/object/apply:pathlib.Path.touch [{sings}]\n".encode()


PAYLOADS = [as_pickle, as_npy, as_zip, as_torch, as_yaml]


@pytest.mark.parametrize("payload", [as_pickle, as_npy, as_torch])
def test_the_canaries_sing_for_a_reader_that_trusts(payload, sings: Path) -> None:
    content = io.BytesIO(payload(sings))
    match payload.__name__:
        case "as_pickle":
            pickle.load(content)
        case "as_npy":
            np.load(content, allow_pickle=True)
        case "as_torch":
            torch.load(content, weights_only=False)
    assert sings.exists()


@pytest.mark.parametrize("payload", PAYLOADS)
@pytest.mark.parametrize(
    "reader",
    [
        load_params,
        read_recordings,
        lambda path: read_episodes(path, MarioEnv, agent="bc"),
        lambda path: describe(path.parent, path.parent),
    ],
    ids=["params", "recordings", "episodes", "provenance"],
)
def test_a_reader_runs_no_code(reader, payload, sings: Path, tmp_path: Path) -> None:
    path = tmp_path / "policy.json"
    path.write_bytes(payload(sings))
    with pytest.raises(InputError):
        reader(path)
    assert not sings.exists()


@pytest.mark.parametrize("payload", PAYLOADS)
@pytest.mark.parametrize("name", ["policy.json", "policy.safetensors"])
def test_a_model_runs_no_code(
    name: str, payload, sings: Path, tmp_path: Path, agent: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(agent, folder)
    content = payload(sings)
    # The checksum is right: whoever puts a file there can do that, too.
    spec = json.loads((folder / "policy.json").read_bytes())
    spec["weights_sha256"] = hashlib.sha256(content).hexdigest()
    (folder / "policy.json").write_text(json.dumps(spec))
    (folder / name).write_bytes(content)
    with pytest.raises(InputError, match=rf"{name}: "):
        load_agent(folder)
    assert not sings.exists()


@pytest.mark.parametrize("payload", PAYLOADS)
@pytest.mark.parametrize("has_digest", [False, True])
def test_a_checkpoint_runs_no_code(
    payload, has_digest: bool, sings: Path, tmp_path: Path
) -> None:
    content = payload(sings)
    digest = hashlib.sha256(content).digest() if has_digest else bytes(32)
    path = tmp_path / "stage.checkpoint"
    path.write_bytes(digest + content)
    # The second where whoever put it there has made the checksum right, too.
    with pytest.raises(InputError, match="is damaged: delete it"):
        Checkpoint(path)
    assert not sings.exists()


COMMANDS = [
    "1-1; touch sings",
    "$(touch sings)",
    "`touch sings`",
    "1-1 && touch sings",
    "1-1 | touch sings",
    "1-1\ntouch sings",
    "' ; touch sings ; '",
    '" ; touch sings ; "',
    "${pretrain_bc.n_envs}; touch sings",
]


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository without any results."""
    folder = tmp_path_factory.mktemp("pipeline") / "repo"
    copy_repository(ROOT, folder)
    return folder


def add_noise(document: dict[str, Any], command: str) -> None:
    noises = document["evaluate"]["noises"]
    noises[command] = noises["default"]


# Whatever dvc.yaml puts into a command, and what it puts into a path.
PLACES: dict[str, Callable[[dict[str, Any], str], object]] = {
    "task": lambda document, command: document["run"].update(tasks=[command]),
    "recipe": lambda document, command: document["run"].update(recipes=[command]),
    "seed": lambda document, command: document["run"].update(seeds=[command]),
    "noise": add_noise,
    "agent": lambda document, command: document["record_video"].update(
        agents=[command]
    ),
    "main seed": lambda document, command: document.update(seed=command),
    "env": lambda document, command: document.update(env=command),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "command"),
    [("task", command) for command in COMMANDS]
    + [(place, COMMANDS[0]) for place in list(PLACES)[1:]]
    + [(place, COMMANDS[1]) for place in list(PLACES)[1:]],
)
def test_a_command_in_the_params_is_not_run(
    pipeline: Path, document: dict[str, Any], place: str, command: str
) -> None:
    PLACES[place](document, command)
    write_yaml(pipeline / "params.yaml", document)
    done = run_in(pipeline, *DVC, "repro")
    assert done.returncode != 0
    assert not list(pipeline.rglob("sings"))


def test_no_source_loads_what_can_run_code() -> None:
    words = ("pickle", "torch.load", "allow_pickle", "eval(", "exec(", "shell=True")
    words += ("os.system", "yaml.unsafe", "yaml.load(", "joblib", "PPO.load", "marshal")
    for folder in ("stages", "warpzone"):
        for path in (ROOT / folder).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            found = [word for word in words if word in text]
            assert not found, f"{path.relative_to(ROOT)}: {found}"


# -------------------------------------------------------------------- secrets


SECRETS = {
    # In pieces, so that this file passes the check.
    "config": "secret_access_key = " + "0a1b2c3d4e5f6a7b8c9d" * 2,
    "env.sh": "export AWS_ACCESS_KEY_ID=AKIA" + "IOSFODNN7EXAMPLA",
    "key.pem": "-----BEGIN RSA PRIV" + "ATE KEY-----",
    "url.txt": "https://user:hunter" + "22@example.com/x",
    "token.py": "token = 'ghp_" + "0123456789abcdefghijABCDEFGHIJ012345'",
}


def scan(folder: Path, *names: str) -> subprocess.CompletedProcess[str]:
    """Scan files as `make lint` does."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8").replace("\\\n", " ")
    [options] = [
        line.partition(":=")[2].split()
        for line in makefile.splitlines()
        if line.startswith("SECRETS :=")
    ]
    scanner = Path(sys.executable).parent / "detect-secrets-hook"
    return subprocess.run(
        [scanner, *options, *names],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_in_a_tracked_file_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(f"{SECRETS[name]}\n")
    done = scan(tmp_path, name)
    assert done.returncode != 0
    assert name in done.stdout


@pytest.mark.slow
def test_no_tracked_file_holds_a_secret() -> None:
    tracked = must(ROOT, "git", "ls-files", "-z").strip("\0").split("\0")
    done = scan(ROOT, *tracked)
    assert done.returncode == 0, done.stdout


def test_git_ignores_the_file_that_holds_credentials() -> None:
    assert must(ROOT, "git", "check-ignore", ".dvc/config.local")
