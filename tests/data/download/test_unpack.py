"""Archives are unpacked whole or not at all, whatever is in them."""

import copy
import gzip
import io
import tarfile
import tracemalloc
import zipfile
import zlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.download.unpack import extract_tar, extract_zip


def make_tar(*members: tuple[str, bytes] | tarfile.TarInfo) -> bytes:
    """An unpacked tar; a TarInfo stands for a member without content."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        for member in members:
            info = member if isinstance(member, tarfile.TarInfo) else tarfile.TarInfo(member[0])
            content = b"" if isinstance(member, tarfile.TarInfo) else member[1]
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


GOOD = make_tar(special("./", tarfile.DIRTYPE), ("./top/x.txt", b"x" * 700), ("./top/a/y", b"y"))


def unpack(tmp_path, content: bytes, **options):
    (tmp_path / "a.tar.gz").write_bytes(content)
    return extract_tar(tmp_path / "a.tar.gz", tmp_path / "out", **options)


def refusal(tmp_path, content: bytes, **options) -> str:
    """The message, after a look that nothing was left behind."""
    with pytest.raises(ValueError) as caught:
        unpack(tmp_path, content, **options)
    message = str(caught.value)
    assert "\n" not in message and str(tmp_path / "a.tar.gz") in message
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar.gz"]
    return message


def test_a_tar_is_unpacked_into_a_new_folder(tmp_path):
    folder = unpack(tmp_path, gzip.compress(GOOD))
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert files == {"top/x.txt", "top/a/y"}
    assert (folder / "top" / "x.txt").read_bytes() == b"x" * 700
    assert {path.name for path in tmp_path.iterdir()} == {"a.tar.gz", "out"}


def test_modes_of_the_archive_are_not_taken_over(tmp_path):
    info = special("program", tarfile.REGTYPE)
    info.mode = 0o6777
    assert (
        unpack(tmp_path, gzip.compress(make_tar(info))) / "program"
    ).stat().st_mode & 0o6111 == 0


@pytest.mark.parametrize(
    ("member", "problem"),
    [
        (("../evil", b""), "lies outside"),
        (("a/../../evil", b""), "lies outside"),
        (("/tmp/evil", b""), "lies outside"),
        (("..\\evil", b""), "lies outside"),
        (("C:\\evil", b""), "lies outside"),
        (special("../evil", tarfile.DIRTYPE), "lies outside"),
        (special("evil", tarfile.SYMTYPE, "/etc"), "is a link"),
        (special("evil", tarfile.LNKTYPE, "good"), "is a link"),
        (special("evil", tarfile.FIFOTYPE), "device"),
        (special("evil", tarfile.CHRTYPE), "device"),
        (("good", b"evil"), "occurs twice"),
        (("good/evil", b""), "occurs twice"),
        (("GOOD", b""), "is the same as 'good'"),
        (("evil/" * 33 + "x", b""), "deeper than 32"),
        (("evil/" * 2000 + "x", b""), "too long"),
        (("e" * 256, b""), "more than 255 bytes"),
        (("evil/nul.wav", b""), "none on every system"),
        (("evil?", b""), "none on every system"),
        (special("evil", tarfile.GNUTYPE_SPARSE), "sparse"),
    ],
)
def test_a_member_that_is_no_plain_file_inside_is_refused(tmp_path, member, problem):
    assert problem in refusal(tmp_path, gzip.compress(make_tar(("good", b"good"), member)))


def test_an_archive_over_the_bound_is_refused(tmp_path):
    content = gzip.compress(make_tar(("a", bytes(600_000)), ("b", bytes(400_001))))
    assert "at most 1.0 MB" in refusal(tmp_path, content, max_bytes=1_000_000)


@pytest.mark.parametrize("cut", [5, 50, -12, -1], ids=["header", "content", "end", "checksum"])
def test_a_cut_archive_leaves_nothing_behind(tmp_path, cut):
    message = refusal(tmp_path, gzip.compress(GOOD)[:cut])
    assert "not a sound tar.gz file" in message and "download it again" in message


def test_a_wrong_checksum_is_noticed(tmp_path):
    packed = bytearray(gzip.compress(GOOD, compresslevel=0))
    packed[packed.index(b"xxxx")] ^= 1
    assert "CRC" in refusal(tmp_path, bytes(packed))


def test_a_tar_that_is_cut_before_it_was_packed_is_noticed(tmp_path):
    assert "not a sound tar.gz" in refusal(tmp_path, gzip.compress(GOOD[:1300]))


@pytest.mark.parametrize(
    "content",
    [b"", b"<html>404</html>", gzip.compress(b"<html>" * 999, mtime=0)],  # one name in all workers
    ids=["nothing", "a page", "a packed page"],
)
def test_what_is_no_archive_is_refused(tmp_path, content):
    assert "not a sound tar.gz file" in refusal(tmp_path, content)


@given(
    position=st.integers(0, 2000),
    replacement=st.binary(min_size=1, max_size=12),
)
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_damaged_header_is_unpacked_or_refused_in_one_line(
    tmp_path_factory, position, replacement
):
    folder = tmp_path_factory.mktemp("damaged")
    damaged = GOOD[:position] + replacement + GOOD[position + len(replacement) :]
    try:
        unpack(folder, gzip.compress(damaged, compresslevel=1))
    except ValueError as error:
        assert "\n" not in str(error)


def header(size: int, kind: bytes) -> bytes:
    info = special("x", kind)
    info.size = size
    return info.tobuf(tarfile.GNU_FORMAT)


def followed_by_zeros(content: bytes, megabytes: int) -> bytes:
    packer = zlib.compressobj(wbits=31)
    zeros = (packer.compress(bytes(2**20)) for _ in range(megabytes))
    return packer.compress(content) + b"".join(zeros) + packer.flush()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (header(2**31, tarfile.GNUTYPE_LONGNAME), "headers of more than"),
        (header(2**31, tarfile.XHDTYPE), "headers of more than"),
        ((header(8, tarfile.GNUTYPE_LONGNAME) + b"x".ljust(512, b"\0")) * 1000, "recursion"),
        (header(2**62, tarfile.REGTYPE), "unpacks to"),
        (header(-1024, tarfile.REGTYPE), "leads back"),
        (GOOD, "something follows"),
    ],
    ids=["name", "pax header", "names of names", "file", "negative size", "rest"],
)
def test_sizes_that_a_header_claims_take_neither_memory_nor_time(
    tmp_path, content, reason, monkeypatch
):
    monkeypatch.setattr("data.download.unpack.MAX_SMALL", 2**22)
    monkeypatch.setattr("data.download.unpack.MAX_REST", 2**21)
    packed = followed_by_zeros(content, 12)
    tracemalloc.start()
    message = refusal(tmp_path, packed)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert reason in message
    assert peak < 8e6


def test_a_member_that_ends_nowhere_is_not_looked_for(tmp_path):
    for kind in (tarfile.REGTYPE, b"9"):
        refusal(tmp_path, gzip.compress(header(2**62, kind) + header(2**62, kind)))


def test_zeros_alone_may_follow_the_last_member(tmp_path):
    assert "something follows" in refusal(tmp_path, gzip.compress(GOOD + b"x"))
    assert unpack(tmp_path, gzip.compress(GOOD + bytes(100_000)))


def test_an_archive_of_nothing_but_names_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("data.download.unpack.MAX_FEW", 10)
    members = [(f"{number}", b"") for number in range(40)]
    assert "more than" in refusal(tmp_path, gzip.compress(make_tar(*members)))


def test_a_missing_archive(tmp_path):
    for extract in (extract_tar, extract_zip):
        with pytest.raises(FileNotFoundError, match=r"gone\.zip"):
            extract(tmp_path / "gone.zip", tmp_path / "out")


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


def unzip(tmp_path, content: bytes, **options):
    (tmp_path / "a.zip").write_bytes(content)
    return extract_zip(tmp_path / "a.zip", tmp_path / "out", **options)


def zip_refusal(tmp_path, content: bytes, **options) -> str:
    """The message, after a look that nothing was left behind."""
    with pytest.raises(ValueError) as caught:
        unzip(tmp_path, content, **options)
    message = str(caught.value)
    assert "\n" not in message and str(tmp_path / "a.zip") in message
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]
    return message


def test_a_zip_is_unpacked_into_a_new_folder(tmp_path):
    folder = unzip(tmp_path, make_zip(("top/x.txt", b"x"), ("top/sub/y.txt", b"y")))
    assert (folder / "top" / "x.txt").read_bytes() == b"x"
    assert (folder / "top" / "sub" / "y.txt").read_bytes() == b"y"
    assert {path.name for path in tmp_path.iterdir()} == {"a.zip", "out"}


@pytest.mark.parametrize(
    ("member", "problem"),
    [
        ("../evil.txt", "lies outside"),
        ("a/../../evil.txt", "lies outside"),
        ("/tmp/evil.txt", "lies outside"),
        ("..\\evil.txt", "lies outside"),
        ("C:\\evil.txt", "lies outside"),
        (link("evil"), "is a link"),
        ("GOOD.txt/evil", "is the same as 'good.txt'"),
        ("evil/" * 33 + "x", "deeper than 32"),
        ("evil" * 64, "more than 255 bytes"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_zip_with_a_member_that_leaves_the_folder_is_refused(tmp_path, member, problem):
    message = zip_refusal(tmp_path, make_zip(("good.txt", b"good"), (member, b"/etc/passwd")))
    assert problem in message and "evil" in message


def test_a_zip_over_the_bound_is_refused(tmp_path):
    message = zip_refusal(tmp_path, make_zip(("zeros", bytes(1_000_001))), max_bytes=1_000_000)
    assert "at most 1.0 MB" in message


def test_a_zip_with_a_zero_byte_in_a_name_is_refused(tmp_path):
    content = make_zip(("evil_.txt", b"")).replace(b"evil_", b"evil\0")
    assert "none on every system" in zip_refusal(tmp_path, content)


@pytest.mark.parametrize("bit", [0, 5, 6, 13])
def test_an_encrypted_member_is_refused(tmp_path, bit):
    content = bytearray(make_zip(("x", b"x" * 500)))
    content[content.rindex(b"PK\1\2") + 8 + bit // 8] |= 1 << bit % 8
    assert "member 'x' is" in zip_refusal(tmp_path, bytes(content))


def test_a_zip_whose_members_are_one_is_refused(tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("x", bytes(range(256)) * 100)
        for number in range(100):
            again = copy.copy(file.infolist()[0])
            again.filename = again.orig_filename = f"{number}"
            file.filelist.append(again)
    assert "overlap" in zip_refusal(tmp_path, buffer.getvalue())


def test_a_zip_is_held_to_a_hundred_times_its_size(tmp_path, monkeypatch):
    monkeypatch.setattr("data.download.unpack.MAX_SMALL", 0)
    assert "unpacks to" in zip_refusal(tmp_path, make_zip(("zeros", bytes(1_000_000))))


@pytest.mark.parametrize("cut", [100, -30, None], ids=["start", "end", "middle"])
def test_a_damaged_zip_leaves_nothing_behind(tmp_path, cut):
    content = make_zip(("first", b"first"), ("x", bytes(range(250)) * 20))
    message = zip_refusal(
        tmp_path, content[:cut] if cut else content.replace(content[150:160], bytes(10))
    )
    assert "not a sound zip file" in message and "download it again" in message


def test_a_folder_in_use_is_left_alone(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(ValueError, match="holds something else"):
        unzip(tmp_path, make_zip(("x", b"x")))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]
