"""Archives from elsewhere, unpacked whole or not at all, and nothing but plain files of them."""

from __future__ import annotations

import gzip
import re
import stat
import struct
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PureWindowsPath

from tqdm import tqdm

from data.files import inner_parts, scratch_folder, sync, sync_folder

MAX_UNPACKED = 4 << 30  # bytes; ESC-50 unpacks to about 0.9 GB, Speech Commands V2 to 3.3 GB
MAX_RATIO = 100  # of the unpacked size to the archive's; a corpus of recordings has up to 3
MAX_SMALL = 64 << 20  # bytes that an archive may unpack to, however small it is
MAX_FEW = 10_000  # members that an archive may have, however small it is
LEAST_MEMBER = 100  # bytes of the archive that each member beyond those takes
MAX_DEPTH = 32  # folders in one another
MAX_NAME = 255  # bytes of a file's or folder's name, on most file systems
MAX_HEADERS = 1 << 20  # bytes of tar headers before a member; a long name takes some thousands
MAX_REST = 16 << 20  # bytes after the end of a tar, which is filled up to a whole record
BLOCK = 1 << 20  # bytes

REFUSED_FLAGS = {0x1: "encrypted", 0x20: "a patch", 0x40: "encrypted", 0x2000: "encrypted"}
UNFIT = re.compile(r'[\x00-\x1f<>:"|?*]')  # characters that Windows has in no name

DAMAGED = (  # what zipfile, tarfile and gzip raise for damaged files
    *(zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, struct.error),
    *(EOFError, ValueError, IndexError, OverflowError, NotImplementedError, RecursionError),
)


class Refused(ValueError):
    """An archive that holds what it must not; the message names it."""


def extract_zip(archive: str | Path, folder: str | Path, max_bytes: int = MAX_UNPACKED) -> Path:
    """Unpack a zip file into the new folder `folder`, completely or not at all.

    Args:
        archive: a zip file. Refused are links, encrypted members, names as `Names` says, and more
            than `max_bytes` or a hundred times the archive.
        folder: must not exist, or be empty.
        max_bytes: bound on the unpacked size, which guards against a zip bomb.

    Returns:
        `folder`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the archive is damaged or refused, the folder is in use, or the disk is full.
    """
    archive, folder = Path(archive), Path(folder)
    with unpacking(archive, folder, "zip") as content, zipfile.ZipFile(archive) as file:
        members, names = file.infolist(), Names(archive)
        paths = [names.add(member.orig_filename, member.is_dir()) for member in members]
        for member in members:  # zipfile holds them to the sizes stated here
            if problem := problem_of(member):
                raise refusal(archive, member.filename, problem)
        if sum(member.compress_size for member in members) > archive.stat().st_size:
            raise Refused(f"{archive} is refused, its members overlap: download it again")
        unpacked = sum(member.file_size for member in members)
        require_size(archive, unpacked, most_unpacked(archive, max_bytes))
        for member, parts in zip(members, paths, strict=True):
            with file.open(member) as packed:
                blocks = iter(partial(packed.read, BLOCK), b"")
                write(content.joinpath(*parts), None if member.is_dir() else blocks)
    return folder


