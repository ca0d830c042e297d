"""The zip archive around a PyTorch checkpoint: its members, checked before any is read.

`torch.save` writes a zip file whose members are stored as they are, not compressed. Its
directory is read here and not by `zipfile`, which takes one of any size and has its own
ways with doubled, overlapping or lying entries. Here they are refused: every member of
an open archive lies inside the file, apart from all others.
"""

import contextlib
import stat
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

MAX_FILE = 4 << 30  # bytes; beyond it zip files need 64-bit fields
MAX_DIRECTORY = 4 << 20  # bytes; 510 members of a real checkpoint take 36 kB
MAX_MEMBERS = 20_000

END = struct.Struct("<4s4H2LH")  # the end record: the last 22 bytes of the file
LOCATOR = struct.Struct("<4sLQL")  # before it: where the 64-bit end record is
END_64 = struct.Struct("<4sQ2H2L4Q")
ENTRY = struct.Struct("<4s4B4HL2L5H2L")  # of the directory; a name and extras follow
LOCAL = struct.Struct("<4s5HL2L2H")  # header before a member; a name and extras follow

ENCRYPTED = 0x1 | 0x40 | 0x2000  # flag bits
DOWNLOAD = "The file is damaged or its download is incomplete; download it again."
RESAVE = "Save it again with torch.save of PyTorch 1.6 or later."

OTHER_FORMATS = (  # how the file begins, what it is then
    (b"version https://git-lfs", "is a Git LFS pointer. Run `git lfs pull` for it"),
    (b"\x1f\x8b", "is a gzip archive. Unpack it first"),
    (b"BZh", "is a bzip2 archive. Unpack it first"),
    (b"\xfd7zXZ", "is an xz archive. Unpack it first"),
    (b"\x80", f"is a bare pickle, as PyTorch before 1.6 wrote them. {RESAVE[:-1]}"),
    (b"\x89HDF", "is an HDF5 file, not a PyTorch checkpoint"),
)
PAGES = (b"<!doctype", b"<html", b"<?xml", b"<head", b"<error")


@dataclass(frozen=True)
class Member:
    """One file of the archive."""

    start: int  # of its bytes in the archive
    size: int  # bytes
    crc: int  # CRC-32 of the bytes


@dataclass(frozen=True)
class Archive:
    """An open archive, valid until its `open_archive` ends."""

    file: BinaryIO
    members: dict[str, Member]

    def read(self, name: str) -> bytes:
        """Returns the bytes of a member.

        Raises:
            ValueError: they do not fit the member's checksum.
        """
        member = self.members[name]
        data = _read(self.file, member.start, member.size)
        if zlib.crc32(data) != member.crc:
            raise ValueError(f"member {name} does not fit its checksum. {DOWNLOAD}")
        return data


@contextlib.contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """Opens a zip file of stored members.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is something else, is damaged or breaks a limit.
    """
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise ValueError("is a folder. Name the .pt file itself.")
    if not stat.S_ISREG(mode):  # a pipe would block, a device never end
        raise ValueError("is not a regular file. Name a .pt file.")
    with open(path, "rb") as file:
        size = file.seek(0, 2)
        _refuse_other_formats(_read(file, 0, min(size, 512)), size)
        start, length, count = _directory(file, size)
        entries = _entries(_read(file, start, length), count)
        yield Archive(file, _members(file, entries, start))


def _read(file: BinaryIO, start: int, size: int) -> bytes:
    """Returns bytes of the file, which was longer than that a moment ago."""
    file.seek(start)
    data = file.read(size)
    if len(data) != size:
        raise ValueError("became shorter while it was read. Start again.")
    return data


def _refuse_other_formats(head: bytes, size: int) -> None:
    """Says what the file is, if it is not a zip file of bearable size."""
    if size == 0:
        raise ValueError("is empty. Download or copy it again.")
    if size > MAX_FILE:
        raise ValueError(f"has {size} bytes, at most {MAX_FILE} are read.")
    for magic, what in OTHER_FORMATS:
        if head.startswith(magic):
            raise ValueError(f"{what}.")
    if head[257:262] == b"ustar":
        raise ValueError("is a tar archive. Unpack it first.")
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(PAGES):
        raise ValueError("is a web page, so its download failed. Download it again.")
    if not head.startswith(b"PK\x03\x04"):
        raise ValueError(
            f"is no zip file, as PyTorch checkpoints are: it begins with {head[:8]!r}."
            " Name a .pt file written by torch.save of PyTorch 1.6 or later."
        )


