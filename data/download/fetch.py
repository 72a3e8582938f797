"""HTTP downloads that resume, are checked, and appear whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import http.client
import logging
import re
import ssl
import urllib.error
import urllib.request
from pathlib import Path

from tqdm import tqdm

from data.download.unpack import BLOCK, megabytes
from data.files import alone, sync, sync_folder

TIMEOUT = 30.0  # s without any answer
BROKEN_OFF = (ConnectionError, TimeoutError, ssl.SSLError, http.client.HTTPException)

logger = logging.getLogger(__name__)


class DownloadError(ValueError):
    """A download that did not end well; the message says what to do."""


def download(url: str, destination: str | Path, sha256: str | None = None) -> Path:
    """Fetch `url` into the file `destination`, going on where an earlier call broke off.

    What has arrived waits in `destination + ".part"` and is renamed once it is complete. A file
    that is at `destination` already is taken as fetched; another process that fetches it is waited
    for.

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
    try:
        with alone(destination):
            if destination.exists():
                require_hash(destination, sha256, f"delete it and run this again, {by_hand}")
                logger.info("%s is here already: not downloaded again", destination)
                return destination
            fetch(url, part)
            try:
                require_hash(part, sha256, f"run this again, {by_hand}")
            except DownloadError:
                part.unlink()
                raise
            sync(part)
            part.replace(destination)
            sync_folder(destination.parent)
    except (OSError, http.client.HTTPException) as error:
        raise DownloadError(f"{explain(error, url, part)}; {by_hand}") from error
    return destination


def fetch(url: str, part: Path) -> None:
    """Complete `part`, or raise an OSError or HTTPException and leave it to be resumed."""
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
        logger.warning("downloading %s (%s%s) to %s", url, size, resumed, part.parent)
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
    """Write the body after the first `start` bytes of `part` and check that it is all there."""
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
    if isinstance(error, BROKEN_OFF):
        return f"the download of {url} broke off ({error}): run this again to go on"
    return f"{part} cannot be written ({error}): choose another folder"


def require_hash(path: Path, sha256: str | None, remedy: str) -> None:
    """Raise a DownloadError where a file has another SHA-256; None: any will do."""
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
