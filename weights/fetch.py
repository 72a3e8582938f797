"""Weights by name: the authors' published files, and models of the Hugging Face hub."""

from __future__ import annotations

import errno
import logging
import os
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from data.download.fetch import DownloadError, download, require_hash
from data.download.unpack import megabytes
from data.files import cache_folder
from weights.folder import CONFIG, PICKLED_WEIGHTS, PREPROCESSOR, WEIGHTS

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PublishedFile:
    """A file of the authors."""

    url: str
    sha256: str | None = None  # None: the authors publish no hashes


PUBLISHED = {
    name: PublishedFile(f"https://www.dropbox.com/s/{key}/{name}.pth?dl=1")
    for name, key in {
        # AST (github.com/YuanGongND/ast): data set, strides, mAP or accuracy
        "audioset_10_10_0.4593": "ca0b1v2nlxzyeb4",
        "audioset_10_10_0.4495": "1tv0hovue1bxupk",
        "audioset_10_10_0.4483": "6u5sikl4b9wo4u5",
        "audioset_10_10_0.4475": "kt6i0v9fvfm1mbq",
        "audioset_12_12_0.4467": "snfhx3tizr4nuc8",
        "audioset_14_14_0.4431": "z18s6pemtnxm4k7",
        "audioset_16_16_0.4422": "mdsa4t1xmcimia6",
        "speechcommands_10_10_0.9812": "q0tbqpwv44pquwy",
        # SSAST (github.com/YuanGongND/ssast): size, shape of the patches, number of masked ones
        "SSAST-Base-Patch-400": "ewrzpco95n9jdz6",
        "SSAST-Base-Frame-400": "nx6nl4d4bl71sm8",
        "SSAST-Base-Patch-250": "mxrm9qog6aj8hif",
        "SSAST-Base-Frame-250": "4e6l7ulhwrfoana",
        "SSAST-Small-Patch-400": "i24w446rl9pkf05",
        "SSAST-Tiny-Patch-400": "fkbtf78y94113wz",
        "SSAST-Tiny-Frame-400": "rx7g60ruzawffzv",
    }.items()
}

PART = r"[A-Za-z0-9_][\w.-]*"
HUB_ID = re.compile(rf"(?P<repository>{PART}/{PART})(@(?P<revision>{PART}(/{PART})*))?", re.ASCII)
SHA256 = re.compile(r"[0-9a-f]{64}")
PICKLE_START = b"\x80\x02"  # what torch.save wrote before its zip files: pickle, protocol 2
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)


def fetch(source: str) -> Path:
    """The local path of a published model, downloaded unless it is in the cache.

    Args:
        source: the name of a published file of the authors (a key of `PUBLISHED`), with or without
            `.pth`; or a hub id `owner/name`, or `owner/name@revision` with a branch, tag or commit.

    Returns:
        A `.pth` file in `$XDG_CACHE_HOME/ast-audio/weights`; or the model's folder in the cache of
        huggingface_hub, which holds `config.json`, `model.safetensors` or `pytorch_model.bin`, and
        `preprocessor_config.json` where the hub has one.

    Raises:
        FileNotFoundError: the name is of neither kind; it is `folder/name` with a folder that is
            here, so that a mistyped path is not asked of the hub; the hub has no such model; or it
            is not in the cache and HF_HUB_OFFLINE is set.
        ValueError: the download failed or brought something else.
    """
    name = source.removesuffix(".pth")
    if name in PUBLISHED:
        return _from_authors(name)
    if match := HUB_ID.fullmatch(source):
        owner = Path(source).parts[0]
        if match["revision"] is None and Path(owner).is_dir():
            raise FileNotFoundError(
                f"there is no file or folder {source}, though {owner} is a folder here; correct "
                f"the path, or give {source}@main for the model of that name on the hub"
            )
        return _from_hub(match["repository"], match["revision"])
    raise FileNotFoundError(
        f"there is no file or folder {source}, and it is neither the name of a published file "
        f"({', '.join(PUBLISHED)}) nor a hub id (owner/name or owner/name@revision)"
    )


def _from_authors(name: str) -> Path:
    url, path = PUBLISHED[name].url, cache_folder("weights") / f"{name}.pth"
    if not path.is_file():
        if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
            raise FileNotFoundError(
                f"{name} is not in the cache and HF_HUB_OFFLINE forbids to download it: unset it, "
                f"or fetch {url} by hand and save it as {path}"
            )
        download(url, path, PUBLISHED[name].sha256)
    with path.open("rb") as file:
        start = file.read(len(PICKLE_START))
    if not zipfile.is_zipfile(path) and start != PICKLE_START:
        path.unlink()
        raise DownloadError(
            f"{url} brought something other than a whole .pth file (a web page, perhaps): run this "
            f"again, or open the address in a browser and save the file as {path}"
        )
    return path


