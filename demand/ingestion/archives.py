"""Opening a file of ads that may be packed, without trusting what it says of itself."""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import io
import lzma
import shutil
import stat
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO

from demand.errors import AdsFileError

# Kaggle's train.csv unpacks to 4 times its zip. Deflate cannot exceed 1032; above 200 a
# text is one line repeated. Small files may be that (a test of equal rows), bombs are not.
RATIO_MAX = 200
RATIO_FREE_BYTES = 32_000_000

_ZIP, _ZIP_EMPTY, _GZIP, _PARQUET = b"PK\x03\x04", b"PK\x05\x06", b"\x1f\x8b", b"PAR1"
_ARCHIVE_SUFFIXES = (".zip", ".gz", ".tgz", ".tar", ".7z", ".rar", ".bz2", ".xz", ".zst")
_OTHER_FORMATS: tuple[tuple[bytes, str, str], ...] = (
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it first"),
    (b"Rar!", "a RAR archive", "unpack it first"),
    (b"BZh", "a bzip2 archive", "unpack it first"),
    (b"\xfd7zXZ", "an xz archive", "unpack it first"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive", "unpack it first"),
    (b"\xd0\xcf\x11\xe0", "an Excel workbook", "save it as CSV UTF-8 (comma delimited)"),
    (b"\xff\xfe", "UTF-16 text", "convert it: iconv -f UTF-16 -t UTF-8 FILE > FILE.utf8.csv"),
    (b"\xfe\xff", "UTF-16 text", "convert it: iconv -f UTF-16 -t UTF-8 FILE > FILE.utf8.csv"),
)
_DAMAGE = (
    EOFError,
    zlib.error,
    lzma.LZMAError,
    zipfile.BadZipFile,
    gzip.BadGzipFile,
    struct.error,
    ValueError,
)


@dataclass(frozen=True)
class OpenedAds:
    """The unpacked bytes of a file of ads.

    ``name`` is for messages; ``unpacked_name`` is what the file is called outside its
    archive.
    """

    stream: io.BufferedReader
    name: str
    unpacked_name: str
    is_parquet: bool


class _Limited(io.RawIOBase):
    """A stream that counts what it unpacks and stops before a limit is passed."""

    def __init__(
        self, inner: IO[bytes] | gzip.GzipFile, name: str, packed_bytes: int, max_bytes: int
    ) -> None:
        self._inner = inner
        self._name = name
        self._packed_bytes = packed_bytes
        self._max_bytes = max_bytes
        self._count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        try:
            data = self._inner.read(len(buffer))
        except _DAMAGE as error:
            raise _damaged(self._name, error) from error
        self._count += len(data)
        _refuse_bomb(self._name, self._count, self._packed_bytes, self._max_bytes)
        buffer[: len(data)] = data
        return len(data)


@contextlib.contextmanager
def open_ads(path: Path, max_bytes: int) -> Iterator[OpenedAds]:
    """Open a CSV or Parquet file, plain or inside a zip or gz, as a stream of its bytes.

    What a file is, its first bytes say, not its name. Nothing is unpacked to memory as
    a whole; a packed Parquet file is unpacked to a temporary file that has no name.

    Parameters
    ----------
    path
        The file.
    max_bytes
        Most bytes that may come out, packed or not.

    Raises
    ------
    AdsFileError
        There is no such file, or it is a directory, unreadable, empty, larger than
        ``max_bytes``, in another format, a damaged or encrypted archive, an archive
        inside an archive, a zip without exactly one CSV or Parquet file, or a bomb.
    """
    size = _regular_file_size(path)
    try:
        with contextlib.ExitStack() as stack:
            file = stack.enter_context(path.open("rb"))
            head = file.read(4)
            file.seek(0)
            if head in (_ZIP, _ZIP_EMPTY):
                opened = _open_zip(path, file, size, max_bytes, stack)
            elif head.startswith(_GZIP):
                opened = _open_gzip(path, file, size, max_bytes, stack)
            else:
                opened = _recognise(_limited(file, str(path), size, max_bytes), path, str(path))
                if opened.is_parquet:
                    # Parquet is read from its end: the file itself is handed over.
                    file.seek(0)
                    opened = dataclasses.replace(opened, stream=file)
            if opened.is_parquet and opened.stream is not file:
                opened = _seekable(opened, stack)
            yield opened
    except PermissionError as error:
        raise _forbidden(path) from error
    except OSError as error:
        raise AdsFileError(f"cannot read {path}: {error.strerror or error}") from error


def _regular_file_size(path: Path) -> int:
    """Return the size in bytes of what must be a regular file that is not empty."""
    try:
        status = path.stat()
    except FileNotFoundError:
        raise AdsFileError(f"there is no file {path}: check the path given by --data") from None
    except PermissionError as error:
        raise _forbidden(path) from error
    except (OSError, ValueError) as error:
        raise AdsFileError(f"cannot read {path}: {error}") from error
    if stat.S_ISDIR(status.st_mode):
        raise AdsFileError(f"{path} is a directory: name the file of ads in it")
    if not stat.S_ISREG(status.st_mode):
        raise AdsFileError(f"{path} is no regular file: save the ads to a file first")
    if status.st_size == 0:
        raise AdsFileError(f"{path} is empty: it has no header and no ads; download it again")
    return status.st_size


def _forbidden(path: Path) -> AdsFileError:
    return AdsFileError(f"cannot read {path}: permission denied; chmod u+r it, or its folder u+x")


def _limited(
    inner: IO[bytes] | gzip.GzipFile, name: str, packed: int, max_bytes: int
) -> io.BufferedReader:
    _refuse_size(name, packed, max_bytes)
    return io.BufferedReader(_Limited(inner, name, packed, max_bytes), buffer_size=1 << 18)


def _refuse_size(name: str, size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise AdsFileError(
            f"{name} holds {size / 1e9:.3g} GB, more than the {max_bytes / 1e9:.3g} GB allowed: "
            "raise data.max_file_gb in the config if you trust it"
        )


def _refuse_bomb(name: str, unpacked: int, packed: int, max_bytes: int) -> None:
    """Refuse what unpacks to too much, or to far more than any table of ads would."""
    _refuse_size(name, unpacked, max_bytes)
    if unpacked > RATIO_FREE_BYTES and unpacked > RATIO_MAX * packed:
        raise AdsFileError(
            f"{name} looks like a decompression bomb: {packed} bytes unpack to {unpacked} or "
            f"more, over {RATIO_MAX} times as much; if you trust it, unpack it yourself"
        )


def _damaged(name: str, error: Exception) -> AdsFileError:
    return AdsFileError(
        f"{name} is a truncated or damaged archive ({error}): download or pack it again"
    )


def _open_zip(
    path: Path, file: BinaryIO, size: int, max_bytes: int, stack: contextlib.ExitStack
) -> OpenedAds:
    try:
        archive = stack.enter_context(zipfile.ZipFile(file))
        member = _only_member(path, archive)
        name = f"{path} ({member.filename})"
        # The packed size too is only what the archive says of itself.
        packed = max(1, min(member.compress_size, size))
        _refuse_bomb(name, member.file_size, packed, max_bytes)
        if member.flag_bits & 1:
            raise AdsFileError(f"{name} is encrypted: unpack it first, with its password")
        inner = stack.enter_context(archive.open(member))
    except (*_DAMAGE, NotImplementedError) as error:
        raise _damaged(str(path), error) from error
    return _recognise(_limited(inner, name, packed, max_bytes), path, name, member.filename)


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


def _open_gzip(
    path: Path, file: BinaryIO, size: int, max_bytes: int, stack: contextlib.ExitStack
) -> OpenedAds:
    # The length at a gz's end is modulo 4 GiB, and any four bytes where the file is cut:
    # only what really comes out counts, and it is counted before it is used.
    name = str(path)
    inner = stack.enter_context(gzip.GzipFile(fileobj=file))
    return _recognise(_limited(inner, name, size, max_bytes), path, name, path.stem)


def _recognise(
    stream: io.BufferedReader, path: Path, name: str, unpacked_name: str | None = None
) -> OpenedAds:
    """Tell CSV from Parquet by the first bytes, and refuse what is neither."""
    head = stream.peek(8)[:8]
    if not head:
        raise AdsFileError(f"{name} is empty: it has no header and no ads; download it again")
    if head.startswith((_ZIP, _ZIP_EMPTY, _GZIP)):
        raise AdsFileError(f"{name} is an archive inside an archive: unpack the outer one first")
    for magic, what, way_out in _OTHER_FORMATS:
        if head.startswith(magic):
            raise AdsFileError(f"{name} is {what}, not CSV or Parquet: {way_out}")
    is_parquet = head.startswith(_PARQUET)
    return OpenedAds(stream, name, unpacked_name or str(path), is_parquet=is_parquet)


def _seekable(opened: OpenedAds, stack: contextlib.ExitStack) -> OpenedAds:
    """Unpack a stream into a temporary file without a name; the limits still hold."""
    file = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
    shutil.copyfileobj(opened.stream, file)
    file.seek(0)
    return dataclasses.replace(opened, stream=io.BufferedReader(file.raw))
