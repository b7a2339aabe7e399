"""Files that may be compressed: told by their first bytes, and never believed to be longer than they are."""

from __future__ import annotations

import bz2
import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from slicesplat.errors import InputError

CHUNK = 1 << 20
MAX_REST = 1 << 20
"""Bytes that may follow the last voxel: tools pad files to whole blocks; a damaged or malicious one goes on and on."""

_GZIP, _BZIP2 = b"\x1f\x8b", b"BZh"


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file for reading, decompressed.

    Whatever fails in the block while reading is refused: a truncated or damaged compression, an unreadable disk.
    """
    try:
        with path.open("rb") as raw:
            start = raw.read(len(_BZIP2))
            raw.seek(0)
            if start.startswith(_GZIP):
                with gzip.GzipFile(fileobj=raw) as stream:
                    yield cast(BinaryIO, stream)
            elif start == _BZIP2:
                with bz2.BZ2File(raw) as packed:
                    yield cast(BinaryIO, packed)
            else:
                yield raw
    except EOFError as error:
        raise InputError(f"{path}: ends too early (truncated gzip); copy or export it again") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{path}: is not NIfTI, or a damaged gzip; copy or export it again") from error
    except OSError as error:
        reason = error.strerror or "damaged compression"
        raise InputError(f"{path}: cannot be read ({reason}); check its permissions, or copy it again") from error


@contextmanager
def opened_whole(path: Path, claim: int) -> Iterator[BinaryIO]:
    """Open a file as `opened` does, and refuse one that holds less than `claim` bytes, decompressed, or much more.

    A compressed one is read to its end, where the checksum is, before anything is given: who stops before takes damaged
    values for good.
    """
    with opened(path) as stream:
        if isinstance(stream, io.BufferedReader):
            held = stream.seek(0, io.SEEK_END)
            stream.seek(0)
        else:
            stream = _in_memory(stream, claim + MAX_REST)
            held = len(stream.getbuffer())
        _check_length(path, held, claim)
        yield stream


def _check_length(path: Path, held: int, claim: int) -> None:
    if held < claim:
        raise InputError(
            f"{path}: cannot be read whole, it holds {held} of the {claim} bytes that its header announces; "
            "copy or export it again"
        )
    if held > claim + MAX_REST:
        raise InputError(
            f"{path}: goes on after the {claim} bytes that its header announces; its header is damaged, export it again"
        )


def _in_memory(stream: BinaryIO, enough: int) -> io.BytesIO:
    """What a stream holds; just more than `enough` bytes of it where it goes on."""
    held = io.BytesIO()
    while held.tell() <= enough and (chunk := stream.read(CHUNK)):
        held.write(chunk)
    held.seek(0)
    return held
