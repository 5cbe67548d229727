"""``kmsenv inspect``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sqlalchemy_kmsenv.aead import NONCE_BYTES
from sqlalchemy_kmsenv.cli.documents import json_option, print_document
from sqlalchemy_kmsenv.cli.reading import envelope_bytes
from sqlalchemy_kmsenv.cli.refusals import Refusal
from sqlalchemy_kmsenv.codecs import CODEC_OF_VALUE_TYPE, PADDED
from sqlalchemy_kmsenv.envelope import (
    NONCE_AND_TAG_BYTES,
    UNKNOWN_MATERIAL,
    parse_header,
)
from sqlalchemy_kmsenv.errors import EnvelopeError

_VERSION_AT, _SUITE_AT, _REFERENCE_AT = 1, 2, 3


@click.command()
@click.argument("envelope", required=False)
@click.option(
    "--file",
    "path",
    type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path),
    help="Read it from this file.",
)
@json_option
def inspect(*, envelope: str | None, path: Path | None, as_json: bool) -> None:
    r"""Print the header of an ENVELOPE, in hexadecimal (\x..., 0x...), base64 or raw bytes.

    Without an argument or --file it is read from standard input. Nothing is opened, and
    no key is needed.
    """
    stored = envelope_bytes(_given(envelope, path))
    try:
        fields = header_fields(stored)
    except EnvelopeError as error:
        raise Refusal(str(error)) from error
    if as_json:
        print_document(fields)
        return
    grid = Table.grid(padding=(0, 2, 0, 0))
    for name, value in fields.items():
        grid.add_row(name.replace("_", " "), Text(_shown(value), overflow="fold"))
    Console(highlight=False).print(grid)


def header_fields(stored: bytes) -> dict[str, Any]:
    """What an envelope says without any key (FORMAT.md, clauses 2 and 3).

    Raises:
        EnvelopeError: it is none.
    """
    header = parse_header(stored)
    reference = header.reference
    codec = CODEC_OF_VALUE_TYPE.get(header.value_type & ~PADDED)
    if codec is None:
        raise EnvelopeError(
            f"envelope with unknown value type 0x{header.value_type:02x}: written by a newer"
            " release of sqlalchemy_kmsenv, or damaged"
        )
    hint = reference.material_hint
    return {
        "format": stored[_VERSION_AT],
        "suite": stored[_SUITE_AT],
        "key_reference": stored[_REFERENCE_AT],
        "kms_key_fingerprint": reference.fingerprint.hex(),
        "key_material_hint": None if hint == UNKNOWN_MATERIAL else hint.hex(),
        "data_key_commitment": reference.commitment.hex(),
        "wrapped_data_key": reference.wrapped.hex(),
        "wrapped_data_key_bytes": len(reference.wrapped),
        "value_type": codec.name,
        "padded": bool(header.value_type & PADDED),
        "nonce": stored[header.size : header.size + NONCE_BYTES].hex(),
        "header_bytes": header.size,
        "payload_bytes": len(stored) - header.size - NONCE_AND_TAG_BYTES,
        "bytes": len(stored),
    }


def _given(envelope: str | None, path: Path | None) -> bytes:
    if envelope is not None and path is not None:
        raise click.UsageError("give the envelope itself or --file, not both")
    if envelope is not None and envelope != "-":
        return envelope.encode()
    if path is not None and str(path) != "-":
        return path.read_bytes()
    return sys.stdin.buffer.read()


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "unknown" if value is None else str(value)
