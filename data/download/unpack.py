"""Archives from elsewhere, unpacked whole or not at all, and nothing but plain files of them."""

from __future__ import annotations

import gzip
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from data.files import inner_parts

MAX_UNPACKED = 4 << 30  # bytes; ESC-50 unpacks to about 0.9 GB, Speech Commands V2 to 3.3 GB
BLOCK = 1 << 20  # bytes
DAMAGED = (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError)


def extract_zip(archive: str | Path, folder: str | Path, max_bytes: int = MAX_UNPACKED) -> Path:
    """Unpack a zip file into the new folder `folder`, completely or not at all.

    Args:
        archive: a zip file. Members that would land outside the folder, links and encrypted
            members are refused.
        folder: must not exist, or be empty.
        max_bytes: bound on the unpacked size, which guards against a zip bomb.

    Returns:
        `folder`.

    Raises:
        ValueError: the archive is damaged or refused, the folder is in use, or the disk is full.
    """
    archive, folder = Path(archive), Path(folder)
    with unpacking(archive, folder, "zip") as content, zipfile.ZipFile(archive) as file:
        members = file.infolist()
        for member in members:  # zipfile holds them to the sizes stated here
            if stat.S_ISLNK(member.external_attr >> 16):
                raise refusal(archive, member.filename, "is a link")
            if member.flag_bits & 1:
                raise refusal(archive, member.filename, "is encrypted")
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise refusal(archive, member.filename, "is packed in an unusual way")
            parts_inside(archive, member.filename)
        require_size(archive, sum(member.file_size for member in members), max_bytes)
        file.extractall(content)
    return folder


def extract_tar(archive: str | Path, folder: str | Path, max_bytes: int = MAX_UNPACKED) -> Path:
    """Unpack a .tar.gz file into the new folder `folder`, completely or not at all.

    In one pass, without the modes, owners and times that the archive gives: nothing is written but
    the content of plain files. (`tarfile`'s own filter "data" is not in every Python 3.10 and 3.11,
    and admits links.)

    Args:
        archive: a tar file packed with gzip. Members that would land outside the folder, links,
            devices and a name that occurs twice are refused.
        folder: must not exist, or be empty.
        max_bytes: bound on the unpacked size.

    Returns:
        `folder`.

    Raises:
        ValueError: the archive is damaged or refused, the folder is in use, or the disk is full.
    """
    archive, folder = Path(archive), Path(folder)
    unpacked = 0
    with unpacking(archive, folder, "tar.gz") as content, unzipped(archive) as stream:
        with tarfile.open(fileobj=stream, mode="r|") as file:
            for member in file:
                path = content.joinpath(*parts_inside(archive, member.name))
                if member.isdir():
                    path.mkdir(parents=True, exist_ok=True)
                    continue
                if not member.isfile():
                    raise refusal(archive, member.name, "is a link or a device")
                if path.exists():
                    raise refusal(archive, member.name, "occurs twice")
                unpacked += member.size
                require_size(archive, unpacked, max_bytes)
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("xb") as target:
                    shutil.copyfileobj(file.extractfile(member), target, BLOCK)
        while stream.read(BLOCK):  # to its end, where gzip compares the checksum
            pass
    return folder


@contextmanager
def unpacking(archive: Path, folder: Path, kind: str) -> Iterator[Path]:
    """An empty folder to fill, which becomes `folder` if nothing goes wrong."""
    require_vacant(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".unpacking-") as scratch:
        content = Path(scratch, "content")
        content.mkdir()
        try:
            yield content
        except DAMAGED as error:
            raise ValueError(
                f"{archive} is not a sound {kind} file ({error}): delete it and download it again"
            ) from error
        except OSError as error:
            raise ValueError(
                f"{archive} cannot be unpacked beside {folder} ({error}): make room for it there"
            ) from error
        content.replace(folder)


@contextmanager
def unzipped(archive: Path) -> Iterator[gzip.GzipFile]:
    """What gzip has packed in the archive, with a bar that shows how far it is read."""
    size = archive.stat().st_size
    with (
        archive.open("rb") as file,
        tqdm.wrapattr(file, "read", size, desc=f"unpacking {archive.name}") as packed,
        gzip.open(packed) as stream,
    ):
        yield stream


def parts_inside(archive: Path, name: str) -> tuple[str, ...]:
    """The parts of a member's path, which stays in the folder that it is unpacked to."""
    parts = inner_parts(name)
    if parts is None:
        raise refusal(archive, name, "lies outside the folder")
    return parts


def refusal(archive: Path, name: str, problem: str) -> ValueError:
    return ValueError(
        f"{archive} is refused, its member {name!r} {problem}: "
        "expected plain files; download it again from its publisher"
    )


def require_size(archive: Path, unpacked: int, max_bytes: int) -> None:
    if unpacked > max_bytes:
        raise ValueError(
            f"{archive} is refused, it unpacks to {megabytes(unpacked)} or more: expected at most "
            f"{megabytes(max_bytes)}; download it again from its publisher"
        )


def require_vacant(folder: Path) -> None:
    """Raise a ValueError unless the folder is empty or does not exist."""
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise ValueError(f"{folder} holds something else: expected a new folder; choose another")


def megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"
