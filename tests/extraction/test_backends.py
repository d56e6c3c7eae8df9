"""However the shards are shared out, the store is byte for byte that of one process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import torch_featurelayer as tl
from tests.extraction.images import CUT, make_images, network
from tests.store.digests import digests
from torch_featurelayer.extraction.backends.ray import _run
from torch_featurelayer.extraction.job import ShardResult
from torch_featurelayer.extraction.reading import ShardTask

pytestmark = [pytest.mark.slow, pytest.mark.ray]

RUN = """
import sys
import torch_featurelayer as tl
from tests.extraction.images import CUT, network
images, out, engine, options = sys.argv[1], sys.argv[2], sys.argv[3], set(sys.argv[4:])
if __name__ == "__main__":
    store = tl.extract(
        network(), ["features.3", "features.6"], images, out, preprocess=CUT, reduce="mean", batch_size=4,
        shard_size=4, num_threads=2, backend=engine, strict="strict" in options,
        progress=lambda at: print(at.done, flush=True),
    )
    print(store)
"""
ROOT = str(Path(__file__).parents[2])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_images(tmp_path / "images", 30)
    (tmp_path / "images" / "class1" / "0007.jpg").write_bytes(b"no image")
    (tmp_path / "run.py").write_text(RUN)
    return tmp_path


def one_process(folder: Path, threads: int = 2) -> dict[str, str]:
    tl.extract(
        network(), ["features.3", "features.6"], folder / "images", folder / "one", preprocess=CUT, reduce="mean",
        batch_size=4, shard_size=4, num_threads=threads,
    )  # fmt: skip
    return digests(folder / "one")


def started(*command: str) -> subprocess.Popen[str]:
    """A process that finds the tests."""
    return subprocess.Popen(
        [sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": ROOT}, start_new_session=True,
    )  # fmt: skip


def ended(process: subprocess.Popen[str]) -> tuple[str, str, int]:
    try:
        out, err = process.communicate(timeout=240)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    return out, err, process.returncode


def test_torchrun(folder: Path) -> None:
    """Two ranks, each with its shards; the second time there is nothing to do."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(folder / "run.py")]
    for _ in range(2):
        out, err, code = ended(started(*torchrun, str(folder / "images"), str(folder / "out"), "torchrun"))
        assert code == 0, err
        assert out.count("29 rows") == 2
    assert digests(folder / "out") == one_process(folder)


def test_torchrun_is_for_torchrun(folder: Path) -> None:
    with pytest.raises(ValueError, match="started with torchrun"):
        tl.extract(network(), "features.3", folder / "images", folder / "out", backend="torchrun")
    with pytest.raises(ValueError, match="no backend 'spark'"):
        tl.extract(network(), "features.3", folder / "images", folder / "out", backend="spark")
    with pytest.raises(ValueError, match="an iterator can be read only once"):
        tl.extract(network(), "features.3", iter([]), folder / "out", backend="ray")


def test_ray(folder: Path) -> None:
    """Actors write the same bytes; a second run has nothing to do."""
    command = [str(folder / "run.py"), str(folder / "images"), str(folder / "out"), "ray"]
    out, err, code = ended(started(*command))
    assert code == 0, err
    assert "29 rows" in out
    assert out.startswith("4\n8\n") or sorted(out.split()[:2]) == ["4", "8"]
    assert digests(folder / "out") == one_process(folder)


def test_ray_killed_and_resumed(folder: Path) -> None:
    """The driver and its actors are killed after the first shards; what they finished is kept."""
    command = [str(folder / "run.py"), str(folder / "images"), str(folder / "out"), "ray"]
    process = started(*command)
    assert process.stdout is not None
    assert process.stdout.readline() == "4\n"
    os.killpg(process.pid, signal.SIGKILL)
    ended(process)
    time.sleep(1)
    assert len(tl.open_store(folder / "out")) >= 3
    _, err, code = ended(started(*command))
    assert code == 0, err
    assert digests(folder / "out") == one_process(folder)


def test_errors_of_actors_are_those_of_one_process(folder: Path) -> None:
    _, err, code = ended(started(str(folder / "run.py"), str(folder / "images"), str(folder / "out"), "ray", "strict"))
    assert code == 1
    assert "ItemError: class1/0007.jpg: ValueError: 8 bytes that are not an image" in err


ENDS = """
import os, sys, time
import torch_featurelayer as tl
from tests.extraction.images import CUT, network
from torch_featurelayer.extraction.backends import torchrun
torchrun._SILENCE = 3.0
how, rank = sys.argv[3], os.environ["RANK"]

def prepare(source):
    if rank == "1" and how == "dies":
        os._exit(0)  # torchrun does not take that for a failure
    if rank == "1" and how == "slow":
        time.sleep(1)
    return CUT(source)

store = tl.extract(network(), "features.3", sys.argv[1], sys.argv[2], preprocess=tl.named("cut", prepare),
                   batch_size=4, shard_size=4, num_threads=1, backend="torchrun")
print(store)
"""


@pytest.mark.parametrize("how", ["dies", "slow"])
def test_a_rank_that_ends_and_one_that_is_slow(how: str, folder: Path) -> None:
    """A rank that is gone is an error within a minute; a slow one, whose work takes longer than that, is waited for."""
    (folder / "ends.py").write_text(ENDS)
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(folder / "ends.py")]
    start = time.monotonic()
    out, err, code = ended(started(*torchrun, str(folder / "images"), str(folder / "out"), how))
    if how == "slow":
        assert code == 0, err
        assert out.count("29 rows") == 2
        assert time.monotonic() - start > 10
        return
    assert code != 0
    assert "BackendError: the extraction with backend='torchrun' ended: rank 1 has ended" in err
    assert time.monotonic() - start < 60
    store = tl.open_store(folder / "out")
    assert 12 <= len(store) < 29
    assert not store.complete


