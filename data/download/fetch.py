"""Fetching data sets: resumable downloads, checked, landing whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import http.client
import re
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from data.corpora.esc50 import METADATA, esc50, find_layout
from data.corpora.speech_commands import LISTS, speech_commands
from data.download.unpack import BLOCK, extract_tar, extract_zip, megabytes, require_vacant

TIMEOUT = 30.0  # s without any answer


@dataclass(frozen=True)
class Source:
    """Where a data set is published."""

    name: str
    url: str
    size: str
    sha256: str | None
    suffix: str
    extract: Callable[[Path, Path], Path]


ESC50_URL = "https://github.com/karolpiczak/ESC-50/archive/master.zip"
SPEECH_COMMANDS = {  # SHA-256: as torchaudio and TensorFlow Datasets publish them
    "v2": Source(
        "Speech Commands V2",
        "http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz",
        "2.4 GB",
        "af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58",
        ".tar.gz",
        extract_tar,
    ),
    "v1": Source(
        "Speech Commands V1",
        "http://download.tensorflow.org/data/speech_commands_v0.01.tar.gz",
        "1.5 GB",
        "743935421bb51cccdb6bdd152e04c5c70274e935c82119ad7faeec31780d811d",
        ".tar.gz",
        extract_tar,
    ),
}


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

    def layout(unpacked: Path) -> Path:
        esc50(unpacked)
        return find_layout(unpacked)

    source = Source("ESC-50", url, "about 600 MB", None, ".zip", extract_zip)
    return install(source, folder, METADATA, layout)


def download_speech_commands(folder: str | Path, version: str = "v2") -> Path:
    """Speech Commands (CC BY 4.0) into `folder`, which then holds the words' folders and the lists.

    Does nothing where it is there already. The archive lies beside the folder, as
    `folder + ".tar.gz"`, until it is unpacked: about 6 GB are needed in between for V2, 4 GB for
    V1. Its SHA-256 and the files that the lists name are checked.

    Args:
        folder: where the data set shall lie.
        version: "v2" (105,829 clips of 35 words) or "v1" (64,727 clips of 30 words).

    Returns:
        The folder: what `data.speech_commands` takes.

    Raises:
        ValueError: an unknown version; as `download` and `extract_tar`; or the folder holds
            something else.
    """
    if version not in SPEECH_COMMANDS:
        raise ValueError(
            f"Speech Commands has no version {version!r}: use one of {', '.join(SPEECH_COMMANDS)}"
        )

    def layout(unpacked: Path) -> Path:
        speech_commands(unpacked)
        return unpacked

    return install(SPEECH_COMMANDS[version], folder, Path(LISTS["test"]), layout)


def install(
    source: Source, folder: str | Path, landmark: Path, layout: Callable[[Path], Path]
) -> Path:
    """Fetches and unpacks a data set, unless `folder` holds its file `landmark` already.

    layout: finds the data set in what was unpacked; raises where it is not complete.
    """
    folder = Path(folder).expanduser().resolve()
    if (folder / landmark).is_file():
        print(f"{source.name} is in {folder} already: nothing to do", file=sys.stderr)
        return folder
    require_vacant(folder)
    print(f"{source.name}, {source.size} from {source.url}, goes to {folder}", file=sys.stderr)
    archive = download(source.url, folder.with_name(folder.name + source.suffix), source.sha256)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".unpacking-") as scratch:
        unpacked = source.extract(archive, Path(scratch, "content"))
        try:
            found = layout(unpacked)
        except (ValueError, FileNotFoundError) as error:
            raise ValueError(
                f"{archive} does not hold {source.name} ({error}): delete it and run this again"
            ) from error
        found.replace(folder)
    archive.unlink()
    return folder
