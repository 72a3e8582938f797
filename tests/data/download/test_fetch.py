"""Downloads and archives, against a server on this machine that misbehaves as it is told to."""

import hashlib
import io
import zipfile

import pytest

from data.download.fetch import DownloadError, download, download_esc50, extract_zip

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


def test_a_whole_download_is_announced_and_lands_under_its_name(server, tmp_path, capsys):
    path = download(f"{server.address}/file", tmp_path / "new" / "file.bin", sha256=SHA256.upper())
    assert path == tmp_path / "new" / "file.bin" and path.read_bytes() == CONTENT
    assert names(path.parent) == ["file.bin"]
    announced = capsys.readouterr().err
    assert f"{server.address}/file (3.1 MB) to {path.parent}" in announced


def test_a_length_that_is_not_told_is_no_hindrance(server, tmp_path, capsys):
    server.tells_length = False
    assert download(f"{server.address}/file", tmp_path / "file").read_bytes() == CONTENT
    assert "of unknown size" in capsys.readouterr().err


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


def make_zip(*members: tuple[str | zipfile.ZipInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members:
            file.writestr(name, content)
    return buffer.getvalue()


def link(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = 0o120777 << 16
    return info


def test_a_zip_is_unpacked_into_a_new_folder(tmp_path):
    (tmp_path / "a.zip").write_bytes(make_zip(("top/x.txt", b"x"), ("top/sub/y.txt", b"y")))
    folder = extract_zip(tmp_path / "a.zip", tmp_path / "out")
    assert (folder / "top" / "x.txt").read_bytes() == b"x"
    assert (folder / "top" / "sub" / "y.txt").read_bytes() == b"y"
    assert names(tmp_path) == ["a.zip", "out"]


@pytest.mark.parametrize(
    ("member", "problem"),
    [
        ("../evil.txt", "lies outside"),
        ("a/../../evil.txt", "lies outside"),
        ("/tmp/evil.txt", "lies outside"),
        ("..\\evil.txt", "lies outside"),
        ("C:\\evil.txt", "lies outside"),
        (link("evil"), "is a link"),
    ],
    ids=str,
)
def test_a_member_that_leaves_the_folder_is_refused(tmp_path, member, problem):
    (tmp_path / "a.zip").write_bytes(make_zip(("good.txt", b"good"), (member, b"/etc/passwd")))
    message = refusal(extract_zip, tmp_path / "a.zip", tmp_path / "out")
    assert problem in message and "evil" in message
    assert names(tmp_path) == ["a.zip"]


def test_an_archive_over_the_bound_is_refused(tmp_path):
    (tmp_path / "a.zip").write_bytes(make_zip(("zeros", bytes(1_000_001))))
    message = refusal(extract_zip, tmp_path / "a.zip", tmp_path / "out", max_bytes=1_000_000)
    assert "at most 1.0 MB" in message
    assert names(tmp_path) == ["a.zip"]


@pytest.mark.parametrize("cut", [100, -30, None], ids=["start", "end", "middle"])
def test_a_damaged_archive_leaves_nothing_behind(tmp_path, cut):
    content = make_zip(("first", b"first"), ("x", CONTENT[:5000]))
    spoilt = content[:cut] if cut else content.replace(content[150:160], bytes(10))
    (tmp_path / "a.zip").write_bytes(spoilt)
    message = refusal(extract_zip, tmp_path / "a.zip", tmp_path / "out")
    assert "not a sound zip file" in message and "download it again" in message
    assert names(tmp_path) == ["a.zip"]


def test_a_folder_in_use_is_left_alone(tmp_path):
    (tmp_path / "a.zip").write_bytes(make_zip(("x", b"x")))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    assert "holds something else" in refusal(extract_zip, tmp_path / "a.zip", tmp_path / "out")
    assert names(tmp_path / "out") == ["mine"]


CSV = b"filename,fold,target,category,esc10\n1-1-A-0.wav,1,0,dog,True\n"


def test_esc50_is_fetched_unpacked_and_the_second_time_left_alone(server, tmp_path, capsys):
    server.files["/esc.zip"] = make_zip(
        ("ESC-50-master/meta/esc50.csv", CSV), ("ESC-50-master/audio/1-1-A-0.wav", b"RIFF")
    )
    for _ in range(2):
        folder = download_esc50(tmp_path / "esc50", url=f"{server.address}/esc.zip")
        assert folder == (tmp_path / "esc50").resolve()
        assert (folder / "meta" / "esc50.csv").read_bytes() == CSV
        assert (folder / "audio" / "1-1-A-0.wav").read_bytes() == b"RIFF"
        assert names(tmp_path) == ["esc50"]
    assert len(server.ranges) == 1
    assert "already: nothing to do" in capsys.readouterr().err


def test_an_archive_without_its_audio_does_not_become_the_data_set(server, tmp_path):
    server.files["/esc.zip"] = make_zip(("ESC-50-master/meta/esc50.csv", CSV))
    message = refusal(download_esc50, tmp_path / "esc50", url=f"{server.address}/esc.zip")
    assert "esc50.zip does not hold ESC-50" in message and "1-1-A-0.wav" in message
    assert names(tmp_path) == ["esc50.zip"]


def test_esc50_is_not_fetched_into_a_folder_in_use(server, tmp_path):
    (tmp_path / "mine").touch()
    message = refusal(download_esc50, tmp_path, url=f"{server.address}/file")
    assert "choose another" in message and server.ranges == []
