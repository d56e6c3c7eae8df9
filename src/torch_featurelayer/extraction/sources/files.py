"""Images in folders and in tar files, on this machine or on object storage."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence
from functools import partial
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import fsspec
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from ..._optional import need
from .items import Items, Prepare


def image_folder(folder: str, prepare: Prepare) -> Items:
    """Returns the images in a folder at any depth, by path in it, in the order of their names.

    Raises:
        EmptyDatasetError: There is none.
        FileNotFoundError: There is no such folder.
    """
    system, root = url_to_fs(folder)
    if not system.isdir(root):
        raise FileNotFoundError(f"no folder {folder!r}")
    files = sorted(path for path in system.find(root) if _is_image(path))
    ids = [path.removeprefix(root).lstrip("/") for path in files]
    urls = files if isinstance(system, LocalFileSystem) else [system.unstrip_protocol(path) for path in files]
    return Items(ids, partial(image_of, urls), prepare)


def image_of(paths: Sequence[str], place: int) -> Any:
    """Opens an image: a path or URL of them."""
    with fsspec.open(paths[place], "rb") as file:
        return _opened(file.read())


def is_tar(path: str) -> bool:
    """Whether a name is that of a tar file."""
    return path.endswith(".tar")


def samples_of_tars(paths: Sequence[str], prepare: Prepare) -> Items:
    """Returns the images in tar files as webdataset writes them: the id is the name up to its first dot.

    Raises:
        EmptyDatasetError: There is none.
        FileNotFoundError: There is no such file.
        tarfile.ReadError: It is no tar, or compressed, which allows no reading here and there.
    """
    members = [member for path in paths for member in _members(path)]
    return Items([member.id for member in members], partial(_member_image, members), prepare)


class _Member(NamedTuple):
    path: str
    id: str
    start: int
    size: int


def _members(path: str) -> list[_Member]:
    with fsspec.open(path, "rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
        return [
            _Member(path, _key(info.name), info.offset_data, info.size)
            for info in tar
            if info.isfile() and _is_image(info.name)
        ]


def _member_image(members: Sequence[_Member], place: int) -> Any:
    member = members[place]
    with fsspec.open(member.path, "rb") as file:
        file.seek(member.start)
        return _opened(file.read(member.size))


def _key(name: str) -> str:
    """Everything before the first dot of the last part of a name, as webdataset splits it."""
    folder, _, last = name.rpartition("/")
    return f"{folder}/{last.partition('.')[0]}".lstrip("/")


def _is_image(path: str) -> bool:
    return PurePosixPath(path).suffix.lower() in need("PIL.Image", "images").registered_extensions()


def _opened(content: bytes) -> Any:
    pillow = need("PIL.Image", "images")
    try:
        return pillow.open(io.BytesIO(content))
    except pillow.UnidentifiedImageError:
        raise ValueError(f"{len(content)} bytes that are no image Pillow knows") from None
