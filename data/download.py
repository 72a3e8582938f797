"""Fetching data sets: resumable downloads, checked, landing whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import http.client
import re
import stat
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
import zlib
from pathlib import Path, PureWindowsPath

from tqdm import tqdm

from data.esc50 import METADATA, esc50, find_layout

ESC50_URL = "https://github.com/karolpiczak/ESC-50/archive/master.zip"
TIMEOUT = 30.0  # s without any answer
BLOCK = 1 << 20  # bytes
MAX_UNPACKED = 4 << 30  # bytes; ESC-50 unpacks to about 0.9 GB


class DownloadError(ValueError):
    """A download that did not end well; the message says what to do."""


def download(url: str, destination: str | Path, sha256: str | None = None) -> Path:
    """Fetches `url` into the file `destination`; goes on where an earlier call broke off.

    What has arrived waits in `destination + ".part"` and is renamed once it is complete. A file
    that is at `destination` already is taken as fetched.

    Args:
        url: http or https.
        destination: the file to write; its folder is made if need be.
        sha256: expected hash in hexadecimal, where one is known.

    Returns:
        `destination`.

    Raises:
        DownloadError: no connection, an answer other than the file, a body cut short (what has
            arrived is kept), a wrong hash (nothing is kept), a full disk.
    """
    destination = Path(destination)
    part = destination.with_name(destination.name + ".part")
    by_hand = f"or fetch {url} by hand and save it as {destination}"
    if not url.startswith(("http://", "https://")):
        raise DownloadError(f"cannot download {url!r}: expected an http or https address")
    if destination.is_dir():
        raise DownloadError(f"{destination} is a folder: expected the name of a file to write")
    if destination.exists():
        require_hash(destination, sha256, f"delete it and run this again, {by_hand}")
        print(f"{destination} is here already: not downloaded again", file=sys.stderr)
        return destination
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        fetch(url, part)
    except (OSError, http.client.HTTPException) as error:
        raise DownloadError(f"{explain(error, url, part)}; {by_hand}") from error
    try:
        require_hash(part, sha256, f"run this again, {by_hand}")
    except DownloadError:
        part.unlink()
        raise
    part.replace(destination)
    return destination


def fetch(url: str, part: Path) -> None:
    """Completes `part`, or raises an OSError or HTTPException and leaves it to be resumed."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "ast-audio"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE or not have:
            raise
        if error.headers.get("Content-Range") == f"bytes */{have}":
            return  # nothing is missing but the renaming
        part.unlink()
        return fetch(url, part)
    with response:
        start, total = extent(response)
        if start not in (0, have):
            raise ConnectionError(f"the server sent the bytes from {start}, not from {have}")
        size = "of unknown size" if total is None else megabytes(total)
        resumed = f", going on from {megabytes(start)}" if start else ""
        print(f"downloading {url} ({size}{resumed}) to {part.parent}", file=sys.stderr)
        receive(response, part, start, total)


def extent(response: http.client.HTTPResponse) -> tuple[int, int | None]:
    """The first byte that an answer brings, and the size of the whole file where it is told."""
    if response.status == http.HTTPStatus.PARTIAL_CONTENT:
        header = response.headers.get("Content-Range", "")
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", header)
        if not match:
            raise ConnectionError(
                f"the server sent part of the file without saying which: {header!r}"
            )
        return int(match[1]), None if match[2] == "*" else int(match[2])
    length = response.headers.get("Content-Length", "")
    return 0, int(length) if length.isdecimal() else None


def receive(response: http.client.HTTPResponse, part: Path, start: int, total: int | None) -> None:
    """Writes the body behind the first `start` bytes of `part` and checks that it is all there."""
    with (
        part.open("ab" if start else "wb") as file,
        tqdm(total=total, initial=start, unit="B", unit_scale=True, desc=part.stem) as progress,
    ):
        while block := response.read(BLOCK):
            file.write(block)
            progress.update(len(block))
    arrived = part.stat().st_size
    if total is not None and arrived != total:
        raise ConnectionError(f"{megabytes(arrived)} of {megabytes(total)} arrived")


def explain(error: Exception, url: str, part: Path) -> str:
    """What went wrong and what to do, for somebody who does not read tracebacks."""
    reason = getattr(error, "reason", None) or error
    if isinstance(error, urllib.error.HTTPError):
        return f"{url} was refused ({error.code} {error.reason}): check the address"
    if isinstance(error, urllib.error.URLError):
        return f"{url} cannot be reached ({reason}): check the network and run this again"
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk of {part.parent} is full: make room and run this again to go on"
    if isinstance(error, (ConnectionError, TimeoutError, http.client.HTTPException)):
        return f"the download of {url} broke off ({error}): run this again to go on"
    return f"{part} cannot be written ({error}): choose another folder"


