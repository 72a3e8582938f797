"""Archives: zip and tar.gz, unpacked into a folder whole or not at all."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random

from data.download.unpack import MAX_SMALL, extract_tar, extract_zip
from tests.campaign.case import InputClass
from tests.campaign.mutations import NUMBERS, damaged, packed

ZIP, TAR, OUT = "sounds.zip", "sounds.tar.gz", "out"
LARGE = 2**20  # bytes of a file
FILES = {f"sounds/{n}.wav": bytes(range(256)) * 8 for n in range(3)} | {"README": b"read me\n"}
NAMES = (
    *("../x", "sounds/../../x", "/tmp/x", "C:\\x", "\\\\host\\x", "a\\..\\..\\x", "x\x00y", "a\nb"),
    *("CON", "a.", "a ", "", ".", "/", "README", "readme", "README/x", "sounds", "\udcff.wav", "é"),
    *(
        "e\u0301",
        "x" * 300,
        "x/" * 2000 + "x",
        "d/" * 40 + "x",
        "a:b",
        "~/x",
        "\x1b[2J",
        "x" * 70_000,
    ),
)
TYPES = [bytes([letter]) for letter in b"1234567SLKxgXVZ\0"]
PAX = ("path", "size", "linkpath", "mtime", "hdrcharset", "GNU.sparse.size", "GNU.sparse.map")
PAX += ("GNU.sparse.major", "GNU.sparse.realsize", "GNU.sparse.name", "uid")
VALUES = (
    "-1",
    "0",
    "1e308",
    "2147483648",
    "9" * 4000,
    "nan",
    "../x",
    "",
    "BINARY",
    "0,1",
    "x" * 90_000,
)
SIZES = (0, 1, 511, 2**21, 2**31, 2**33, 8**11 - 1)
LOCAL, CENTRAL, END = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"


def make(folder: Path) -> None:
    """A zip and a tar.gz of the same files; a case has one of them."""
    with zipfile.ZipFile(folder / ZIP, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in FILES.items():
            file.writestr(name, content)
    write_tar(folder, [member(name, content) for name, content in FILES.items()])


Member = tuple[tarfile.TarInfo, bytes]


def member(name: str, content: bytes = b"", **fields: object) -> Member:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def write_tar(folder: Path, members: list[Member], form: int = tarfile.PAX_FORMAT) -> None:
    """Members as they are, whatever their headers say."""
    parts = []
    for info, content in members:
        header = info.tobuf(form, errors="surrogateescape")
        parts += [header, content, bytes(-len(content) % 512)]
    (folder / TAR).write_bytes(gzip.compress(b"".join(parts) + bytes(1024), 1))


def only(folder: Path, kept: str) -> Path:
    """The archive of the case, without the other one."""
    if not (folder / kept).exists():  # another mutator removed it
        make(folder)
    (folder / (TAR if kept == ZIP else ZIP)).unlink(missing_ok=True)
    return folder / kept


def the_only(folder: Path, random: Random) -> Path:
    return only(folder, random.choice((ZIP, TAR)))


def any_bytes(folder: Path, random: Random) -> None:
    file = the_only(folder, random)
    file.write_bytes(damaged(file.read_bytes(), random))


def tar_bytes(folder: Path, random: Random) -> None:
    """Damage within the gzip, often of a header whose checksum is then made right."""
    file = only(folder, TAR)
    if file.stat().st_size > LARGE:
        return  # a bomb, as it is
    try:
        content = gzip.decompress(file.read_bytes())
    except (OSError, EOFError, ValueError):
        return
    if random.random() < 0.5:
        content = damaged(content, random)
    else:
        start = 512 * random.randrange(max(1, len(content) // 512))
        header = bytearray(damaged(content[start : start + 512], random)[:512].ljust(512, b"\0"))
        content = content[:start] + with_checksum(header) + content[start + 512 :]
    file.write_bytes(gzip.compress(content, 1))


def with_checksum(header: bytearray) -> bytes:
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def tar_member(folder: Path, random: Random) -> None:
    """A member more: a name that leads out, a link, a device, a size that is not its own."""
    only(folder, TAR)
    info, content = member(random.choice(NAMES), b"x" * random.choice((0, 1, 600)))
    info.type = random.choice((tarfile.REGTYPE, random.choice(TYPES)))
    info.linkname = random.choice(("", "../../x", "/etc/passwd", "README", "sounds"))
    info.size = random.choice((info.size, info.size, random.choice(SIZES)))
    info.mode, info.uid = random.choice((0o644, 0o6777, 0)), random.choice((0, 2**31))
    members = [member(name, content) for name, content in FILES.items()]
    members.insert(random.randrange(len(members) + 1), (info, content))
    if random.random() < 0.3:
        members += [(info, content)] * random.choice((1, 3))
    write_tar(folder, members, random.choice((tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)))


def tar_size(folder: Path, random: Random) -> None:
    """A header that says gigabytes, in octal or in base 256, also negative."""
    only(folder, TAR)
    info, content = member("a.wav", b"x" * random.choice((0, 600, 2**21)))
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    octal = f"{random.choice(SIZES):011o}\0".encode()
    binary = random.choice((b"\x80", b"\xff")) + random.choice(NUMBERS).to_bytes(11, "big")
    header[124:136] = random.choice((octal, binary, b"-1".ljust(12, b"\0"), b"\0" * 12))
    header[156:157] = random.choice((b"0", b"L", b"K", b"x", b"g", b"S", b"5"))
    rest = content + bytes(-len(content) % 512) + bytes(random.choice((0, 512, 1024)))
    (folder / TAR).write_bytes(gzip.compress(with_checksum(header) + rest, 1))


def tar_pax(folder: Path, random: Random) -> None:
    """Extended headers with other paths, sizes and sparse maps."""
    only(folder, TAR)
    info, content = member("a.wav", b"x" * 600)
    info.pax_headers = {
        random.choice(PAX): random.choice(VALUES) for _ in range(random.choice((1, 3)))
    }
    members = [(info, content)] + [member(name, data) for name, data in FILES.items()]
    write_tar(folder, members)


def bomb(folder: Path, random: Random) -> None:
    """Zeros without end: within a member, after the last, or as members without number."""
    if random.random() < 0.3:
        only(folder, ZIP)
        with zipfile.ZipFile(folder / ZIP, "w", zipfile.ZIP_DEFLATED) as file:
            for n in range(random.choice((1, 3))):
                file.writestr(f"{n}.wav", bytes(MAX_SMALL // 2 + 1))
        return
    only(folder, TAR)
    kind, packed_file = random.randrange(3), io.BytesIO()
    with gzip.GzipFile(fileobj=packed_file, mode="wb", compresslevel=1) as file:
        if kind == 0:
            file.write(member("a.wav", size=2 * MAX_SMALL)[0].tobuf())
        elif kind == 1:
            file.write(member("a")[0].tobuf() * 30_000)
        for _ in range(2 * MAX_SMALL >> 20):
            file.write(bytes(1 << 20))
    (folder / TAR).write_bytes(packed_file.getvalue() * random.choice((1, 20)))


def zip_field(folder: Path, random: Random) -> None:
    """A number in one header of a zip, or the same one in all of a kind: flags, method, sizes."""
    file = only(folder, ZIP)
    content = file.read_bytes()
    magic, most = random.choice(((LOCAL, 30), (CENTRAL, 46), (CENTRAL, 46), (END, 22)))
    offset, form = random.randrange(4, most), random.choice(("<H", "<I", "B"))
    starts = [n for n in range(len(content)) if content.startswith(magic, n)]
    for start in starts if random.random() < 0.4 else random.sample(starts, min(1, len(starts))):
        content = packed(form, content, start + offset, random)
    file.write_bytes(content)


def zip_flags(folder: Path, random: Random) -> None:
    """Flag bits and methods, alike in the local and the central header."""
    file = only(folder, ZIP)
    content, flags = bytearray(file.read_bytes()), 1 << random.randrange(16)
    method = random.choice((8, 8, 0, 1, 9, 12, 14, 93, 99))
    for magic, offset in ((LOCAL, 6), (CENTRAL, 8)):
        for start in [n for n in range(len(content) - 12) if content.startswith(magic, n)]:
            struct.pack_into("<HH", content, start + offset, flags, method)
    file.write_bytes(content)


def zip_member(folder: Path, random: Random) -> None:
    """A member more: a name that leads out, a link, a folder, one that is there."""
    file = only(folder, ZIP)
    with zipfile.ZipFile(
        file, "w", random.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA))
    ) as opened:
        info = zipfile.ZipInfo(random.choice(NAMES).encode(errors="replace").decode()[:60_000])
        info.external_attr = random.choice((0o120777, 0o020666, 0o040755, 0o100644, 0)) << 16
        info.extra = random.choice((b"", struct.pack("<HHQQ", 1, 16, 2**40, 2**40), b"\x01\0\xff"))
        opened.writestr("README", b"x")
        opened.writestr(info, b"../../x")
        opened.comment = b"x" * random.choice((0, 65_535))


def read(folder: Path) -> None:
    """Unpack; then there is the whole of it, or nothing but the archive."""
    extract: dict[str, Callable[[Path, Path], Path]] = {ZIP: extract_zip, TAR: extract_tar}
    archive = next(path for path in sorted(folder.iterdir()) if path.name in extract)
    try:
        extract[archive.name](archive, folder / OUT)
    except (ValueError, OSError):
        names = {path.name for path in folder.iterdir()} - {archive.name}
        assert not names, f"left behind: {names}"
        raise
    for path in (folder / OUT).rglob("*"):
        assert path.is_file() or path.is_dir(), f"{path} is no plain file"
        assert not path.is_symlink(), f"{path} is a link"


ARCHIVES = InputClass(
    "archives",
    make,
    (
        *(
            any_bytes,
            any_bytes,
            tar_bytes,
            tar_bytes,
            tar_member,
            tar_member,
            tar_size,
            tar_pax,
            bomb,
        ),
        *(zip_field, zip_field, zip_flags, zip_member),
    ),
    read,
)
