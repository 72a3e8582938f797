"""Weights by name, from a server on this machine that stands for Dropbox and for the hub."""

import errno
import hashlib
import io
import json
import socket
import ssl
import sys
import time
import zipfile
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants
from huggingface_hub.utils import close_session

from weights.fetch import PUBLISHED, PublishedFile, fetch

COMMIT, NEXT_COMMIT = "0" * 39 + "1", "0" * 39 + "2"
CONFIG, PREPROCESSOR = b'{"model_type": "audio-spectrogram-transformer"}', b'{"mean": 0}'
WEIGHTS = bytes(range(256)) * 12_000
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()
FILES = ["config.json", "model.safetensors", "preprocessor_config.json"]


def refusal(source: str, error=ValueError) -> str:
    with pytest.raises(error) as caught:
        fetch(source)
    message = str(caught.value)
    assert "\n" not in message
    return message


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def stop(server) -> None:
    server.shutdown()
    server.server_close()


def make_checkpoint() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("archive/data.pkl", WEIGHTS)
    return buffer.getvalue()


CHECKPOINT = make_checkpoint()
NAME = "audioset_10_10_0.4593"


@pytest.fixture
def dropbox(server, monkeypatch, tmp_path):
    """Serves the published file NAME; its cache is `dropbox.cache`."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setitem(PUBLISHED, NAME, PublishedFile(f"{server.address}/{NAME}.pth?dl=1"))
    server.files[f"/{NAME}.pth"] = CHECKPOINT
    server.cache = tmp_path / "ast-audio" / "weights"
    return server


@pytest.mark.parametrize("suffix", ["", ".pth"])
def test_a_published_file_is_announced_fetched_and_kept(dropbox, suffix, caplog):
    caplog.set_level("INFO")
    path = fetch(NAME + suffix)
    assert path == dropbox.cache / f"{NAME}.pth" and path.read_bytes() == CHECKPOINT
    assert names(dropbox.cache) == [f"{NAME}.pth"]
    assert f"{NAME}.pth?dl=1 (3.1 MB) to {dropbox.cache}" in caplog.text


def test_a_published_file_in_the_cache_needs_no_network(dropbox, monkeypatch):
    fetch(NAME)
    stop(dropbox)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert fetch(NAME).read_bytes() == CHECKPOINT


def test_a_published_file_that_broke_off_is_resumed(dropbox):
    dropbox.breaks_off_at = 2_000_000
    message = refusal(NAME)
    assert "2.0 MB of 3.1 MB arrived" in message and "run this again to go on" in message
    assert f"save it as {dropbox.cache / f'{NAME}.pth'}" in message
    dropbox.breaks_off_at = None
    assert fetch(NAME).read_bytes() == CHECKPOINT
    assert dropbox.ranges == [None, "bytes=2000000-"]


def test_a_published_file_with_a_wrong_hash_leaves_nothing(dropbox, monkeypatch):
    url = PUBLISHED[NAME].url
    monkeypatch.setitem(PUBLISHED, NAME, PublishedFile(url, sha256="0" * 64))
    message = refusal(NAME)
    assert "0" * 64 in message and url in message
    assert names(dropbox.cache) == []


@pytest.mark.parametrize("answer", [b"<html>Log in</html>", CHECKPOINT[:-100], b""])
def test_an_answer_that_is_no_whole_checkpoint_leaves_nothing(dropbox, answer):
    dropbox.files[f"/{NAME}.pth"] = answer + b" "  # the server has no empty files
    message = refusal(NAME)
    assert "something other than a whole .pth file" in message
    assert f"save the file as {dropbox.cache / f'{NAME}.pth'}" in message
    assert names(dropbox.cache) == []


def test_a_checkpoint_of_before_zip_files_is_taken(dropbox):
    dropbox.files[f"/{NAME}.pth"] = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
    assert fetch(NAME).is_file()


def test_a_published_file_that_is_gone_says_what_to_save_where(dropbox):
    dropbox.files.clear()
    message = refusal(NAME)
    assert "404 Not Found" in message and f"save it as {dropbox.cache / f'{NAME}.pth'}" in message


def test_a_published_file_without_its_server_is_one_clear_line(dropbox):
    stop(dropbox)
    message = refusal(NAME)
    assert "cannot be reached" in message and "by hand and save it as" in message


def test_offline_a_published_file_says_what_to_save_where(dropbox, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    message = refusal(NAME, FileNotFoundError)
    assert "HF_HUB_OFFLINE" in message and PUBLISHED[NAME].url in message
    assert f"save it as {dropbox.cache / f'{NAME}.pth'}" in message
    assert dropbox.ranges == []


def test_every_published_file_has_an_address_of_its_own():
    assert len({file.url for file in PUBLISHED.values()}) == len(PUBLISHED) == 15
    for name, file in PUBLISHED.items():
        assert file.url.startswith("https://www.dropbox.com/s/")
        assert file.url.endswith(f"/{name}.pth?dl=1")


MODEL = "owner/model"
BY_HAND = (
    "or download config.json, preprocessor_config.json and model.safetensors of "
    f"https://huggingface.co/{MODEL} into a folder and give that folder"
)


@pytest.fixture
def hub(server, monkeypatch, tmp_path):
    """Serves MODEL as the hub does; huggingface_hub's cache is `hub.cache`, of MODEL `hub.model`.

    huggingface_hub read its environment when it was imported: its constants are set instead.
    """
    for name, value in {
        "ENDPOINT": server.address,
        "HUGGINGFACE_CO_URL_TEMPLATE": server.address + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_CACHE": str(tmp_path),
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_XET": True,
    }.items():
        monkeypatch.setattr(constants, name, value)
    server.waits = []  # of a client that tries again
    monkeypatch.setattr(time, "sleep", server.waits.append)
    server.cache, server.model = tmp_path, tmp_path / "models--owner--model"
    publish(server, COMMIT)
    close_session()  # one of an earlier test knows the earlier environment
    yield server
    close_session()


def publish(hub, commit: str) -> None:
    """A commit of MODEL: complete, and what `main` stands for."""
    for revision in ("main", "v1", commit):
        hub.files[f"/api/models/{MODEL}/revision/{revision}"] = json.dumps(
            {"id": MODEL, "sha": commit}
        ).encode()
    hub.files[f"/api/models/{MODEL}"] = hub.files[f"/api/models/{MODEL}/revision/main"]
    for name, content in zip(FILES, (CONFIG, WEIGHTS, PREPROCESSOR), strict=True):
        put(hub, name, content, commit)
    for name in ("pytorch_model.bin", "README.md"):
        put(hub, name, b"not wanted", commit)


def put(hub, name: str, content: bytes | None, commit: str = COMMIT) -> None:
    path = f"/{MODEL}/resolve/{commit}/{name}"
    if content is None:
        del hub.files[path]
        headers = {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit}
        hub.refusals[path] = (404, headers)
        return
    hub.files[path] = content
    hub.headers[path] = {
        "X-Repo-Commit": commit,
        "ETag": f'"{hashlib.sha1(content).hexdigest()}"',
    }
    if name.startswith(("model", "pytorch")):  # in the hub's store of large files
        hub.headers[path] |= {
            "X-Linked-Etag": f'"{hashlib.sha256(content).hexdigest()}"',
            "X-Linked-Size": str(len(content)),
        }


def test_a_model_of_the_hub_is_announced_and_nothing_else_of_it_is_fetched(hub, caplog):
    folder = fetch(MODEL)
    assert folder == hub.model / "snapshots" / COMMIT and names(folder) == FILES
    assert (folder / "config.json").read_bytes() == CONFIG
    assert (folder / "preprocessor_config.json").read_bytes() == PREPROCESSOR
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert f"model.safetensors (3.1 MB) to {hub.cache}" in caplog.text


def test_without_safetensors_the_pickled_weights_are_fetched(hub):
    put(hub, "model.safetensors", None)
    assert names(fetch(MODEL)) == ["config.json", "preprocessor_config.json", "pytorch_model.bin"]


@pytest.mark.parametrize("revision", ["v1", COMMIT])
def test_a_revision_is_fetched_as_named(hub, revision):
    publish(hub, NEXT_COMMIT)
    hub.files[f"/api/models/{MODEL}/revision/v1"] = json.dumps(
        {"id": MODEL, "sha": COMMIT}
    ).encode()
    assert fetch(f"{MODEL}@{revision}").name == COMMIT
    assert fetch(MODEL).name == NEXT_COMMIT


@pytest.mark.parametrize("absent", [(), ("preprocessor_config.json",), ("model.safetensors",)])
@pytest.mark.parametrize("offline", [False, True], ids=["no network", "HF_HUB_OFFLINE"])
def test_a_model_in_the_cache_needs_no_network(hub, monkeypatch, absent, offline):
    for name in absent:
        put(hub, name, None)
    folder = fetch(MODEL)
    content = names(folder)
    stop(hub)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    for source in (MODEL, f"{MODEL}@{COMMIT}"):
        assert fetch(source) == folder and names(folder) == content
    assert hub.waits == []


def test_a_file_in_the_cache_is_not_fetched_again(hub):
    fetch(MODEL)
    downloads = len(hub.ranges)
    fetch(MODEL)
    assert len(hub.ranges) == downloads + 1  # which commit `main` is


def test_weights_that_break_off_are_resumed(hub, monkeypatch):
    hub.breaks_off_at = 2_500_000
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1_000_000)  # whole chunks are kept
    monkeypatch.setattr(time, "sleep", lambda _: setattr(hub, "breaks_off_at", None))
    assert (fetch(MODEL) / "model.safetensors").read_bytes() == WEIGHTS
    assert hub.ranges[-1] == "bytes=2000000-"


def test_weights_that_stay_cut_short_are_an_error_and_are_not_kept(hub):
    hub.breaks_off_at = 2_000_000
    message = refusal(MODEL)
    assert "did not arrive" in message and message.endswith(BY_HAND)
    assert names(hub.model / "snapshots" / COMMIT) == ["config.json", "preprocessor_config.json"]
    hub.breaks_off_at = None
    assert (fetch(MODEL) / "model.safetensors").read_bytes() == WEIGHTS


def test_weights_shorter_than_the_hub_says_are_an_error(hub):
    hub.headers[f"/{MODEL}/resolve/{COMMIT}/model.safetensors"]["X-Linked-Size"] = "4000000"
    message = refusal(MODEL)
    assert "should be of size 4000000" in message and "force_download" not in message
    assert names(hub.model / "snapshots" / COMMIT) == ["config.json", "preprocessor_config.json"]


def test_weights_with_a_wrong_hash_are_an_error_and_are_not_kept(hub):
    path = f"/{MODEL}/resolve/{COMMIT}/model.safetensors"
    hub.files[path] = WEIGHTS[::-1]
    message = refusal(MODEL)
    assert f"expected {SHA256}" in message and message.endswith(BY_HAND)
    assert names(hub.model / "snapshots" / COMMIT) == ["config.json", "preprocessor_config.json"]
    assert SHA256 not in names(hub.model / "blobs")
    hub.files[path] = WEIGHTS
    assert (fetch(MODEL) / "model.safetensors").read_bytes() == WEIGHTS


@pytest.mark.parametrize(
    ("status", "code", "error", "problem"),
    [
        (404, "RepoNotFound", FileNotFoundError, "does not exist or is private"),
        (401, None, FileNotFoundError, "does not exist or is private"),
        (404, "RevisionNotFound", FileNotFoundError, "has no such revision"),
        (403, "GatedRepo", ValueError, "is restricted: ask for access there"),
        (403, None, ValueError, "was refused (HTTP 403)"),
        (503, None, ValueError, "503 Service Unavailable"),
    ],
)
def test_a_refusal_of_the_hub_is_one_clear_line(hub, status, code, error, problem):
    del hub.files[f"/api/models/{MODEL}"]
    headers = {"X-Error-Code": code} if code else {}
    hub.refusals[f"/api/models/{MODEL}"] = (status, headers)
    message = refusal(MODEL, error)
    assert message.startswith(f"there is no file or folder {MODEL} here, and")
    assert problem in message and message.endswith(BY_HAND)


def test_gated_files_are_one_clear_line(hub):
    path = f"/{MODEL}/resolve/{COMMIT}/model.safetensors"
    del hub.files[path]
    hub.refusals[path] = (401, {"X-Error-Code": "GatedRepo"})
    assert "is restricted: ask for access there" in refusal(MODEL)


def test_a_name_the_hub_would_not_give_is_one_clear_line(hub):
    assert "does not exist" in refusal("owner/a--b", FileNotFoundError)


@pytest.mark.parametrize(
    ("absent", "problem"),
    [
        (["config.json"], "has no config.json"),
        (["model.safetensors", "pytorch_model.bin"], "neither model.safetensors nor pytorch_model"),
    ],
)
def test_a_model_without_its_files_is_one_clear_line(hub, absent, problem):
    for name in absent:
        put(hub, name, None)
    for _ in range(2):  # the cache remembers what is absent
        assert problem in refusal(MODEL, FileNotFoundError)


def test_a_mistyped_path_is_not_asked_of_the_hub(hub, tmp_path, monkeypatch):
    (tmp_path / "owner").mkdir()
    monkeypatch.chdir(tmp_path)
    message = refusal(MODEL, FileNotFoundError)
    assert f"no file or folder {MODEL}, though owner is a folder here" in message
    assert f"give {MODEL}@main" in message and hub.ranges == []
    assert fetch(f"{MODEL}@main") == hub.model / "snapshots" / COMMIT


@pytest.mark.parametrize("revision", ["", f"@{COMMIT}"])
def test_a_hub_that_is_gone_is_one_clear_line_at_once(hub, revision):
    stop(hub)
    message = refusal(MODEL + revision)
    assert "did not arrive ([Errno" in message and "check the network" in message
    assert message.endswith(BY_HAND) and hub.waits == []


@pytest.mark.parametrize("revision", ["", f"@{COMMIT}"])
def test_offline_a_model_that_is_not_all_in_the_cache_is_one_clear_line(hub, monkeypatch, revision):
    hub.breaks_off_at = 2_000_000
    refusal(MODEL)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    message = refusal(MODEL + revision, FileNotFoundError)
    assert "HF_HUB_OFFLINE" in message and str(hub.cache) in message and message.endswith(BY_HAND)


def test_a_cache_that_cannot_be_written_is_one_clear_line(hub):
    (hub.cache / ".locks").write_bytes(b"in the way")
    message = refusal(MODEL)
    assert f"cannot be written to {hub.cache}" in message and "HF_HUB_CACHE" in message


def test_a_full_disk_is_one_clear_line(hub, monkeypatch):
    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", full)
    assert f"cannot be written to {hub.cache} (No space left on device)" in refusal(MODEL)


@pytest.mark.parametrize(
    "error",
    [
        ssl.SSLError(1, "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed"),
        socket.gaierror(-2, "Name or service not known"),
        OSError(errno.ENETUNREACH, "Network is unreachable"),
    ],
)
def test_an_error_of_the_network_is_not_told_as_one_of_the_disk(hub, monkeypatch, error):
    def broken(*arguments, **options):
        raise error

    monkeypatch.setattr(huggingface_hub.HfApi, "resolve_revision", broken)
    message = refusal(MODEL)
    assert "did not arrive" in message and error.strerror in message
    assert "written" not in message


def test_without_huggingface_hub_a_hub_id_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, huggingface_hub.__name__, None)
    message = refusal(MODEL)
    assert "pip install huggingface_hub" in message and message.endswith(BY_HAND)


@pytest.mark.parametrize(
    "source",
    [
        "audioset",
        "/tmp/absent",
        "./owner/model",
        "a/b/c",
        "owner/model@",
        "o/m@../x",
        "",
        "model.pth",
    ],
)
def test_any_other_name_says_which_names_there_are(source):
    message = refusal(source, FileNotFoundError)
    assert f"no file or folder {source}" in message
    assert NAME in message and "owner/name" in message