def extract_tar(archive: str | Path, folder: str | Path, max_bytes: int = MAX_UNPACKED) -> Path:
    """Unpack a .tar.gz file into the new folder `folder`, completely or not at all.

    In one pass, without the modes, owners and times that the archive gives: nothing is written but
    the content of plain files. (`tarfile`'s own filter "data" is not in every Python 3.10 and 3.11,
    and admits links.)

    Args:
        archive: a tar file packed with gzip. Refused are links, devices, sparse files, names as
            `Names` says, and more than `max_bytes` or a hundred times the archive, headers and
            what follows the last member included.
        folder: must not exist, or be empty.
        max_bytes: bound on the unpacked size.

    Returns:
        `folder`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the archive is damaged or refused, the folder is in use, or the disk is full.
    """
    archive, folder = Path(archive), Path(folder)
    names = Names(archive)
    with unpacking(archive, folder, "tar.gz") as content, unzipped(archive) as packed:
        stream = TarStream(packed, archive, most_unpacked(archive, max_bytes))
        with tarfile.open(fileobj=stream, mode="r:") as file:
            for member in iter(file.next, None):
                file.members.clear()  # tarfile keeps them all
                path = content.joinpath(*names.add(member.name, member.isdir()))
                if not member.isdir() and (not member.isreg() or member.issparse()):
                    raise refusal(archive, member.name, "is a link, a device or a sparse file")
                stream.seek(member.offset_data)
                write(path, None if member.isdir() else stream.content(member.size))
        stream.finish()
    return folder


@contextmanager
def unpacking(archive: Path, folder: Path, kind: str) -> Iterator[Path]:
    """An empty folder to fill, which becomes `folder` if nothing goes wrong."""
    if not archive.is_file():
        raise FileNotFoundError(f"no file {archive}: expected an archive to unpack")
    require_vacant(folder)
    with scratch_folder(folder) as content:
        try:
            yield content
        except Refused:
            raise
        except DAMAGED as error:
            reason = f"{' '.join(str(error).split()):.200}"
            raise ValueError(
                f"{archive} is not a sound {kind} file ({reason}): delete it and download it again"
            ) from error
        except OSError as error:
            raise unwritten(archive, folder, error) from error
        try:
            sync(content)
            content.replace(folder)
            sync_folder(folder.parent)
        except OSError as error:
            raise unwritten(archive, folder, error) from error


def unwritten(archive: Path, folder: Path, error: OSError) -> ValueError:
    """That an archive's content cannot be written."""
    return ValueError(
        f"{archive} cannot be unpacked beside {folder} ({error}): make room for it there"
    )


def problem_of(member: zipfile.ZipInfo) -> str | None:
    """Why a member of a zip is no plain file or folder."""
    if stat.S_ISLNK(member.external_attr >> 16):
        return "is a link"
    for flag, problem in REFUSED_FLAGS.items():
        if member.flag_bits & flag:
            return f"is {problem}"
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "is packed in an unusual way"
    return None


def write(path: Path, blocks: Iterable[bytes] | None) -> None:
    """Write a file that is not there yet, or make the folder, where there are no blocks."""
    folder = path if blocks is None else path.parent
    folder.mkdir(parents=True, exist_ok=True)
    if blocks is not None:
        with path.open("xb") as target:
            target.writelines(blocks)


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


class TarStream:
    """What tarfile reads a tar from: once, forwards, and no more of it than allowed.

    tarfile takes any size that a header gives for true: it reads a name of gigabytes, and looks for
    the next header where there is no file any more.

    Args:
        packed: the tar, unzipped as it is read.
        archive: its file, in messages.
        most_bytes: of the tar, headers included.
    """

    def __init__(self, packed: gzip.GzipFile, archive: Path, most_bytes: int) -> None:
        self.packed, self.archive, self.most_bytes = packed, archive, most_bytes
        self.position = 0
        self.headers_left = MAX_HEADERS  # bytes, until the content of the next member

    def read(self, size: int) -> bytes:
        """The next bytes of headers, which is all that tarfile reads; fewer at the end."""
        if size > self.headers_left:
            raise tarfile.ReadError(f"headers of more than {megabytes(MAX_HEADERS)}")
        self.headers_left -= size
        return self._read(size)

    def content(self, size: int) -> Iterator[bytes]:
        """The next bytes as those of a member, in blocks."""
        end, self.headers_left = self.position + size, MAX_HEADERS
        while self.position < end:
            block = self._read(min(BLOCK, end - self.position))
            if not block:
                raise tarfile.ReadError("unexpected end of data")
            yield block

    def tell(self) -> int:
        return self.position

    def seek(self, position: int) -> None:
        """Go on at a later position, or at the end if there is none."""
        if position < self.position:
            raise tarfile.ReadError("a header that leads back")
        while self.position < position and self._read(min(BLOCK, position - self.position)):
            pass

    def finish(self) -> None:
        """To the end of the file, where gzip compares the checksum; a tar ends with zeros."""
        end = self.position + MAX_REST
        while block := self._read(BLOCK):
            if self.position > end or block.count(0) < len(block):
                raise tarfile.ReadError("something follows its last member")

    def _read(self, size: int) -> bytes:
        content = self.packed.read(size)
        self.position += len(content)
        require_size(self.archive, self.position, self.most_bytes)
        return content


