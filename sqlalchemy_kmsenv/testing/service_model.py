"""The KMS API model that botocore carries: which operations exist, and what they accept.

The only module of ``testing`` that imports botocore. An older botocore knows fewer
operations and parameters, and so does the server then.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from botocore import xform_name
from botocore.exceptions import DataNotFoundError
from botocore.loaders import create_loader
from botocore.model import ServiceModel

from sqlalchemy_kmsenv.errors import ConfigurationError
from sqlalchemy_kmsenv.testing.refusals import Refusal, invalid

if TYPE_CHECKING:
    from botocore.loaders import Loader
    from botocore.model import Shape, StructureShape


@cache
def loader() -> Loader:
    """What reads the models, and reads each one once: they are most of what a client costs."""
    # Not that of a session: it would follow the configuration of whoever runs the tests.
    return create_loader()


@cache
def service_model() -> ServiceModel:
    """The model, read once."""
    try:
        return ServiceModel(loader().load_service_model("kms", "service-2"), "kms")
    except DataNotFoundError as error:
        message = "botocore holds no model of KMS: reinstall it"
        raise ConfigurationError(message) from error


@cache
def operations() -> frozenset[str]:
    """Every operation of the KMS API."""
    return frozenset(service_model().operation_names)


def method_name(operation: str) -> str:
    """The boto3 method of an operation: ``generate_data_key`` for ``GenerateDataKey``."""
    return xform_name(operation)


def output_members(operation: str) -> frozenset[str]:
    """The members that an answer may have."""
    shape = service_model().operation_model(operation).output_shape
    return frozenset() if shape is None else frozenset(shape.members)


def parse_request(operation: str, body: object) -> dict[str, Any]:
    """The parameters in a JSON ``body``, with blobs as bytes, checked against the model.

    Members that the model does not know are left out, as the service does.

    Raises:
        Refusal: ``SerializationException`` for a wrong type or bad base64,
            ``ValidationException`` for a missing or impossible value.
    """
    shape = service_model().operation_model(operation).input_shape
    if shape is None:
        return {}
    parsed: dict[str, Any] = _structure(shape, body, "")
    return parsed


def _parse(shape: Shape, value: object, path: str) -> Any:
    parser = _PARSERS.get(shape.type_name)
    if parser is None:
        message = f"'{path}' has the type {shape.type_name}, which this server does not read."
        raise invalid(message)
    return parser(shape, value, path)


def _structure(shape: StructureShape, value: object, path: str) -> dict[str, Any]:
    members = _of_type(value, dict, path)
    missing = [name for name in shape.required_members if members.get(name) is None]
    if missing:
        at = _at(path, missing[0])
        raise invalid(f"Value null at '{at}' failed to satisfy constraint: Member must not be null")
    return {
        name: _parse(shape.members[name], item, _at(path, name))
        for name, item in members.items()
        if name in shape.members and item is not None
    }


def _string(shape: Shape, value: object, path: str) -> str:
    text: str = _of_type(value, str, path)
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise _unreadable(path)
    if shape.metadata.get("enum") and text not in shape.metadata["enum"]:
        raise _constraint(path, "Member must satisfy enum value set")
    _bounded(shape, len(text), path, "length")
    pattern = shape.metadata.get("pattern")
    if pattern and not _compiled(pattern).fullmatch(text):
        raise _constraint(path, "Member must satisfy regular expression pattern")
    return text


def _integer(shape: Shape, value: object, path: str) -> int:
    if isinstance(value, bool):
        raise _unreadable(path)
    number: int = _of_type(value, int, path)
    _bounded(shape, number, path, "value")
    return number


def _boolean(_: Shape, value: object, path: str) -> bool:
    flag: bool = _of_type(value, bool, path)
    return flag


def _blob(shape: Shape, value: object, path: str) -> bytes:
    try:
        content = base64.b64decode(_of_type(value, str, path), validate=True)
    except (binascii.Error, ValueError) as error:
        raise _unreadable(path) from error
    _bounded(shape, len(content), path, "length")
    return content


def _list(shape: Any, value: object, path: str) -> list[Any]:
    items = _of_type(value, list, path)
    _bounded(shape, len(items), path, "length")
    return [_parse(shape.member, item, f"{path}.{i + 1}.member") for i, item in enumerate(items)]


def _map(shape: Any, value: object, path: str) -> dict[str, Any]:
    pairs = _of_type(value, dict, path)
    return {
        _parse(shape.key, name, path): _parse(shape.value, item, path)
        for name, item in pairs.items()
    }


_PARSERS: Mapping[str, Callable[[Any, object, str], Any]] = {
    "structure": _structure,
    "string": _string,
    "integer": _integer,
    "boolean": _boolean,
    "blob": _blob,
    "list": _list,
    "map": _map,
}


def _of_type(value: object, expected: type, path: str) -> Any:
    if not isinstance(value, expected):
        raise _unreadable(path)
    return value


def _bounded(shape: Shape, size: int, path: str, what: str) -> None:
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    if least is not None and size < least:
        raise _constraint(path, f"Member must have {what} greater than or equal to {least}")
    if most is not None and size > most:
        raise _constraint(path, f"Member must have {what} less than or equal to {most}")


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.ASCII)


def _at(path: str, name: str) -> str:
    lower = name[:1].lower() + name[1:]
    return f"{path}.{lower}" if path else lower


def _constraint(path: str, rule: str) -> Refusal:
    # Unlike AWS the value is not repeated: it may be a plaintext.
    return invalid(f"1 validation error detected: Value at '{path}' failed to satisfy: {rule}")


def _unreadable(path: str) -> Refusal:
    where = f"'{path}'" if path else "The request"
    return Refusal("SerializationException", f"{where} could not be read as its type.")