DIES = """
import os, sys
import torch_featurelayer as tl
from tests.extraction.images import CUT, network
from torch_featurelayer.extraction.backends import ray
ray._MOST_RESTARTS = 1  # each takes as long as importing PyTorch

def prepare(source):
    os._exit(1)

if __name__ == "__main__":
    tl.extract(network(), "features.3", sys.argv[1], sys.argv[2], preprocess=tl.named("dies", prepare), batch_size=4,
               shard_size=4, num_threads=1, backend="ray", num_actors=1, num_workers=0)
"""


def test_an_actor_that_always_dies(folder: Path) -> None:
    (folder / "dies.py").write_text(DIES)
    start = time.monotonic()
    _, err, code = ended(started(str(folder / "dies.py"), str(folder / "images"), str(folder / "out")))
    assert code == 1
    assert "BackendError: the extraction with backend='ray' ended" in err
    assert time.monotonic() - start < 120


def test_a_cluster_that_is_gone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    start = time.monotonic()
    with pytest.raises(tl.BackendError, match="no cluster answers at '127.0.0.1:1', the RAY_ADDRESS"):
        tl.extract(network(), "features.3", folder / "images", folder / "out", preprocess=CUT, backend="ray")
    assert time.monotonic() - start < 60


def test_a_cluster_that_was_killed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It leaves its address on the disk, to which Ray would try to connect for minutes; a new one is started."""
    # A short path, because that of a socket has at most 107 bytes.
    with tempfile.TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as short:
        address = Path(short, "ray", "ray_current_cluster")
        address.parent.mkdir()
        address.write_text("127.0.0.1:1")
        monkeypatch.setenv("RAY_TMPDIR", short)
        monkeypatch.setenv("RAY_ADDRESS", "")  # as if it were not set
        out, err, code = ended(started(str(folder / "run.py"), str(folder / "images"), str(folder / "out"), "ray"))
    assert code == 0, err
    assert "29 rows" in out


NODES = """
import sys, threading
from ray.cluster_utils import Cluster
import ray
import torch_featurelayer as tl
from tests.extraction.images import CUT, network

if __name__ == "__main__":
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    node = cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, log_to_driver=False)
    lost = []

    def progress(at):
        print(at.done, flush=True)
        if sys.argv[3] == "lost" and not lost:
            lost.append(node)
            cluster.remove_node(node, allow_graceful=False)

    store = tl.extract(network(), ["features.3", "features.6"], sys.argv[1], sys.argv[2], preprocess=CUT, reduce="mean",
                       batch_size=4, shard_size=4, num_threads=1, backend="ray", num_actors=2, progress=progress)
    print(store, len(ray.nodes()), "nodes", flush=True)
    ray.shutdown()
    cluster.shutdown()
"""


@pytest.mark.parametrize("how", ["whole", "lost"])
def test_a_cluster_of_two_nodes(how: str, folder: Path) -> None:
    """Two raylets on this machine; then one of them is lost after the first shard."""
    (folder / "nodes.py").write_text(NODES)
    command = [sys.executable, str(folder / "nodes.py"), str(folder / "images"), str(folder / "out"), how]
    log = folder / "log.txt"
    with log.open("w") as file:  # a pipe would stay open as long as any process of a raylet
        done = subprocess.run(
            command, stdout=file, stderr=file, env={**os.environ, "PYTHONPATH": ROOT}, timeout=120, check=False
        )
    assert done.returncode == 0, log.read_text()
    assert "29 rows" in log.read_text()
    assert "2 nodes" in log.read_text()
    assert digests(folder / "out") == one_process(folder, 1)


REJECTS = """
import sys
import torch
import torch_featurelayer as tl
from torch import nn

class Rejecting(nn.Linear):
    def forward(self, x):
        raise KeyError("no such part")

if __name__ == "__main__":
    tl.extract(nn.Sequential(Rejecting(2, 2)), "0", torch.ones(64, 2), sys.argv[1], shard_size=32, backend="ray")
"""


def test_an_exception_of_the_model_in_an_actor(folder: Path) -> None:
    """As in one process: not an error of Ray."""
    (folder / "rejects.py").write_text(REJECTS)
    _, err, code = ended(started(str(folder / "rejects.py"), str(folder / "out")))
    assert code == 1
    assert err.strip().endswith("KeyError: 'no such part'")


class _Actor:
    """An actor of the stand-in below."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.ready = SimpleNamespace(remote=lambda: (self, None))
        self.write = SimpleNamespace(remote=lambda task: (self, task))


def test_a_task_that_hangs_is_done_by_another_actor() -> None:
    """The node of an actor is gone, and Ray waits for another: without an error, without an end."""
    hanging, good = _Actor("hanging"), _Actor("good")

    def wait(references: list[Any], timeout: float) -> tuple[list[Any], list[Any]]:
        assert timeout >= 10
        done = [each for each in references if each[0] is good or each[1] is None]
        return done[:1], references

    ray = SimpleNamespace(
        wait=wait, get=lambda each: each[1] and ShardResult(each[1].number, 4, 0),
        exceptions=SimpleNamespace(RayActorError=RuntimeError),
    )  # fmt: skip
    results = list(_run(ray, [hanging, good], [ShardTask(number) for number in range(5)]))
    assert sorted(result.number for result in results) == list(range(5))
