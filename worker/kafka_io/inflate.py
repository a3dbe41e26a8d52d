"""Decompresses record batches with a bound: the client inflates 300 MB at once out of ten kilobytes of zstd."""

from __future__ import annotations

import gzip
import io
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, Protocol

import lz4.frame
import snappy
import zstandard

from worker.errors import CorruptError

MOST_BYTES: Final = 32 << 20
"""Of one batch. Producers bound a batch to about 1 MiB before they compress it."""
_FAULTS: Final = (
    EOFError, OSError, RuntimeError, ValueError, struct.error, zlib.error, zstandard.ZstdError,
    snappy.UncompressError,
)  # fmt: skip
"""What the libraries raise over bytes that they did not write."""
_CHUNK: Final = 1 << 20
_XERIAL: Final = b"\x82SNAPPY\x00"
_XERIAL_HEADER_BYTES: Final = 16


class TooLargeError(ValueError):
    """The batch has more bytes than the bound; no more than those were inflated."""


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


def inflate(codec: int, data: memoryview, most: int = MOST_BYTES) -> bytearray:
    """Decompress the records of a batch.

    Parameters
    ----------
    codec
        Kafka's number of the codec: 1 gzip, 2 snappy, 3 lz4, 4 zstd.
    data
        The compressed records.
    most
        How many bytes they may have.

    Raises
    ------
    TooLargeError
        They have more.
    CorruptError
        They do not decompress, or there is no such codec.
    """
    chunks = _CHUNKS.get(codec)
    if chunks is None:
        raise CorruptError(f"records are compressed with codec {codec}, which Kafka does not define")
    try:
        return _joined(chunks(data, most), most)
    except TooLargeError:
        raise
    except _FAULTS as error:
        raise CorruptError(f"codec {codec}: {error}") from error


def _joined(chunks: Iterable[bytes], most: int) -> bytearray:
    out = bytearray()
    for chunk in chunks:
        if len(out) + len(chunk) > most:
            raise TooLargeError(f"more than {most} bytes")
        out += chunk
    return out


def _gzip(data: memoryview, most: int) -> Iterator[bytes]:
    del most
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as reader:
        yield from _read(reader)


def _zstd(data: memoryview, most: int) -> Iterator[bytes]:
    del most
    with zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True) as reader:
        yield from _read(reader)


def _read(reader: _Readable) -> Iterator[bytes]:
    while chunk := reader.read(_CHUNK):
        yield chunk


def _lz4(data: memoryview, most: int) -> Iterator[bytes]:
    del most
    decompressor = lz4.frame.LZ4FrameDecompressor()
    yield decompressor.decompress(bytes(data), max_length=_CHUNK)
    while not decompressor.eof and not decompressor.needs_input:
        yield decompressor.decompress(b"", max_length=_CHUNK)
    if not decompressor.eof:
        raise CorruptError("an lz4 frame ends too early")


def _snappy(data: memoryview, most: int) -> Iterator[bytes]:
    whole = bytes(data)
    if not whole.startswith(_XERIAL):
        yield _snappy_block(whole, most)
        return
    at = _XERIAL_HEADER_BYTES
    while at < len(whole):
        (size,) = struct.unpack_from(">i", whole, at)
        if size < 0:
            raise CorruptError("a snappy block has a negative length")
        yield _snappy_block(whole[at + 4 : at + 4 + size], most)
        at += 4 + size


def _snappy_block(block: bytes, most: int) -> bytes:
    length = shift = 0
    # A block begins with its length as a varint: the library would allocate it all.
    for byte in block[:5]:
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    if length > most:
        raise TooLargeError(f"more than {most} bytes")
    block_inflated: bytes = snappy.decompress(block)
    return block_inflated


_CHUNKS: Final[dict[int, Callable[[memoryview, int], Iterator[Any]]]] = {
    1: _gzip,
    2: _snappy,
    3: _lz4,
    4: _zstd,
}