def require_hash(path: Path, sha256: str | None, remedy: str) -> None:
    if sha256 is None:
        return
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    if digest.hexdigest() != sha256.lower():
        raise DownloadError(
            f"{path} has SHA-256 {digest.hexdigest()}, expected {sha256.lower()}: {remedy}"
        )


def megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"


def extract_zip(archive: str | Path, folder: str | Path, max_bytes: int = MAX_UNPACKED) -> Path:
    """Unpacks `archive` into the new folder `folder`, completely or not at all.

    Args:
        archive: a zip file. Members that would land outside the folder, links and encrypted
            members are refused before anything is written.
        folder: must not exist, or be empty.
        max_bytes: bound on the unpacked size, which guards against a zip bomb.

    Returns:
        `folder`.

    Raises:
        ValueError: the archive is damaged or refused, the folder is in use, or the disk is full.
    """
    archive, folder = Path(archive), Path(folder)
    require_vacant(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".unpacking-") as scratch:
        content = Path(scratch, "content")
        content.mkdir()
        try:
            with zipfile.ZipFile(archive) as file:
                require_harmless(archive, file.infolist(), max_bytes)
                file.extractall(content)
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise ValueError(
                f"{archive} is not a sound zip file ({error}): delete it and download it again"
            ) from error
        except OSError as error:
            raise ValueError(
                f"{archive} cannot be unpacked beside {folder} ({error}): make room for it there"
            ) from error
        content.replace(folder)
    return folder


def require_harmless(archive: Path, members: list[zipfile.ZipInfo], max_bytes: int) -> None:
    """Refuses an archive by its table of contents; zipfile holds members to the sizes stated."""
    for member in members:
        # Windows' rules know both separators and drive letters: refused on every system alike.
        path = PureWindowsPath(member.filename)
        if path.anchor or ".." in path.parts:
            problem = "lies outside the folder"
        elif stat.S_ISLNK(member.external_attr >> 16):
            problem = "is a link"
        elif member.flag_bits & 1:
            problem = "is encrypted"
        elif member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            problem = "is packed in an unusual way"
        else:
            continue
        raise ValueError(
            f"{archive} is refused, its member {member.filename!r} {problem}: "
            "expected plain files; download it again from its publisher"
        )
    unpacked = sum(member.file_size for member in members)
    if unpacked > max_bytes:
        raise ValueError(
            f"{archive} is refused, it unpacks to {megabytes(unpacked)}: expected at most "
            f"{megabytes(max_bytes)}; download it again from its publisher"
        )


def require_vacant(folder: Path) -> None:
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise ValueError(f"{folder} holds something else: expected a new folder; choose another")


def download_esc50(folder: str | Path, url: str = ESC50_URL) -> Path:
    """ESC-50 (CC BY-NC 3.0) into `folder`, which then holds `meta/esc50.csv` and `audio/`.

    Does nothing where it is there already. The zip lies beside the folder, as `folder + ".zip"`,
    until it is unpacked: about 1.5 GB are needed in between. No hash is published; the checksums
    inside the zip and the list of files in the CSV are checked.

    Returns:
        The folder that holds `meta/esc50.csv`: what `data.esc50` takes.

    Raises:
        ValueError: as `download` and `extract_zip`; or the folder holds something else.
    """
    folder = Path(folder).expanduser().resolve()
    if (folder / METADATA).is_file():
        print(f"ESC-50 is in {folder} already: nothing to do", file=sys.stderr)
        return folder
    require_vacant(folder)
    print(f"ESC-50, about 600 MB from {url}, goes to {folder}", file=sys.stderr)
    archive = download(url, folder.with_name(folder.name + ".zip"))
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".unpacking-") as scratch:
        unpacked = extract_zip(archive, Path(scratch, "zip"))
        try:
            esc50(unpacked)  # every file of the CSV is there, or this raises
        except (ValueError, FileNotFoundError) as error:
            raise ValueError(
                f"{archive} does not hold ESC-50 ({error}): delete it and run this again"
            ) from error
        find_layout(unpacked).replace(folder)
    archive.unlink()
    return folder
