"""Run the queued experiments and name those that ended without a result.

`dvc queue start` leaves them to a worker in the background. When that worker is killed,
its experiment stays "Running" in `dvc queue status` for ever; and one whose result git
did not take, because it has another of that name, is a "Success". Here every experiment
that was started is checked, once no worker is left.
"""

import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import psutil
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.repo.experiments.executor.base import ExecutorInfo
from dvc.repo.experiments.queue.base import QueueEntry
from dvc.repo.experiments.queue.celery import LocalCeleryQueue

from warpzone.core.names import RECORDINGS
from warpzone.core.stage import argument_parser

SECONDS_TO_START = 60
SECONDS_BETWEEN_LINES = 300


def main() -> None:
    # The libraries below warn of what is reported here in one line.
    logging.disable(logging.CRITICAL)
    parser = argument_parser(__doc__, "make queue")
    parser.add_argument(
        "--jobs", type=int, default=1, help="experiments at the same time"
    )
    jobs = parser.parse_args().jobs
    if jobs < 1:
        parser.error(f"argument --jobs: must be at least 1, got {jobs}")
    try:
        with Repo() as repo:
            queue = repo.experiments.celery_queue
            check_recordings(queue)
            if any(queue.iter_queued()) and len(find_workers(queue)) < jobs:
                start_workers(jobs)
                wait_for_a_worker(queue)
            wait_for_the_end(queue)
            sys.exit(report(queue))
    except DvcException as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("What was started keeps running: make queue waits for it.", flush=True)
        sys.exit(130)


def check_recordings(queue: LocalCeleryQueue) -> None:
    """Check that queued experiments have the recordings of people that are here."""
    here = {path.name for path in RECORDINGS.glob("*.jsonl")}
    for entry in queue.iter_queued():
        command = ["git", "ls-tree", "--name-only", f"{entry.stash_rev}:{RECORDINGS}"]
        listed = subprocess.run(command, capture_output=True, text=True).stdout
        if missing := ", ".join(sorted(here - set(listed.splitlines()))):
            name = name_of(entry)
            sys.exit(
                f"error: {name}: lacks {missing} of {RECORDINGS}, which git did not "
                f"know: git add it, dvc queue remove {name}, and queue it again"
            )


def start_workers(jobs: int) -> None:
    command = [sys.executable, "-m", "dvc", "queue", "start", "--jobs", str(jobs)]
    # Workers keep what they are given: a pipe of ours would stay open.
    if subprocess.run(command, stdout=subprocess.DEVNULL).returncode:
        sys.exit("error: dvc queue start failed")


def wait_for_a_worker(queue: LocalCeleryQueue) -> None:
    until = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < until:
        if find_workers(queue):
            return
        time.sleep(0.1)


def wait_for_the_end(queue: LocalCeleryQueue) -> None:
    """Return when no worker is left, and say now and then what is running."""
    said, when = "", 0.0
    while find_workers(queue):
        runs = find_runs()
        names = [name_of(entry) for entry in started(queue) if entry.stash_rev in runs]
        queued = len(list(queue.iter_queued()))
        line = f"running: {', '.join(names) or 'none'}; queued: {queued}"
        if line != said or time.monotonic() > when + SECONDS_BETWEEN_LINES:
            print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)
            said, when = line, time.monotonic()
        time.sleep(2)


def report(queue: LocalCeleryQueue) -> int:
    """Say which experiments have no result, while no worker lives.

    Returns:
        The exit status: 1 if there are any.
    """
    runs = find_runs()
    entries = started(queue)
    infos = [load_info(queue, entry) for entry in entries]
    problems = []
    for entry, info in zip(entries, infos, strict=True):
        task = entry.stash_rev[:7]
        again = f"see dvc queue logs {task}, then dvc queue remove {task}"
        problem = None
        if pid := runs.get(entry.stash_rev):
            problem = (
                f"its worker was killed; process {pid} still runs it, but nothing "
                f"will collect its result: end it with dvc queue kill {task}, then "
                "make queue"
            )
        elif mark_as_failed(queue, entry):
            problem = f"no result, its worker was killed: {again} and queue it again"
        elif info is None or info.result_ref is None:
            problem = f"no result, it failed or was killed: {again} and queue it again"
        elif not queue.scm.get_ref(info.result_ref):
            problem = (
                f"it ran, but git has no {info.result_ref}: its result was not "
                f"collected, or was removed or renamed since: {again}"
            )
        elif is_displaced(queue, info, infos):
            problem = (
                "it ran, but git has another experiment of this name, and its result "
                f"was lost: {again} and queue it again under a new name"
            )
        if problem:
            problems.append(f"{name_of(entry)}: {problem}")
    results = len(entries) - len(problems)
    problems += [
        f"{name_of(entry)}: still queued, no worker is left: make queue"
        for entry in queue.iter_queued()
    ]
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    print(f"experiments with a result: {results}, without: {len(problems)}")
    return 1 if problems else 0


def started(queue: LocalCeleryQueue) -> list[QueueEntry]:
    """What workers have taken and nobody has removed since."""
    return [entry for _, entry in queue._iter_processed()]


def name_of(entry: QueueEntry) -> str:
    return entry.name or entry.stash_rev[:7]


def load_info(queue: LocalCeleryQueue, entry: QueueEntry) -> ExecutorInfo | None:
    """Read what the run of an experiment has written down, if it came to that."""
    try:
        return queue._load_info(entry.stash_rev)
    except (DvcException, FileNotFoundError):
        return None


def is_displaced(
    queue: LocalCeleryQueue, info: ExecutorInfo, infos: list[ExecutorInfo | None]
) -> bool:
    """Return whether git has another experiment's result under the name of this one."""
    shared = any(
        other
        and other.result_ref == info.result_ref
        and other.result_hash != info.result_hash
        for other in infos
    )
    # DVC writes the hash into the message of the commit.
    kept = queue.scm.resolve_commit(str(info.result_ref)).message
    return shared and str(info.result_hash) not in kept


def mark_as_failed(queue: LocalCeleryQueue, entry: QueueEntry) -> bool:
    """Mark as failed what DVC takes for running; return whether it was so.

    Then `dvc queue status` tells the truth, and `dvc queue remove` takes it.
    """
    for message, other in queue._iter_processed():
        task = message.headers["id"]
        if other == entry and not queue.celery.AsyncResult(task).ready():
            # As `dvc queue kill` and a worker do it.
            queue.celery.backend.mark_as_failure(task, None)
            queue.stash_failed(entry)
            return True
    return False


def find_workers(queue: LocalCeleryQueue) -> list[psutil.Process]:
    # Not asked through the queue: a busy worker may not answer in time.
    node = f"dvc-exp-{sha256(queue.wdir.encode()).hexdigest()[:6]}-"
    return [
        process
        for process, words in processes()
        if "queue-worker" in words and any(word.startswith(node) for word in words)
    ]


def find_runs() -> dict[str, int]:
    """Find the processes that run an experiment: stash revision to pid."""
    return {
        Path(words[words.index("--infofile") + 1]).stem: process.pid
        for process, words in processes()
        if "exec-run" in words and "--infofile" in words[:-1]
    }


def processes() -> Iterator[tuple[psutil.Process, list[str]]]:
    """Every process that lives and its command line."""
    for process in psutil.process_iter(["cmdline", "status"]):
        words = process.info["cmdline"]
        if words and process.info["status"] != psutil.STATUS_ZOMBIE:
            yield process, words


if __name__ == "__main__":
    main()
