"""What a server keeps over restarts: one private file, replaced as a whole."""

from __future__ import annotations

import base64
import fcntl
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from sqlalchemy_kmsenv.errors import ConfigurationError
from sqlalchemy_kmsenv.testing.keys import Alias, Backing, Grant, Key, Material
from sqlalchemy_kmsenv.testing.principals import ROOT, Principal, make_principal
from sqlalchemy_kmsenv.testing.store import Store

_FILE = "kms.json"
_FORMAT = 1


class Storage:
    """The file ``kms.json`` of mode 0600 in a directory, which is made if it is not there.

    Raises:
        ConfigurationError: the directory cannot be made, or another server has it.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self._path = Path(directory).absolute() / _FILE
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            message = f"{self._path.parent} cannot be made ({error.strerror}): choose another one"
            raise ConfigurationError(message) from error
        self._lock = _locked(self._path.with_suffix(".lock"))

    def close(self) -> None:
        """Leave the directory to the next server."""
        self._lock.close()

    def read(self) -> tuple[Store, dict[str, Principal]] | None:
        """What ``write`` kept; None where nothing was.

        Raises:
            ConfigurationError: the file cannot be read, or is no such file.
        """
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            message = f"{self._path} cannot be read ({error.strerror}): correct its permissions"
            raise ConfigurationError(message) from error
        loaded = _loaded(content)
        if loaded is None:
            message = f"{self._path} is no file of this server: choose another directory"
            raise ConfigurationError(message)
        return loaded

    def write(self, store: Store, principals: Mapping[str, Principal]) -> None:
        """Replace the file."""
        content = json.dumps(_document(store, principals), indent=1, default=_base64).encode()
        draft = self._path.with_suffix(".new")
        draft.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        with os.fdopen(os.open(draft, flags, 0o600), "wb") as file:
            file.write(content)
        draft.replace(self._path)


def _locked(path: Path) -> IO[str]:
    # Two servers would each replace the file by what they know, keys of the other left out.
    file = path.open("w", encoding="ascii")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        message = f"{path.parent} is in use by another server: stop that one, or choose another"
        raise ConfigurationError(message) from error
    return file


def _document(store: Store, principals: Mapping[str, Principal]) -> dict[str, Any]:
    return {
        "format": _FORMAT,
        "account": store.account,
        "keys": [asdict(key) for key in store.keys.values()],
        "backings": [asdict(backing) for backing in store.backings.values()],
        "aliases": [[region, asdict(alias)] for (region, _), alias in store.aliases.items()],
        "grants": [asdict(grant) for grant in store.grants.values()],
        "principals": {p.name: p.documents for p in principals.values() if p.name != ROOT},
    }


def _loaded(content: bytes) -> tuple[Store, dict[str, Principal]] | None:
    # None, not an exception: a chained one would carry the whole file, keys included.
    try:
        document = json.loads(content)
        if document["format"] != _FORMAT:
            return None
        store = Store(document["account"])
        _fill(store, document)
        principals = {
            name: make_principal(name, store.account, *policies)
            for name, policies in document["principals"].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return store, principals


def _fill(store: Store, document: Mapping[str, Any]) -> None:
    # As if it had always been so: what was kept is late for nobody.
    for fields in document["keys"]:
        store.put_key(Key(**fields), 0.0)
    for fields in document["backings"]:
        materials = tuple(_material(m) for m in fields.pop("materials"))
        store.put_backing(Backing(materials=materials, **fields))
    for region, fields in document["aliases"]:
        store.put_alias(region, fields["name"], Alias(**fields), 0.0)
    for fields in document["grants"]:
        operations = tuple(fields.pop("operations"))
        store.put_grant(Grant(operations=operations, **fields))


def _material(fields: dict[str, Any]) -> Material:
    secret = base64.b64decode(fields.pop("secret"), validate=True)
    return Material(secret=secret, **fields)


def _base64(value: object) -> str:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    raise TypeError(type(value))