class Names:
    """The paths of an archive's members, which have to be plain and different on every system.

    Refused are paths that leave the folder, that are deeper than `MAX_DEPTH`, or are no name on
    Windows; and two that are the same, or differ in case alone.
    """

    def __init__(self, archive: Path) -> None:
        self.archive = archive
        self.known: dict[str, tuple[str, bool]] = {}  # spelling, and whether it is a folder
        self.count, self.most = 0, MAX_FEW + archive.stat().st_size // LEAST_MEMBER

    def add(self, name: str, is_folder: bool) -> tuple[str, ...]:
        """The parts of a member's path."""
        self.count += 1
        if self.count > self.most:
            raise Refused(
                f"{self.archive} is refused, it has more than {self.most:,} members: expected "
                "files with something in them; download it again from its publisher"
            )
        parts = self._plain_parts(name)
        if not (parts or is_folder):
            raise refusal(self.archive, name, "has no name")
        for depth in range(1, len(parts) + 1):
            path, in_between = "/".join(parts[:depth]), depth < len(parts)
            key = unicodedata.normalize("NFC", path).casefold()
            this = path, in_between or is_folder
            if self.known.get(key) == this and this[1]:
                continue
            if self.known.setdefault(key, this) is not this:
                other = self.known[key][0]
                problem = "occurs twice" if other == path else f"is the same as {other!r} elsewhere"
                raise refusal(self.archive, name, problem)
        return parts

    def _plain_parts(self, name: str) -> tuple[str, ...]:
        if len(name) > MAX_DEPTH * MAX_NAME:
            raise refusal(self.archive, name, "has a path that is too long")
        parts = inner_parts(name)
        if parts is None:
            raise refusal(self.archive, name, "lies outside the folder")
        if len(parts) > MAX_DEPTH:
            raise refusal(self.archive, name, f"lies deeper than {MAX_DEPTH} folders")
        for part in parts:
            if len(part.encode()) > MAX_NAME:
                raise refusal(self.archive, name, f"has a name of more than {MAX_NAME} bytes")
            if UNFIT.search(part) or part[-1] in " ." or PureWindowsPath(part).is_reserved():
                raise refusal(self.archive, name, "has a name that is none on every system")
        return parts


def refusal(archive: Path, name: str, problem: str) -> Refused:
    return Refused(
        f"{archive} is refused, its member {name!r:.200} {problem}: "
        "expected plain files; download it again from its publisher"
    )


def most_unpacked(archive: Path, max_bytes: int) -> int:
    """How many bytes an archive may unpack to: `max_bytes`, and what its own size explains."""
    return min(max_bytes, MAX_SMALL + MAX_RATIO * archive.stat().st_size)


def require_size(archive: Path, unpacked: int, most_bytes: int) -> None:
    if unpacked > most_bytes:
        raise Refused(
            f"{archive} is refused, it unpacks to {megabytes(unpacked)} or more: expected at most "
            f"{megabytes(most_bytes)}; download it again from its publisher"
        )


def require_vacant(folder: Path) -> None:
    """Raise a ValueError unless the folder is empty or does not exist."""
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise ValueError(f"{folder} holds something else: expected a new folder; choose another")


def megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"
