"""Images in folders and tar files, on this machine or on object storage."""

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
from ..collating import Collator
from .reading import file_state
from .source import MapSource

# Endings of images that Pillow can read only with a plug-in; a file without an ending may be an image too.
_UNREAD_IMAGES: Final = frozenset(
    ["", ".heic", ".heif", ".avif", ".jxl", ".dng", ".cr2", ".nef", ".arw", ".raw", ".svg"]
)


def image_folder(folder: str, collator: Collator) -> MapSource:
    """Returns the images in a folder, searched recursively, in the order of their names.

    Linked folders are searched too. Files that may be images but that Pillow cannot read here, or that have no ending,
    are left out with a warning.

    Raises:
        EmptyDatasetError: If there are no images.
        FileNotFoundError: If the folder does not exist.
    """
    paths = _local_files(folder) if is_local(folder) else _remote_files(folder)
    _warn_about_skipped([name for name in paths if not _is_image(name)])
    ids = sorted(name for name in paths if _is_image(name))
    return listed_images(ids, [paths[name] for name in ids], collator)


def listed_images(ids: Sequence[str], paths: Sequence[str], collator: Collator) -> MapSource:
    """Returns the images at paths or URLs; the size and the time of its file identify an image."""
    return MapSource(ids, partial(open_image_at, paths), collator, partial(stat_at, paths))


def stat_at(paths: Sequence[str], place: int) -> str:
    """Returns the size and the time of modification of the file at an index of a list of paths or URLs."""
    path = paths[place]
    if is_local(path):
        return file_state(path)
    system, name = url_to_fs(path)
    info = system.info(name)
    # File systems name the time, or a version, in different ways.
    version = next((str(info[key]) for key in ("ETag", "etag", "mtime", "LastModified", "created") if key in info), "")
    return f"{info.get('size')} bytes at {version}"


def open_file(path: str) -> Any:
    """Opens a file, or a URL that fsspec supports, for reading bytes."""
    return Path(path).open("rb") if is_local(path) else fsspec.open(path, "rb")


def _local_files(folder: str) -> dict[str, str]:
    """Returns the files in a folder by their relative paths; linked folders are entered, each folder once."""
    root = Path(folder)
    if not root.is_dir():
        raise FileNotFoundError(f"no folder {folder!r}")
    found, seen = {}, set()
    for place, folders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(place)
        # The real path identifies a folder however many links lead to it.
        if real in seen:  # a link to a folder that contains it
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


def _warn_about_skipped(names: Sequence[str]) -> None:
    visible = [name for name in sorted(names) if not PurePosixPath(name).name.startswith(".")]
    left = [name for name in visible if PurePosixPath(name).suffix.lower() in _UNREAD_IMAGES]
    if left:
        more = f" and {len(left) - 3} more" if len(left) > 3 else ""
        warnings.warn(
            f"{len(left)} files may be images but are left out, because Pillow does not support their endings: "
            f"{', '.join(map(repr, left[:3]))}{more}. To read them, pass a list of files; HEIC needs a plug-in such as "
            "pillow-heif.",
            UserWarning,
            stacklevel=5,
        )


def open_image_at(paths: Sequence[str], place: int) -> Any:
    """Opens the image at an index of a list of paths or URLs."""
    with open_file(paths[place]) as file:
        return _open_bytes(file.read())


def is_tar(path: str) -> bool:
    """Whether a name is that of a tar file."""
    # A compressed tar file allows no random access.
    return path.endswith(".tar")


def samples_of_tars(paths: Sequence[str], collator: Collator) -> MapSource:
    """Returns the images in tar files as webdataset writes them; the id of an image is its name up to the first dot.

    Raises:
        EmptyDatasetError: If there are no images.
        FileNotFoundError: If a file does not exist.
        tarfile.ReadError: If a file is not a tar file, or compressed, which does not allow random access.
    """
    members = [member for path in paths for member in _members(path)]
    ids = [member.id for member in members]
    return MapSource(ids, partial(_member_image, members), collator, partial(_member_stat, members))


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
        return _open_bytes(file.read(member.size))


def _member_stat(members: Sequence[_Member], place: int) -> str:
    member = members[place]
    return f"{member.size} bytes from {member.start}, {stat_at([member.path], 0)}"


def _key(name: str) -> str:
    """Returns a name up to the first dot of its last part, as webdataset splits names."""
    folder, _, last = name.rpartition("/")
    return f"{folder}/{last.partition('.')[0]}".lstrip("/")


def _is_image(path: str) -> bool:
    return PurePosixPath(path).suffix.lower() in need("PIL.Image", "images").registered_extensions()


def _open_bytes(content: bytes) -> Any:
    pillow = need("PIL.Image", "images")
    try:
        return pillow.open(io.BytesIO(content))
    except pillow.UnidentifiedImageError:
        raise ValueError(f"{len(content)} bytes that are not an image") from None
