"""A throw-away Spark cluster, started for real: who can join it, where it listens, and that it ends with its parent."""

import dataclasses
import stat
import subprocess
import sys
import textwrap

import psutil
import pytest

from local import waiting
from local.layout import ROOT
from local.process import Child, free_port
from local.servers.server import HOST
from local.servers.spark_standalone import Master, Worker

SECRET = "of-this-cluster"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Master and worker, and the process of each."""
    folder = tmp_path_factory.mktemp("spark")
    master = Master(folder / "master", free_port(), web_port=free_port(), secret=SECRET)
    worker = Worker(
        folder / "worker", free_port(), web_port=free_port(), secret=SECRET, master_url=master.url, memory_mb=512
    )
    with master.running() as first, worker.running() as second:
        yield master, worker, (first, second)


def test_a_started_worker_is_registered(cluster):
    master, _, _ = cluster
    assert len(master.workers()) == 1 and master.applications() == []


def test_its_page_is_read_without_a_proxy(cluster, monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://{HOST}:{free_port()}")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert cluster[0].state()["status"] == "ALIVE"


def test_the_secret_is_in_private_files_and_not_in_ps(cluster):
    for server, child in zip(cluster[:2], cluster[2], strict=True):
        assert SECRET not in " ".join(psutil.Process(child.pid).cmdline())
        holders = [file for file in server.home.rglob("*") if file.is_file() and SECRET in file.read_text()]
        assert [stat.S_IMODE(file.stat().st_mode) for file in holders] == [0o600]
        assert stat.S_IMODE(server.home.stat().st_mode) == 0o700


def test_the_cluster_listens_on_loopback_only(cluster):
    for child in cluster[2]:
        listening = [c for c in psutil.Process(child.pid).net_connections("tcp") if c.status == psutil.CONN_LISTEN]
        assert listening and {c.laddr.ip.removeprefix("::ffff:") for c in listening} == {HOST}


def test_a_worker_without_the_secret_does_not_join(cluster, tmp_path):
    master, worker, _ = cluster
    other = dataclasses.replace(
        worker, home=tmp_path / "other", port=free_port(), web_port=free_port(), secret="another"
    )
    refused = Child(other.prepare(), tmp_path / "other.log", env=other.environment())
    try:
        waiting.until(lambda: _refusal_in(refused.log), what="refusal", seconds=60, errors=(LookupError,))
    finally:
        refused.stop(0)
    assert len(master.workers()) == 1


def _refusal_in(log):
    """The line about the refusal, which a worker writes on each attempt."""
    lines = [line for line in log.read_text().splitlines() if "Failed to connect to master" in line]
    if not lines:
        raise LookupError(log)
    return lines[0]


def test_a_cluster_ends_with_the_process_that_started_it(tmp_path):
    """Even if it is killed: a killed test session leaves nothing behind."""
    port = free_port()
    code = f"""
        import pathlib, time
        from local.servers.spark_standalone import Master
        with Master(pathlib.Path({str(tmp_path / "m")!r}), {port}, web_port={free_port()}, secret="s").running() as child:
            print(child.pid, flush=True)
            time.sleep(60)
        """
    starter = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, cwd=ROOT)
    pid = int(starter.stdout.readline())
    master = psutil.Process(pid)
    starter.kill()
    starter.wait()
    psutil.wait_procs([master], timeout=30)
    assert not master.is_running() or master.status() == psutil.STATUS_ZOMBIE
