"""Stores and images on object storage, with a real S3 server of moto's on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import s3fs
import torch
from moto.server import ThreadedMotoServer

import torch_featurelayer as tl
from tests.extraction.images import CUT, make_images, network
from tests.store.digests import digests


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[s3fs.S3FileSystem]:
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    system = s3fs.S3FileSystem()
    system.makedirs("bucket", exist_ok=True)
    yield system
    s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


def test_images_and_store_on_object_storage(bucket: s3fs.S3FileSystem, tmp_path: Path) -> None:
    """The objects are byte for byte the files of a local store, also when continued; rows are read as from files."""
    make_images(tmp_path / "images", 10)
    bucket.put(f"{tmp_path}/images/", "bucket/images/", recursive=True)

    def run(data: str, out: str) -> tl.store.Store:
        # By their contents, because the times of the two copies of an image differ.
        options: dict[str, Any] = {"batch_size": 4, "shard_size": 4, "verify": "contents"}
        return tl.extract(network(), "features.3", data, out, preprocess=CUT, **options)

    store = run("s3://bucket/images", "s3://bucket/features")
    local = run(str(tmp_path / "images"), str(tmp_path / "local"))
    assert store.ids == local.ids
    assert torch.equal(store["features.3"][[3, 8]], local["features.3"][[3, 8]])
    assert store.verify() == 10
    bucket.rm("bucket/features/shards/00000001.safetensors")
    run("s3://bucket/images", "s3://bucket/features")
    bucket.get("bucket/features/", f"{tmp_path}/fetched/", recursive=True)
    there, here = digests(tmp_path / "fetched"), digests(tmp_path / "local")
    for own in (".lock", "metadata.json"):  # the location of the images is in the metadata
        there.pop(own, None)
        here.pop(own, None)
    assert there == here


RUN = """
import sys
import torch_featurelayer as tl
from tests.extraction.images import CUT, network

if __name__ == "__main__":
    tl.extract(network(), "features.3", "s3://bucket/images", sys.argv[1], preprocess=CUT, batch_size=4, shard_size=4,
               num_threads=1, backend=sys.argv[2] if len(sys.argv) > 2 else None, num_actors=2)
"""


@pytest.mark.slow
@pytest.mark.ray
def test_ray_writes_to_object_storage(bucket: s3fs.S3FileSystem, tmp_path: Path) -> None:
    """Two actors read images from a bucket and write shards to it: the objects of one process."""
    make_images(tmp_path / "images", 14)
    bucket.put(f"{tmp_path}/images/", "bucket/images/", recursive=True)
    (tmp_path / "run.py").write_text(RUN)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    for arguments in (["s3://bucket/ray", "ray"], ["s3://bucket/one"]):
        command = [sys.executable, str(tmp_path / "run.py"), *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr
    bucket.invalidate_cache()
    for name in ("ray", "one"):
        bucket.get(f"bucket/{name}/", f"{tmp_path}/{name}/", recursive=True)
    found, right = digests(tmp_path / "ray"), digests(tmp_path / "one")
    assert sum(name.startswith("shards") for name in found) == 4
    assert found == right


@pytest.mark.usefixtures("bucket")
def test_there_is_no_store_in_a_bucket() -> None:
    with pytest.raises(tl.StoreNotFoundError):
        tl.open_store("s3://bucket/nothing")
    with pytest.raises(FileNotFoundError, match="no folder"):
        tl.extract(network(), "features.3", "s3://bucket/none", "s3://bucket/out")