def _directory(file: BinaryIO, size: int) -> tuple[int, int, int]:
    """Returns start and length in bytes of the directory and its number of entries."""
    missing = f"has no zip directory at its end. {DOWNLOAD}"
    if size < END.size:
        raise ValueError(missing)
    magic, disk, first, here, count, length, start, note = END.unpack(
        _read(file, size - END.size, END.size)
    )
    if magic != b"PK\x05\x06" or note:  # PyTorch writes no comment after it
        raise ValueError(missing)
    if length > MAX_DIRECTORY or count > MAX_MEMBERS:
        raise ValueError(
            f"has a zip directory of {length} bytes and {count} members; at most"
            f" {MAX_DIRECTORY} bytes and {MAX_MEMBERS} members are read."
        )
    end = _end_64(file, size - END.size, (count, length, start))
    if disk or first or here != count or start + length != end:
        raise ValueError(f"has a zip directory that contradicts itself. {DOWNLOAD}")
    return start, length, count


def _end_64(file: BinaryIO, end: int, expected: tuple[int, int, int]) -> int:
    """Returns where the end records begin; a 64-bit one must say the same."""
    if end < LOCATOR.size:
        return end
    magic, disk, place, disks = LOCATOR.unpack(
        _read(file, end - LOCATOR.size, LOCATOR.size)
    )
    if magic != b"PK\x06\x07":
        return end
    contradiction = f"has two zip directories that differ. {DOWNLOAD}"
    if disk or disks != 1 or place + END_64.size != end - LOCATOR.size:
        raise ValueError(contradiction)
    magic, _, _, _, disk, first, here, *found = END_64.unpack(
        _read(file, place, END_64.size)
    )
    if magic != b"PK\x06\x06" or disk or first or here != expected[0]:
        raise ValueError(contradiction)
    if tuple(found) != expected:
        raise ValueError(contradiction)
    return place


def _entries(data: bytes, count: int) -> list[tuple[bytes, int, Member]]:
    """Returns (name, position of the local header, member) of each directory entry.

    `start` of these members is not known yet: it is behind the local header.
    """
    entries = []
    position = 0
    for _ in range(count):
        if position + ENTRY.size > len(data):
            raise ValueError(f"has a zip directory that is cut off. {DOWNLOAD}")
        fields = ENTRY.unpack_from(data, position)
        flags, method, crc = fields[5], fields[6], fields[9]
        packed, size, name_length, extra, note, disk = fields[10:16]
        header = fields[-1]
        position += ENTRY.size
        name = data[position : position + name_length]
        position += name_length + extra + note
        if fields[0] != b"PK\x01\x02" or disk or position > len(data):
            raise ValueError(f"has a zip directory that is damaged. {DOWNLOAD}")
        if flags & ENCRYPTED:
            raise ValueError(f"member {_show(name)} is encrypted. {RESAVE}")
        if method or packed != size:
            raise ValueError(
                f"member {_show(name)} is compressed, as in programs of torch.jit and"
                f" in zip files of other makers. {RESAVE}"
            )
        entries.append((name, header, Member(0, size, crc)))
    if position != len(data):
        raise ValueError(f"has a zip directory with bytes left over. {DOWNLOAD}")
    return entries


def _members(
    file: BinaryIO, entries: list[tuple[bytes, int, Member]], end: int
) -> dict[str, Member]:
    """Returns the members by name; they lie one behind the other, before `end`."""
    members: dict[str, Member] = {}
    last = 0  # where the previous member ended
    for raw, header, entry in sorted(entries, key=lambda item: item[1]):
        name = _name(raw)
        if name in members:
            raise ValueError(f"has two members named {_show(raw)}. Do not use it.")
        if header < last or header + LOCAL.size + len(raw) > end:
            raise ValueError(f"member {_show(raw)} overlaps another part. {DOWNLOAD}")
        local = _read(file, header, LOCAL.size + len(raw))
        fields = LOCAL.unpack_from(local)
        flags, method, length, extra = fields[2], fields[3], *fields[-2:]
        same = length == len(raw) and local.endswith(raw)
        if fields[0] != b"PK\x03\x04" or not same or method or flags & ENCRYPTED:
            raise ValueError(
                f"member {_show(raw)} is not what the zip directory says. {DOWNLOAD}"
            )
        start = header + LOCAL.size + length + extra
        last = start + entry.size
        if last > end:
            raise ValueError(f"member {_show(raw)} overlaps another part. {DOWNLOAD}")
        members[name] = Member(start, entry.size, entry.crc)
    return members


def _name(raw: bytes) -> str:
    """Returns a member's name; it must be a plain relative path."""
    try:
        name = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"member name {_show(raw)} is not UTF-8.") from error
    parts = name.removesuffix("/").split("/")
    if {"", ".", ".."} & set(parts) or any(c in name for c in "\\:\0"):
        raise ValueError(
            f"member name {_show(raw)} is not a plain relative path, so no PyTorch"
            " wrote this file. Do not use it."
        )
    return name


def _show(raw: bytes) -> str:
    """Returns a name that is safe to print."""
    return ascii(raw[:80].decode("utf-8", "replace"))
