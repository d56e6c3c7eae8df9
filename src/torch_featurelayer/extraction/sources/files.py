"""Images in folders and in tar files, on this machine or on object storage."""

from __future__ import annotations

import io
import os
import tarfile
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Final, NamedTuple

import fsspec
from fsspec.core import url_to_fs

from ..._optional import need
from ...store.folder import is_local
from .items import Items, Prepare

# Endings of images that Pillow reads with a plug-in only; a file without an ending may be one too.
_UNREAD_IMAGES: Final = frozenset(
    ["", ".heic", ".heif", ".avif", ".jxl", ".dng", ".cr2", ".nef", ".arw", ".raw", ".svg"]
)


def image_folder(folder: str, prepare: Prepare) -> Items:
    """Returns the images in a folder at any depth, by path in it, in the order of their names.

    Folders behind links are read too. A file that looks like an image which Pillow cannot read here, or that has no
    ending, is left out with a warning.

    Raises:
        EmptyDatasetError: If there is none.
        FileNotFoundError: If there is no such folder.
    """
    paths = _local_files(folder) if is_local(folder) else _remote_files(folder)
    _warn_of_left_out([name for name in paths if not _is_image(name)])
    ids = sorted(name for name in paths if _is_image(name))
    return Items(ids, partial(image_of, [paths[name] for name in ids]), prepare)


def open_file(path: str) -> Any:
    """Opens a file, or a URL that fsspec knows, for reading bytes."""
    return Path(path).open("rb") if is_local(path) else fsspec.open(path, "rb")


def _local_files(folder: str) -> dict[str, str]:
    """Returns the files in a folder by their path in it, those of linked folders too, each folder once."""
    root = Path(folder)
    if not root.is_dir():
        raise FileNotFoundError(f"no folder {folder!r}")
    found, seen = {}, set()
    for place, folders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:  # a link to a folder around it
            folders.clear()
            continue
        seen.add(real)
        for name in files:
            path = Path(place, name)
            found[path.relative_to(root).as_posix()] = str(path)
    return found


def _remote_files(folder: str) -> dict[str, str]:
    system, root = url_to_fs(folder)
    if not system.isdir(root):
        raise FileNotFoundError(f"no folder {folder!r}")
    return {path.removeprefix(root).lstrip("/"): system.unstrip_protocol(path) for path in system.find(root)}


def _warn_of_left_out(names: Sequence[str]) -> None:
    visible = [name for name in sorted(names) if not PurePosixPath(name).name.startswith(".")]
    left = [name for name in visible if PurePosixPath(name).suffix.lower() in _UNREAD_IMAGES]
    if left:
        more = f" and {len(left) - 3} more" if len(left) > 3 else ""
        warnings.warn(
            f"{len(left)} files may be images and are left out, since Pillow does not know their ending: "
            f"{', '.join(map(repr, left[:3]))}{more}. Give a list of files to read them all; HEIC needs a plug-in "
            "such as pillow-heif.",
            UserWarning,
            stacklevel=5,
        )


def image_of(paths: Sequence[str], place: int) -> Any:
    """Opens an image: a path or URL of them."""
    with open_file(paths[place]) as file:
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
    with open_file(path) as file, tarfile.open(fileobj=file, mode="r:") as tar:
        return [
            _Member(path, _key(info.name), info.offset_data, info.size)
            for info in tar
            if info.isfile() and _is_image(info.name)
        ]


def _member_image(members: Sequence[_Member], place: int) -> Any:
    member = members[place]
    with open_file(member.path) as file:
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
