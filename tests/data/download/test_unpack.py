"""Archives are unpacked whole or not at all, whatever is in them."""

import gzip
import io
import tarfile
import zipfile

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
    ],
    ids=str,
)
def test_a_zip_with_a_member_that_leaves_the_folder_is_refused(tmp_path, member, problem):
    message = zip_refusal(tmp_path, make_zip(("good.txt", b"good"), (member, b"/etc/passwd")))
    assert problem in message and "evil" in message


def test_a_zip_over_the_bound_is_refused(tmp_path):
    message = zip_refusal(tmp_path, make_zip(("zeros", bytes(1_000_001))), max_bytes=1_000_000)
    assert "at most 1.0 MB" in message


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
