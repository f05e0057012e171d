"""Run an S3 server on this machine and make it the remote, until Ctrl-C.

To try `make push` and `make pull` without an account. The server is rclone; the objects
lie in a folder, .dvc/s3 unless another is given. The remote is set in
.dvc/config.local, which git ignores, with a new secret at every start.
"""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from warpzone.core.stage import argument_parser

BUCKET = "warpzone"
SECONDS_TO_START = 20


class Server(NamedTuple):
    """A running server and how to reach it."""

    process: subprocess.Popen
    url: str
    key: str
    secret: str


def main() -> None:
    from dvc.repo import Repo

    parser = argument_parser(__doc__, "make s3")
    parser.add_argument("--folder", type=Path, default=Path(".dvc/s3"))
    parser.add_argument("--port", type=int, default=0, help="0: any that is free")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with serve(arguments.folder, arguments.port) as server, Repo() as repo:
            config: Any
            with repo.config.edit("local") as config:
                config["core"]["remote"] = "local-s3"
                config["remote"]["local-s3"] = {
                    "url": f"s3://{BUCKET}/dvc",
                    "endpointurl": server.url,
                    "access_key_id": server.key,
                    "secret_access_key": server.secret,
                    "region": "us-east-1",
                    # DVC's own pull rehashes what it fetches, too.
                    "verify": True,
                }
            Path(repo.root_dir, ".dvc/config.local").chmod(0o600)
            print(f"S3 at {server.url}, set as DVC's remote in .dvc/config.local.")
            print("In another terminal: make push, make pull, make verify.", flush=True)
            sys.exit(server.process.wait())
    except KeyboardInterrupt:
        sys.exit(130)


@contextmanager
def serve(folder: Path, port: int = 0) -> Iterator[Server]:
    """Run a server whose buckets are the subfolders of ``folder``."""
    rclone = shutil.which("rclone", path=f"{Path(sys.executable).parent}{os.pathsep}")
    rclone = rclone or shutil.which("rclone")
    if rclone is None:
        sys.exit("error: rclone is missing: `make venv` installs it")
    (folder / BUCKET).mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    key, secret = secrets.token_hex(10), secrets.token_hex(20)
    process = subprocess.Popen(
        [rclone, "serve", "s3", str(folder), "--addr", f"127.0.0.1:{port}"],
        # In the environment, where other users of the machine do not see it.
        env=os.environ | {"RCLONE_AUTH_KEY": f'"{key},{secret}"', "RCLONE_CONFIG": ""},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(port, process)
        yield Server(process, f"http://127.0.0.1:{port}", key, secret)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        process.wait()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(port: int, process: subprocess.Popen) -> None:
    """Return when the server answers."""
    until = time.monotonic() + SECONDS_TO_START
    while process.poll() is None and time.monotonic() < until:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    sys.exit(f"error: the S3 server did not start on port {port}")


if __name__ == "__main__":
    main()
