"""From ``package.module:Base`` to a MetaData."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from contextlib import redirect_stdout
from importlib import import_module
from typing import Any

from sqlalchemy import MetaData

from sqlalchemy_kmsenv.cli.refusals import Refusal
from sqlalchemy_kmsenv.errors import ConfigurationError


def load_metadata(path: str) -> MetaData:
    """The MetaData that ``path`` leads to.

    The attribute is a MetaData, or has one as its ``metadata`` (a declarative base), or
    is a function without arguments that returns either. The current directory can be
    imported from, as with ``python -m``.

    Raises:
        Refusal: with what was found instead.
    """
    module_name, colon, attribute = path.partition(":")
    if not colon or not module_name or not attribute:
        raise Refusal(
            f"--metadata {path!r} is not like package.module:Base, a module and an attribute of it"
        )
    # What an application prints when it is imported must not get into a document.
    with redirect_stdout(sys.stderr):
        found = _attribute(_imported(module_name), module_name, attribute)
        metadata = _metadata_of(found)
        if metadata is None and callable(found):
            metadata = _metadata_of(_called(found, path))
    if metadata is None:
        raise Refusal(
            f"{path} is {_described(found)}; name a MetaData, a declarative base, or a function"
            " without arguments that returns one of them"
        )
    return metadata


def _imported(module_name: str) -> Any:
    here = os.getcwd()  # noqa: PTH109  entries of sys.path are text
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    try:
        return import_module(module_name)
    except ConfigurationError:
        raise
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if module_name == missing or module_name.startswith(f"{missing}."):
            raise Refusal(
                f"there is no module {missing!r}. It is looked for in {here} and where Python finds"
                " its packages: call kmsenv from where `python -m` would find it, or set PYTHONPATH"
            ) from error
        raise Refusal(_failed(f"importing {module_name}", error)) from error
    except Exception as error:  # the application's code may raise anything
        raise Refusal(_failed(f"importing {module_name}", error)) from error


def _failed(what: str, error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    # os.environ["X"] fails in "<frozen os>", where nobody can look.
    last = next((f for f in reversed(frames) if not f.filename.startswith("<")), frames[-1])
    return f"{what} failed in {last.filename}, line {last.lineno}: {type(error).__name__}: {error}"


def _called(found: Callable[[], Any], path: str) -> Any:
    try:
        return found()
    except ConfigurationError:
        raise
    except Exception as error:  # as above
        raise Refusal(_failed(f"{path}()", error)) from error


def _attribute(module: Any, module_name: str, attribute: str) -> Any:
    found = module
    for name in attribute.split("."):
        if not hasattr(found, name):
            every = vars(module).items()
            near = sorted(key for key, value in every if _metadata_of(value) is not None)
            hint = f"; these lead to a MetaData: {', '.join(near)}" if near else ""
            raise Refusal(f"module {module_name} has no attribute {attribute!r}{hint}")
        found = getattr(found, name)
    return found


def _metadata_of(found: Any) -> MetaData | None:
    for candidate in (found, getattr(found, "metadata", None)):
        if isinstance(candidate, MetaData):
            return candidate
    return None


def _described(found: Any) -> str:
    if callable(found):
        return "callable, but what it returns is neither a MetaData nor has one"
    return f"an object of type {type(found).__name__}"
