"""Opening a file of ads that may be packed, without trusting what it says of itself."""

from __future__ import annotations

import contextlib
import gzip
import io
import shutil
import stat
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO

from demand.errors import AdsBombError, AdsFileError

# Kaggle's train.csv unpacks to 4 times its zip. Deflate cannot exceed 1032; above 200 a
# text is one line repeated. Small files may be that (a test of equal rows), bombs are not.
RATIO_MAX = 200
RATIO_FREE_BYTES = 32_000_000

_ZIP, _ZIP_EMPTY, _GZIP, _PARQUET = b"PK\x03\x04", b"PK\x05\x06", b"\x1f\x8b", b"PAR1"
# Only these are unpacked a bounded part at a time; of zipfile's other two a kilobyte may
# come out as gigabytes at once.
_METHODS_READ = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# From 4.4.5 of PKWARE's APPNOTE.
_METHODS = {1: "Shrink", 6: "Implode", 9: "Deflate64", 12: "bzip2", 14: "LZMA"}
_METHODS |= {93: "Zstandard", 95: "xz", 97: "WavPack", 98: "PPMd"}
_ENCRYPTED, _AES = 1, 99
_HEAD_BYTES = 512
_TAR_MARK = slice(257, 262)
_ARCHIVE_SUFFIXES = (".zip", ".gz", ".tgz", ".tar", ".7z", ".rar", ".bz2", ".xz", ".zst")
_OTHER_FORMATS: tuple[tuple[bytes, str, str], ...] = (
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it first"),
    (b"Rar!", "a RAR archive", "unpack it first"),
    (b"BZh", "a bzip2 archive", "unpack it first"),
    (b"\xfd7zXZ", "an xz archive", "unpack it first"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive", "unpack it first"),
    (b"\x04\x22\x4d\x18", "an LZ4 archive", "unpack it first"),
    (b"\x1f\x9d", "a compress (.Z) archive", "unpack it first"),
    (b"PK\x07\x08", "one part of a zip of several", "put the parts together and unpack them"),
    (b"ARROW1", "an Arrow (Feather) file", "save it as Parquet"),
    (b"ORC", "an ORC file", "save it as Parquet"),
    (b"Obj\x01", "an Avro file", "save it as Parquet"),
    (b"SQLite format 3\0", "an SQLite database", "export the table of ads as CSV"),
    (b"\xd0\xcf\x11\xe0", "an Excel workbook", "save it as CSV UTF-8 (comma delimited)"),
    (b"\xff\xfe", "UTF-16 text", "convert it: iconv -f UTF-16 -t UTF-8 FILE > FILE.utf8.csv"),
    (b"\xfe\xff", "UTF-16 text", "convert it: iconv -f UTF-16 -t UTF-8 FILE > FILE.utf8.csv"),
)
_DAMAGE = (EOFError, zlib.error, zipfile.BadZipFile, gzip.BadGzipFile, struct.error, ValueError)


@dataclass(frozen=True)
class OpenedAds:
    """The unpacked bytes of a file of ads."""

    stream: io.BufferedReader[Any]
    name: str  # for messages
    unpacked_name: str  # what the file is called outside its archive
    is_parquet: bool
    packed_bytes: int  # what it takes as it lies there
    position: Callable[[], int] = int  # how many of those have been read


class _Limited(io.RawIOBase):
    """A stream that counts what it unpacks and stops before a limit is passed."""

    def __init__(
        self, inner: IO[bytes] | gzip.GzipFile, name: str, packed: int, max_bytes: int
    ) -> None:
        refuse_size(f"{name} holds", packed, max_bytes)
        self._inner, self._name = inner, name
        self._packed, self._max_bytes, self._count = packed, max_bytes, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        try:
            data = self._inner.read(len(buffer))
        except _DAMAGE as error:
            # It begins as one; so says gzip of a second member that is none.
            if str(error).startswith("Not a gzipped file"):
                raise AdsFileError(
                    f"{self._name} has other bytes behind its packed ads, or was written to "
                    "twice: unpack it with gunzip, look at what comes out, and give that file"
                ) from error
            raise _damaged(self._name, error) from error
        self._count += len(data)
        refuse_bomb(self._name, self._count, self._packed, self._max_bytes)
        buffer[: len(data)] = data
        return len(data)


@contextlib.contextmanager
def open_ads(path: Path, max_bytes: int) -> Iterator[OpenedAds]:
    """Open a CSV or Parquet file, plain or inside a zip or gz, as a stream of its bytes.

    What a file is, its first bytes say, not its name. Nothing is unpacked to memory as
    a whole; a packed Parquet file is unpacked to a temporary file that has no name. No more
    than ``max_bytes`` may come out, packed or not.

    Raises
    ------
    AdsFileError
        There is no such file, or it is a directory, unreadable, empty, larger than
        ``max_bytes``, in another format, a damaged or encrypted archive, an archive
        inside an archive, a zip without exactly one CSV or Parquet file, or a bomb.
    """
    try:
        size = _regular_file_size(path)
        with contextlib.ExitStack() as stack:
            file: Any = stack.enter_context(path.open("rb"))
            head = file.read(4)
            file.seek(0)
            inner: IO[bytes] | gzip.GzipFile = file
            name, packed, unpacked_name, position = str(path), size, str(path), file.tell
            if head in (_ZIP, _ZIP_EMPTY):
                name, inner, packed, unpacked_name = _open_zip(path, file, size, max_bytes, stack)
            elif head.startswith(_GZIP):
                # The length at a gz's end is modulo 4 GiB, and any four bytes where the file is
                # cut: only what really comes out counts, and it is counted before it is used.
                inner = gzip.GzipFile(fileobj=file)
                unpacked_name = path.stem
            limited = io.BufferedReader(_Limited(inner, name, packed, max_bytes), 1 << 18)
            is_parquet = _is_parquet(limited, name)
            if is_parquet:  # which is read from its end
                if inner is not file:
                    file = stack.enter_context(tempfile.TemporaryFile())
                    shutil.copyfileobj(limited, file)
                file.seek(0)
            stream = file if is_parquet else limited
            yield OpenedAds(stream, name, unpacked_name, is_parquet, packed, position)
    except FileNotFoundError:
        raise AdsFileError(f"there is no file {path}: check the path given by --data") from None
    except PermissionError as error:
        raise AdsFileError(
            f"cannot read {path}: permission denied; chmod u+r it, or its folder u+x"
        ) from error
    except OSError as error:
        raise AdsFileError(f"cannot read {path}: {error.strerror or error}") from error


def _regular_file_size(path: Path) -> int:
    """Return the size in bytes of what must be a regular file that is not empty."""
    try:
        status = path.stat()
    except ValueError as error:  # of a NUL byte in its name
        raise AdsFileError(f"cannot read {path}: {error}") from error
    if stat.S_ISDIR(status.st_mode):
        raise AdsFileError(f"{path} is a directory: name the file of ads in it")
    if not stat.S_ISREG(status.st_mode):
        raise AdsFileError(f"{path} is no regular file: save the ads to a file first")
    if status.st_size == 0:
        raise AdsFileError(f"{path} is empty: it has no header and no ads; download it again")
    return status.st_size


def refuse_size(told: str, size: int, max_bytes: int) -> None:
    """Refuse more bytes than are allowed; ``told`` names the file, and ends in a verb."""
    if size > max_bytes:
        raise AdsBombError(
            f"{told} {size / 1e9:.3g} GB, more than the {max_bytes / 1e9:.3g} GB allowed",
            "raise data.max_file_gb in the config if you trust it",
        )


def refuse_bomb(name: str, unpacked: int, packed: int, max_bytes: int) -> None:
    """Refuse what unpacks to too much, or to far more than any table of ads would."""
    refuse_size(f"{name} holds", unpacked, max_bytes)
    if unpacked > RATIO_FREE_BYTES and unpacked > RATIO_MAX * packed:
        raise AdsBombError(
            f"{name} looks like a decompression bomb: {packed} bytes unpack to {unpacked} or "
            f"more, over {RATIO_MAX} times as much",
            "if you trust it, unpack it yourself, or save it as plain CSV",
        )


def _damaged(name: str, error: Exception) -> AdsFileError:
    return AdsFileError(
        f"{name} is a truncated or damaged archive ({error}): download or pack it again"
    )


def _open_zip(
    path: Path, file: BinaryIO, size: int, max_bytes: int, stack: contextlib.ExitStack
) -> tuple[str, IO[bytes], int, str]:
    """Return the name for messages of the one member, its stream, packed size and own name."""
    try:
        archive = stack.enter_context(zipfile.ZipFile(file))
        member = _only_member(path, archive)
        name = f"{path} ({member.filename})"
        # The packed size too is only what the archive says of itself.
        packed = max(1, min(member.compress_size, size))
        refuse_bomb(name, member.file_size, packed, max_bytes)
        if member.flag_bits & _ENCRYPTED or member.compress_type == _AES:
            raise AdsFileError(f"{name} is encrypted: unpack it first, with its password")
        if member.compress_type not in _METHODS_READ:
            method = _METHODS.get(member.compress_type, f"method {member.compress_type}")
            raise AdsFileError(
                f"{name} is packed with {method}, which is not read here: unpack it first, or "
                "pack it anew with Deflate, as zip does"
            )
        inner = stack.enter_context(archive.open(member))
    except NotImplementedError as error:
        raise AdsFileError(
            f"{path} uses a feature of zip that is not read here ({error}): unpack it first"
        ) from error
    except _DAMAGE as error:
        if "multiple disks" in str(error):
            raise AdsFileError(
                f"{path} is one part of a zip of several: put the parts together and unpack them"
            ) from error
        raise _damaged(str(path), error) from error
    return name, inner, packed, member.filename


def _only_member(path: Path, archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    """Return the one CSV or Parquet file of a zip; macOS's resource files are no files."""
    members = [
        member
        for member in archive.infolist()
        if not member.is_dir()
        and not member.filename.startswith("__MACOSX/")
        and not Path(member.filename).name.startswith(".")
    ]
    tables = [m for m in members if m.filename.lower().endswith((".csv", ".parquet"))]
    if len(tables) == 1:
        return tables[0]
    if tables:
        names = ", ".join(m.filename for m in tables[:5])
        raise AdsFileError(
            f"{path} holds {len(tables)} tables ({names}): unpack it and name the one with the ads"
        )
    if any(m.filename.lower().endswith(_ARCHIVE_SUFFIXES) for m in members):
        raise AdsFileError(f"{path} is an archive inside an archive: unpack the outer one first")
    if any(m.filename == "xl/workbook.xml" for m in members):
        raise AdsFileError(f"{path} is an Excel workbook: save it as CSV UTF-8 (comma delimited)")
    raise AdsFileError(f"{path} holds no .csv and no .parquet file: pack the table of ads itself")


def _is_parquet(stream: io.BufferedReader[Any], name: str) -> bool:
    """Tell CSV from Parquet by the first bytes, and refuse what is neither."""
    head = stream.peek(_HEAD_BYTES)[:_HEAD_BYTES]
    if not head:
        raise AdsFileError(f"{name} is empty: it has no header and no ads; download it again")
    if head.startswith((_ZIP, _ZIP_EMPTY, _GZIP)):
        raise AdsFileError(f"{name} is an archive inside an archive: unpack the outer one first")
    for magic, what, way_out in _OTHER_FORMATS:
        if head.startswith(magic):
            raise AdsFileError(f"{name} is {what}, not CSV or Parquet: {way_out}")
    if head[_TAR_MARK] == b"ustar":
        raise AdsFileError(f"{name} is a tar archive, not CSV or Parquet: unpack it first")
    return head.startswith(_PARQUET)
