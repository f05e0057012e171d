"""Where a model came from, and what it was made on.

`policy.json` holds what decides a model's bytes: parameters, seed, versions, ROM and
instruction set. Equal runs on other machines and commits have to give equal files, so
what does not decide them stays out:

- the git commit, which does not exist yet when a stage runs. The commit that recorded a
  model in dvc.lock is found by the model's hash.
- the processor. It is noted beside the model's folder, in a file that is no output and
  is named after the model's content, so the first machine to make it is the one noted.

`python -m warpzone.agents.provenance models/...` prints all of it.
"""

import hashlib
import json
import os
import platform
import subprocess
import sys
from importlib.metadata import distributions, version
from pathlib import Path
from typing import Any

import psutil

from warpzone.core.errors import InputError
from warpzone.core.files import write_json

SPEC = "policy.json"
NOTES = "provenance"

PINNED = (
    "ATEN_CPU_CAPABILITY",
    "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS",
    "NPY_DISABLE_CPU_FEATURES",
    "ONEDNN_MAX_CPU_ISA",
    "OPENBLAS_CORETYPE",
)
"""Variables that decide how sums are rounded, see `warpzone/__init__.py`."""


def deciding_facts(packages: tuple[str, ...]) -> dict[str, Any]:
    """Return what decides a model's bytes beside parameters and data.

    The same on all machines that make the same bytes, so it may be part of an output.

    Args:
        packages: Those whose version counts.
    """
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "instruction_set": {name: os.environ.get(name, "") for name in PINNED},
        "versions": {package: version(package) for package in packages},
    }


def circumstances(root: Path) -> dict[str, Any]:
    """Return what else a run happened on: git commit, processor, every package.

    It differs between machines and commits, so it is no part of an output.

    Args:
        root: The repository.
    """
    commit = _git(root, "rev-parse", "HEAD")
    changes = _git(root, "status", "--porcelain", "--untracked-files=no")
    return {
        "git_commit": commit.strip() if commit else None,
        "git_changes": changes.splitlines() if changes else [],
        "cpu": _cpu(),
        "packages": {
            name: package.version
            for package in distributions()
            if (name := package.metadata["Name"])
        },
    }


def note(model: Path, root: Path) -> None:
    """Write the circumstances beside a model, unless its bytes were made before.

    Args:
        model: The model's folder, complete.
        root: The repository.
    """
    path = _note_of(model)
    if not path.exists():
        write_json(path, circumstances(root))


def describe(model: Path, root: Path) -> dict[str, Any]:
    """Return all that is known of where a model came from.

    Raises:
        InputError: If the folder holds no model.
    """
    path = model / SPEC
    try:
        document = json.loads(path.read_bytes())
        origin = document["origin"]
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{path}: is not the description of a policy") from error
    noted = _note_of(model)
    return {
        "model": model.as_posix(),
        "weights_sha256": document.get("weights_sha256"),
        "origin": origin,
        "recorded_by_git_commit": recording_commit(model, root),
        "made_on": json.loads(noted.read_bytes()) if noted.is_file() else None,
    }


def recording_commit(model: Path, root: Path) -> str | None:
    """Return the first commit whose dvc.lock names the content of the folder."""
    name = f"{_listing_md5(model)}.dir"
    found = _git(
        root, "log", "--all", "--reverse", "--format=%H", f"-S{name}", "--", "dvc.lock"
    )
    return found.split()[0] if found and found.split() else None


def md5(path: Path) -> str:
    """Hash a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def listing_of(folder: Path) -> bytes:
    """Return the listing that DVC writes of a folder; dvc.lock names it by its MD5."""
    files = [
        {"md5": md5(path), "relpath": path.relative_to(folder).as_posix()}
        for path in folder.rglob("*")
        if path.is_file()
    ]
    return json.dumps(sorted(files, key=lambda file: file["relpath"])).encode()


def _note_of(model: Path) -> Path:
    return model.parent / NOTES / f"{_listing_md5(model)}.json"


def _listing_md5(folder: Path) -> str:
    return hashlib.md5(listing_of(folder)).hexdigest()


def _cpu() -> dict[str, Any]:
    """Return the processor's model and flags; the latter where Linux tells."""
    found: dict[str, Any] = {"model": platform.processor() or platform.machine()}
    found["cores"] = psutil.cpu_count()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        lines = info.read_text(encoding="utf-8", errors="replace").splitlines()
        for line in lines:
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                found["model"] = value.strip()
            elif key.strip() in ("flags", "Features"):
                found["flags"] = sorted(value.split())
    return found


def _git(root: Path, *words: str) -> str | None:
    """Run git, or return None where there is neither git nor a repository."""
    try:
        command = ["git", "-C", str(root), *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout if done.returncode == 0 else None


def _main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        sys.exit("usage: python -m warpzone.agents.provenance models/...")
    try:
        found = [describe(Path(name), Path.cwd()) for name in sys.argv[1:]]
    except InputError as error:
        sys.exit(f"error: {error}")
    for model in found:
        sys.stdout.write(json.dumps(model, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    _main()
