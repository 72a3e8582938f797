"""The corpora that can be downloaded: fetched, checked, unpacked into a folder."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from data.corpora.esc50 import METADATA, esc50, find_layout
from data.corpora.speech_commands import LISTS, speech_commands
from data.download.fetch import download
from data.download.unpack import extract_tar, extract_zip, require_vacant
from data.files import alone, scratch_folder, sync_folder

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """Where a corpus is published, and in what."""

    name: str
    url: str
    size: str  # of the download, as it is announced
    sha256: str | None  # None: none is published
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
        folder: where the corpus goes.
        version: "v2" (105,829 clips of 35 words) or "v1" (64,727 clips of 30 words).

    Returns:
        The folder: what `data.speech_commands` takes.

    Raises:
        ValueError: an unknown version, or another one is there; as `download` and `extract_tar`;
            or the folder holds something else.
    """
    if version not in SPEECH_COMMANDS:
        raise ValueError(
            f"Speech Commands has no version {version!r}: use one of {', '.join(SPEECH_COMMANDS)}"
        )

    def layout(unpacked: Path) -> Path:
        speech_commands(unpacked)
        return unpacked

    place = Path(folder).expanduser()
    has_old, has_new = ((place / word).is_dir() for word in ("bed", "backward"))
    found = "v2" if has_new else "v1" if has_old else version
    if found != version:
        raise ValueError(f"{folder} holds Speech Commands {found.upper()}; give another folder")
    return install(SPEECH_COMMANDS[version], folder, Path(LISTS["test"]), layout)


def install(
    source: Source, folder: str | Path, landmark: Path, layout: Callable[[Path], Path]
) -> Path:
    """Fetch and unpack a corpus, unless `folder` holds its file `landmark` already.

    layout: finds the corpus in what was unpacked; raises where it is not complete.
    """
    folder = Path(folder).expanduser().resolve()
    archive = folder.with_name(folder.name + source.suffix)
    unpacked = _unpacked(archive)
    with alone(folder):
        if (folder / landmark).is_file():
            logger.info("%s is in %s already: nothing to do", source.name, folder)
            with alone(archive):  # whose lock goes too, where a call did not get to its end
                unpacked.unlink(missing_ok=True)
        else:
            if unpacked.is_file() and not archive.exists():
                unpacked.replace(archive)
            _install(source, folder, archive, layout)
    return folder


def _unpacked(archive: Path) -> Path:
    """What an archive is called from when it was unpacked until it is removed.

    Under its own name, one that somebody keeps beside the corpus is never removed.
    """
    return archive.with_name(f"{archive.name}.unpacked")


def _install(source: Source, folder: Path, archive: Path, layout: Callable[[Path], Path]) -> None:
    require_vacant(folder)
    logger.info("%s, %s from %s, goes to %s", source.name, source.size, source.url, folder)
    download(source.url, archive, source.sha256)
    with scratch_folder(folder) as scratch:
        unpacked = source.extract(archive, scratch / "content")
        try:
            found = layout(unpacked)
        except (ValueError, FileNotFoundError) as error:
            raise ValueError(
                f"{archive} does not hold {source.name} ({error}): delete it and run this again"
            ) from error
        archive.replace(_unpacked(archive))
        found.replace(folder)
        sync_folder(folder.parent)
    _unpacked(archive).unlink()