def _from_hub(repository: str, revision: str | None) -> Path:
    try:
        from huggingface_hub import HfApi
    except ImportError as error:
        raise ValueError(
            f"{repository} is on the Hugging Face hub, which needs the package huggingface_hub: "
            f"pip install huggingface_hub; {_by_hand(repository)}"
        ) from error
    with _in_one_line(repository):
        commit = HfApi().resolve_revision(repository, revision=revision).resolved
    config = _hub_file(repository, CONFIG, commit)
    if config is None:
        raise FileNotFoundError(f"{_page(repository)} has no {CONFIG}: give the id of an AST model")
    _hub_file(repository, PREPROCESSOR, commit)
    if not any(_hub_file(repository, name, commit) for name in (WEIGHTS, PICKLED_WEIGHTS)):
        raise FileNotFoundError(
            f"{_page(repository)} has neither {WEIGHTS} nor {PICKLED_WEIGHTS}: give the id of a "
            "model whose weights are in one such file"
        )
    return config.parent


def _hub_file(repository: str, name: str, commit: str) -> Path | None:
    """The file in huggingface_hub's cache, fetched if need be; None where the hub has none."""
    from huggingface_hub import (
        constants,
        get_hf_file_metadata,
        hf_hub_download,
        hf_hub_url,
        try_to_load_from_cache,
    )
    from huggingface_hub.errors import RemoteEntryNotFoundError

    cached = try_to_load_from_cache(repository, name, revision=commit)
    if cached is not None:
        return Path(cached) if isinstance(cached, str) else None
    url = hf_hub_url(repository, name, revision=commit)
    with _in_one_line(repository):
        try:
            metadata = get_hf_file_metadata(url)
        except RemoteEntryNotFoundError:
            with suppress(RemoteEntryNotFoundError):
                hf_hub_download(repository, name, revision=commit)  # the cache notes the absence
            return None
        size = "of unknown size" if metadata.size is None else megabytes(metadata.size)
        logger.warning(f"downloading {url} ({size}) to {constants.HF_HUB_CACHE}")
        path = Path(hf_hub_download(repository, name, revision=commit))
    if SHA256.fullmatch(metadata.etag or ""):  # of a large file; a small one's ETag is git's
        _require_hub_hash(path, metadata.etag, f"run this again, {_by_hand(repository)}")
    return path


def _require_hub_hash(path: Path, sha256: str, remedy: str) -> None:
    blob = path.resolve()  # what the cache links to
    try:
        require_hash(blob, sha256, remedy)
    except DownloadError:
        path.unlink()
        blob.unlink(missing_ok=True)
        raise


@contextmanager
def _in_one_line(repository: str) -> Iterator[None]:
    """Turn whatever huggingface_hub, its HTTP client and Xet raise into one line of ours."""
    try:
        yield
    except Exception as error:  # they have no base class in common
        kind, problem = _explain(error)
        raise kind(
            f"there is no file or folder {repository} here, and {_page(repository)} {problem}; "
            f"{_by_hand(repository)}"
        ) from error


def _explain(error: Exception) -> tuple[type[Exception], str]:
    """The type to raise, and what follows the model's address in the message."""
    from huggingface_hub import constants, errors, is_offline_mode

    if is_offline_mode():
        return FileNotFoundError, (
            f"is not all in the cache {constants.HF_HUB_CACHE}, "
            "and HF_HUB_OFFLINE forbids to download it: unset it"
        )
    if isinstance(error, errors.GatedRepoError):
        return DownloadError, "is restricted: ask for access there and run `hf auth login`"
    if isinstance(error, errors.RevisionNotFoundError):
        return FileNotFoundError, "has no such revision: give a branch, tag or commit that it lists"
    status = error.response.status_code if isinstance(error, errors.HfHubHTTPError) else None
    unknown = isinstance(error, (errors.RepositoryNotFoundError, errors.HFValidationError))
    if unknown or status == HTTPStatus.UNAUTHORIZED:  # the hub's answer to both
        problem = "does not exist or is private: check the name, or run `hf auth login`"
        return FileNotFoundError, problem
    if status is not None:
        return DownloadError, f"was refused (HTTP {status}): run this again later"
    # Errors of the network are OSErrors too, with an errno, but name no file.
    if isinstance(error, OSError) and (error.filename or error.errno in DISK_ERRORS):
        return DownloadError, (
            f"cannot be written to {constants.HF_HUB_CACHE} ({error.strerror}): "
            "make room there or set HF_HUB_CACHE to another folder"
        )
    reason = str(error.__cause__ or error).strip().partition("\n")[0] or type(error).__name__
    return DownloadError, f"did not arrive ({reason}): check the network and run this again"


def _page(repository: str) -> str:
    return f"https://huggingface.co/{repository}"


def _by_hand(repository: str) -> str:
    return (
        f"or download {CONFIG}, {PREPROCESSOR} and {WEIGHTS} of {_page(repository)} "
        "into a folder and give that folder"
    )
