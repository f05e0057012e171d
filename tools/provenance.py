"""Print where models came from.

policy.json holds what decides a model's bytes: parameters, seed, versions, ROM and
instruction set. The git commit is not there, since it does not exist yet when a stage
runs: the commit that recorded a model in dvc.lock is found by the model's hash.
"""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tools.storage.listing import listing_of
from warpzone.core.errors import InputError
from warpzone.core.stage import argument_parser

SPEC = "policy.json"

LINES = {
    "stage": "stage",
    "task": "task",
    "seed": "seed",
    "machine": "machine",
    "instruction_set": "instructions",
    "python": "python",
    "versions": "versions",
    "rom_sha256": "ROM sha256",
}
"""What is printed of a model's origin, and what it is called there."""


def main() -> None:
    parser = argument_parser(__doc__, "python -m tools.provenance")
    parser.add_argument(
        "folder", nargs="+", type=Path, help="a model, or several in it"
    )
    parser.add_argument("--json", action="store_true", help="print all that is known")
    arguments = parser.parse_args()
    try:
        for folder in arguments.folder:
            found = describe(folder, Path.cwd()) if is_model(folder) else models(folder)
            text = json.dumps(found, indent=2, sort_keys=True)
            print(text if arguments.json else as_lines(found))
    except InputError as error:
        sys.exit(f"error: {error}")


def is_model(folder: Path) -> bool:
    return (folder / SPEC).is_file()


def models(folder: Path) -> dict[str, Any]:
    """Return the names of the models in a folder.

    Raises:
        InputError: There are none.
    """
    found = sorted(path.parent.as_posix() for path in folder.rglob(SPEC))
    if not found:
        raise InputError(
            f"{folder}: no model ({SPEC}) is in it: `make pull` fetches the models, "
            "`make repro` makes them"
        )
    return {"folder": folder.as_posix(), "models": found}


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
    if not isinstance(origin, dict):
        raise InputError(f"{path}: is not the description of a policy")
    commit, hint = recording_commit(model, root)
    return {
        "model": model.as_posix(),
        "recorded_by_git_commit": commit,
        "hint": hint,
        "origin": origin,
        "weights_sha256": document.get("weights_sha256"),
    }


def recording_commit(model: Path, root: Path) -> tuple[str | None, str | None]:
    """Return the first commit whose dvc.lock names a model's content, or why none."""
    if (shallow := git(root, "rev-parse", "--is-shallow-repository")) is None:
        return None, "there is no git repository here"
    if shallow != "false":
        return None, "this clone lacks older commits: git fetch --unshallow"
    name = f"{hashlib.md5(listing_of(model)).hexdigest()}.dir"
    search = ("--all", "--reverse", "--format=%H", f"-S{name}", "--", "dvc.lock")
    if found := git(root, "log", *search):
        return found.split()[0], None
    return None, "no commit's dvc.lock names it: it was not committed, or was changed"


def git(root: Path, *words: str) -> str | None:
    """Return what git says, or None where there is neither git nor a repository."""
    try:
        command = ["git", "-C", str(root), *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def as_lines(found: dict[str, Any]) -> str:
    """Return the description of a model, or the names of several, for reading."""
    if "models" in found:
        names = "".join(f"\n  {name}" for name in found["models"])
        return f"{found['folder']} holds models:{names}"
    commit = found["recorded_by_git_commit"] or f"unknown: {found['hint']}"
    origin = found["origin"]
    lines = {"commit": commit}
    lines |= {text: words(origin[key]) for key, text in LINES.items() if key in origin}
    lines["weights sha256"] = words(found["weights_sha256"])
    return "\n".join(
        [found["model"], *(f"  {name:<16}{text}" for name, text in lines.items())]
    )


def words(value: Any) -> str:
    """Return a value of policy.json in one line that a terminal can show."""
    if isinstance(value, dict):
        value = ", ".join(f"{name} {item}" for name, item in value.items() if item)
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(value))


if __name__ == "__main__":
    main()
