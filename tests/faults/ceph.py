"""A Ceph cluster of one node, all in memory, and its S3 server."""

import json
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from botocore.exceptions import EndpointConnectionError
from botocore.session import get_session

from tools.s3 import BUCKET, Server, free_port

PROGRAMS = ("ceph", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin")
SECONDS_TO_START = 180

# Only this machine reaches it. Without keys there is no encryption, which radosgw would
# ask of the monitor (ms_mon_client_mode).
CONFIG = """\
[global]
fsid = {fsid}
mon_host = {monitor}
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
ms_mon_client_mode = crc
ms_bind_ipv6 = false
public_addr = 127.0.0.1
run_dir = {folder}
log_file = {folder}/$name.log
crash_dir = {folder}/crash
admin_socket =
mon_data = {folder}/mon
mon_data_avail_crit = 1
mon_allow_pool_size_one = true
mon_max_pg_per_osd = 1000
osd_data = {folder}/osd
osd_objectstore = memstore
osd_crush_chooseleaf_type = 0
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 1
osd_pool_default_pgp_num = 1
osd_pool_default_pg_autoscale_mode = off
rgw_data = {folder}/rgw
rgw_frontends = beast endpoint=127.0.0.1:{port}
"""


def missing_programs() -> list[str]:
    return [program for program in PROGRAMS if shutil.which(program) is None]


@contextmanager
def serve_ceph(folder: Path) -> Iterator[Server]:
    """Run a monitor, a store, and an S3 server with one user and one bucket."""
    fsid, port = str(uuid.uuid4()), free_port()
    monitor = f"[v2:127.0.0.1:{free_port()},v1:127.0.0.1:{free_port()}]"
    config = folder / "ceph.conf"
    config.write_text(
        CONFIG.format(fsid=fsid, monitor=monitor, folder=folder, port=port)
    )
    (folder / "mon").mkdir()
    (folder / "osd").mkdir()

    def call(program: str, *words: str) -> str:
        done = subprocess.run(
            [program, "--conf", str(config), *words],
            capture_output=True,
            text=True,
            timeout=SECONDS_TO_START,
        )
        if done.returncode:
            raise RuntimeError(f"{program} {words[0]} failed: {done.stderr[-2000:]}")
        return done.stdout

    with ExitStack() as stack:

        def start(*command: str) -> subprocess.Popen:
            process = subprocess.Popen(
                [command[0], "-f", "--conf", str(config), *command[1:]],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            stack.callback(end, process)
            return process

        monmap = str(folder / "monmap")
        call("monmaptool", "--create", "--fsid", fsid, "--addv", "a", monitor, monmap)
        call("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap)
        start("ceph-mon", "-i", "a")
        osd = str(uuid.uuid4())
        call("ceph", "osd", "new", osd)
        call("ceph-osd", "--mkfs", "-i", "0", "--osd-uuid", osd)
        start("ceph-osd", "-i", "0")
        words = ("--uid", "warpzone", "--display-name", "warpzone")
        user = json.loads(call("radosgw-admin", "user", "create", *words))
        process = start("radosgw", "-n", "client.admin")
        key, secret = (user["keys"][0][f"{name}_key"] for name in ("access", "secret"))
        server = Server(process, f"http://127.0.0.1:{port}", key, secret)
        make_bucket(server, folder)
        yield server


def make_bucket(server: Server, folder: Path) -> None:
    """Make the bucket as soon as the server answers."""
    # Not through s3fs, which names a region: Ceph refuses those that it does not know.
    client = get_session().create_client(
        "s3",
        region_name="us-east-1",
        endpoint_url=server.url,
        aws_access_key_id=server.key,
        aws_secret_access_key=server.secret,
    )
    until = time.monotonic() + SECONDS_TO_START
    while server.process.poll() is None and time.monotonic() < until:
        with suppress(EndpointConnectionError):
            client.create_bucket(Bucket=BUCKET)
            return
        time.sleep(0.2)
    log = folder / "client.admin.log"
    text = log.read_text(errors="replace")[-2000:] if log.exists() else "no log"
    raise RuntimeError(f"radosgw did not start: {text}")


def end(process: subprocess.Popen) -> None:
    process.kill()
    process.wait()
