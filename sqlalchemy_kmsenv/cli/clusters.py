"""Dask: an executor on the workers of a cluster."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from importlib import import_module

from sqlalchemy_kmsenv.cli.refusals import Refusal

_TIMEOUT_SECONDS = 10


@contextmanager
def dask_executor(address: str) -> Iterator[Executor]:
    """An executor on the Dask cluster whose scheduler is at ``address``.

    Raises:
        Refusal: ``distributed`` is not installed, or no scheduler answers.
    """
    try:
        distributed = import_module("distributed")
    except ModuleNotFoundError as error:
        raise Refusal(
            f"--dask needs the package distributed ({error}): pip install 'sqlalchemy-kmsenv[dask]'"
        ) from error
    try:
        client = distributed.Client(address, timeout=_TIMEOUT_SECONDS)
    except (OSError, ValueError) as error:
        raise Refusal(f"no Dask scheduler answers at {address}: {error}") from error
    with client:
        executor: Executor = client.get_executor()
        yield executor
