"""Downloads, against a server on this machine that misbehaves as it is told to."""

import hashlib
import http.client
import logging
import ssl

import pytest

from data.download.fetch import DownloadError, download

CONTENT = bytes(range(256)) * 12_000  # three blocks
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server(server):
    server.files["/file"] = CONTENT
    return server


def refusal(function, *arguments, error=ValueError, **options) -> str:
    with pytest.raises(error) as caught:
        function(*arguments, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_whole_download_is_announced_and_lands_under_its_name(server, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    path = download(f"{server.address}/file", tmp_path / "new" / "file.bin", sha256=SHA256.upper())
    assert path == tmp_path / "new" / "file.bin" and path.read_bytes() == CONTENT
    assert names(path.parent) == ["file.bin"]
    assert f"{server.address}/file (3.1 MB) to {path.parent}" in caplog.text


def test_a_length_that_is_not_told_is_no_hindrance(server, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    server.tells_length = False
    assert download(f"{server.address}/file", tmp_path / "file").read_bytes() == CONTENT
    assert "of unknown size" in caplog.text


def test_a_file_that_is_there_is_not_fetched_again(server, tmp_path):
    (tmp_path / "file").write_bytes(CONTENT)
    assert download(f"{server.address}/file", tmp_path / "file", SHA256) == tmp_path / "file"
    assert server.ranges == []


def test_a_truncated_body_is_an_error_and_what_arrived_is_kept_and_resumed(server, tmp_path):
    server.breaks_off_at = 2_000_000
    message = refusal(download, f"{server.address}/file", tmp_path / "f", error=DownloadError)
    assert "2.0 MB of 3.1 MB arrived" in message and "run this again to go on" in message
    assert f"save it as {tmp_path / 'f'}" in message
    assert names(tmp_path) == ["f.part"]

    server.breaks_off_at = None
    assert download(f"{server.address}/file", tmp_path / "f", SHA256).read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=2000000-"]
    assert names(tmp_path) == ["f"]


def test_an_encrypted_connection_that_fails_midway_is_told_as_broken_off(
    server, tmp_path, monkeypatch
):
    def fail(response, size):
        raise ssl.SSLError(1, "[SSL] record layer failure")

    monkeypatch.setattr(http.client.HTTPResponse, "read", fail)
    message = refusal(download, f"{server.address}/file", tmp_path / "f", error=DownloadError)
    assert "broke off" in message and "run this again to go on" in message


def test_a_server_that_ignores_the_range_sends_everything_anew(server, tmp_path):
    server.knows_ranges = False
    (tmp_path / "f.part").write_bytes(b"x" * 1000)
    assert download(f"{server.address}/file", tmp_path / "f").read_bytes() == CONTENT
    assert server.ranges == ["bytes=1000-"]


def test_a_part_that_is_complete_needs_only_its_name(server, tmp_path):
    (tmp_path / "f.part").write_bytes(CONTENT)
    assert download(f"{server.address}/file", tmp_path / "f", SHA256).read_bytes() == CONTENT


def test_a_part_longer_than_the_file_is_fetched_anew(server, tmp_path):
    (tmp_path / "f.part").write_bytes(CONTENT + b"more")
    assert download(f"{server.address}/file", tmp_path / "f").read_bytes() == CONTENT
    assert server.ranges == [f"bytes={len(CONTENT) + 4}-", None]


def test_a_range_that_was_not_asked_for_is_not_stitched_in(server, tmp_path):
    server.range_shift = 5
    (tmp_path / "f.part").write_bytes(CONTENT[:1000])
    message = refusal(download, f"{server.address}/file", tmp_path / "f", error=DownloadError)
    assert "the bytes from 1005, not from 1000" in message
    assert (tmp_path / "f.part").read_bytes() == CONTENT[:1000]


def test_a_wrong_hash_is_an_error_that_leaves_nothing(server, tmp_path):
    message = refusal(
        download, f"{server.address}/file", tmp_path / "f", sha256="0" * 64, error=DownloadError
    )
    assert SHA256 in message and "0" * 64 in message
    assert names(tmp_path) == []


def test_a_wrong_hash_of_a_file_that_is_there_leaves_it(server, tmp_path):
    (tmp_path / "f").write_bytes(b"mine")
    message = refusal(download, f"{server.address}/file", tmp_path / "f", sha256=SHA256)
    assert "delete it" in message and (tmp_path / "f").read_bytes() == b"mine"


def test_not_found_names_the_address_and_the_way_by_hand(server, tmp_path):
    url = f"{server.address}/absent"
    message = refusal(download, url, tmp_path / "f", error=DownloadError)
    assert f"{url} was refused (404 Not Found)" in message
    assert f"fetch {url} by hand and save it as {tmp_path / 'f'}" in message
    assert names(tmp_path) == []


def test_a_server_that_is_gone_is_one_clear_line(server, tmp_path):
    server.shutdown()
    server.server_close()
    message = refusal(download, f"{server.address}/file", tmp_path / "f", error=DownloadError)
    assert "cannot be reached" in message and "check the network" in message


def test_a_full_disk_is_one_clear_line(server, tmp_path):
    (tmp_path / "f.part").symlink_to("/dev/full")
    message = refusal(download, f"{server.address}/file", tmp_path / "f", error=DownloadError)
    assert f"the disk of {tmp_path} is full: make room" in message


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/x", "x"])
def test_only_http_is_fetched(tmp_path, url):
    assert "expected an http or https address" in refusal(download, url, tmp_path / "f")
