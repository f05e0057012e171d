"""Push, pull and verify what dvc.lock names, trusting nothing that was not rehashed.

DVC believes that an object is whole because it is there: a flipped byte in the cache or
on the remote passes `dvc pull`, `dvc status` and `dvc repro`. Here every byte is hashed
before it is used. What is damaged is moved to .dvc/cache/quarantine, never deleted.

The objects, the cache and the remote are DVC's own: `dvc pull` reads what this pushes,
and the reverse.
"""

import logging
import os
import sys
from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from dvc.repo import Repo

from tools.alone import RUNNING, alone
from tools.storage.cache import Cache
from tools.storage.errors import StorageError, explain, raise_first
from tools.storage.listing import recorded_outs
from tools.storage.remote import Remote, each
from warpzone.core.errors import InputError
from warpzone.core.files import locked
from warpzone.core.stage import argument_parser


def main(words: list[str]) -> None:
    try:
        with locked(RUNNING):
            print(run(words))
    except (StorageError, InputError, OSError) as error:
        print(f"error: {explain(error, {})}", file=sys.stderr, flush=True)
        # Not waiting for threads that wait for a server.
        os._exit(1)
    except KeyboardInterrupt:
        os._exit(130)


def run(words: list[str]) -> str:
    """Carry out a command in the current repository and say what was done.

    Raises:
        StorageError: What went wrong; it shows no secret.
    """
    arguments = parse_arguments(words)
    # The libraries below log what they are about to raise.
    logging.disable(logging.CRITICAL)
    config: Mapping[str, Any] = {}
    try:
        with alone() as repo:
            config = repo.config
            return arguments.action(repo, Cache(repo), arguments)
    except Exception as error:
        found = explain(error, config)
        found.op = arguments.command
        raise found from None


def parse_arguments(words: list[str]) -> Namespace:
    parser = argument_parser(__doc__, "python -m tools.storage")
    commands = parser.add_subparsers(required=True, dest="command", metavar="COMMAND")
    for action in (push, pull, verify):
        text = action.__doc__
        command = commands.add_parser(action.__name__, help=text, description=text)
        command.set_defaults(action=action)
        if action is verify:
            text = "do not ask the remote"
            command.add_argument("--local", action="store_true", help=text)
            text = "leave out outputs that are not in the workspace"
            command.add_argument("--present", action="store_true", help=text)
        else:
            text = "also the experiments, whose git refs are on this git remote"
            command.add_argument("--experiments", metavar="GIT_REMOTE", help=text)
    return parser.parse_args(words)


def push(repo: Repo, cache: Cache, arguments: Namespace) -> str:
    """Send what the remote lacks, and read all of it back."""
    experiments = experiments_of(repo) if arguments.experiments else {}
    outs = recorded_outs(repo) + recorded_outs(repo, experiments.values())
    remote = Remote(repo)
    oids, _ = cache.complete(outs, remote)
    raise_first(cache.problems, "nothing was pushed")
    sent = remote.send({oid: cache.path_of(oid) for oid in oids}, cache.scratch)
    if experiments:
        # The refs last, since they lead to the objects.
        there = arguments.experiments
        repo.experiments.push(there, list(experiments), force=True, push_cache=False)
        if missing := sorted(experiments.keys() - experiments_of(repo, there).keys()):
            raise StorageError(f"experiments {missing} did not arrive", there)
    return (
        f"pushed {sent} of {len(oids)} objects and {len(experiments)} experiments; "
        "all were read back and are whole"
    )


def pull(repo: Repo, cache: Cache, arguments: Namespace) -> str:
    """Fetch what the cache lacks and verify all of it, then check it out."""
    remote = Remote(repo)
    experiments = {}
    if arguments.experiments:
        repo.experiments.pull(arguments.experiments, all_commits=True, pull_cache=False)
        experiments = experiments_of(repo)
    outs = recorded_outs(repo)
    everything = outs + recorded_outs(repo, experiments.values())
    oids, healed = cache.complete(everything, remote)
    raise_first(cache.problems, "nothing was checked out")
    changed = cache.check_out(outs)
    return (
        f"pulled {healed} of {len(oids)} objects, all are whole; "
        f"checked out {changed} outputs"
    )


def verify(repo: Repo, cache: Cache, arguments: Namespace) -> str:
    """Rehash cache and workspace, and heal what is not what dvc.lock says."""
    has_remote = bool(repo.config["core"].get("remote"))
    remote = Remote(repo) if has_remote and not arguments.local else None
    outs = recorded_outs(repo)
    if arguments.present:
        outs = [out for out in outs if (cache.root / out.path).exists()]
    oids, healed = cache.complete(outs, remote)
    # DVC's run cache holds what dvc.lock no longer names, and may bring it back.
    each(cache.is_whole, cache.stored() - set(oids))
    raise_first(cache.problems, "the rest is whole")
    changed = cache.check_out(outs)
    for out in outs:
        if not out.cached and not cache.is_in_place(out):
            hint = f"git checkout {out.path}, or dvc repro"
            problem = StorageError("is not what dvc.lock records", str(out.path), hint)
            cache.problems.append(problem)
    raise_first(cache.problems, "the rest is whole")
    text = f"verified {len(oids)} objects and {len(outs)} outputs: all are whole"
    if healed:
        text += f"; healed {healed} objects"
    if changed:
        text += f"; restored {changed} outputs"
    if cache.quarantined:
        text += f"; {cache.quarantined} set aside in {cache.quarantine}"
    return text


def experiments_of(repo: Repo, git_remote: str | None = None) -> dict[str, str]:
    """Return the commit of every experiment, here or on a git remote, by name."""
    listed = repo.experiments.ls(all_commits=True, git_remote=git_remote)
    return {name: commit for found in listed.values() for name, commit in found}


if __name__ == "__main__":
    main(sys.argv[1:])
