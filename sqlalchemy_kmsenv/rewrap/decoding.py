"""Whether an opened value is one that its column holds, and what is made of it if not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from sqlalchemy.engine import Dialect

from sqlalchemy_kmsenv.by_hand import Finding
from sqlalchemy_kmsenv.columns.binding import Binding
from sqlalchemy_kmsenv.errors import EnvelopeError, InvalidValueError
from sqlalchemy_kmsenv.rewrap.opening import Opened, UnopenedError

Convert = Callable[[Any], Any]


class UndecodableError(InvalidValueError):
    """A value opens, but is not one that its column holds."""


class Decoding:
    """Decodes opened values of one column."""

    def __init__(self, binding: Binding, dialect: Dialect) -> None:
        self._binding = binding
        self._dialect = dialect

    def check(self, opened: Opened) -> None:
        """Return where the column holds the value.

        Raises:
            UnopenedError: it does not.
        """
        values = self._binding.values
        try:
            values.decoder(opened.header.value_type, self._dialect)(opened.payload)
        except EnvelopeError as error:
            raise UnopenedError(error, Finding.NO_ENVELOPE) from None
        except Exception:  # noqa: BLE001, S110  what it holds may be the value
            pass
        else:
            return
        why = values.what_does_not_fit(opened.header.value_type, self._dialect)
        raise self._undecodable(f"the value opened, but {why}")

    def converted(self, opened: Opened, convert: Convert) -> Opened:
        """A value that ``convert`` makes of one that the column does not hold.

        Raises:
            UnopenedError: it makes none.
        """
        values, said = self._binding.values, ""
        # Raised outside of the except clause: the original exception may hold the value.
        try:
            made = convert(values.plain(opened.header.value_type, opened.payload))
            encoded = values.encode_many([made], self._dialect)
        except InvalidValueError as error:
            said = str(error)
        except Exception as error:  # noqa: BLE001  an application's function may raise anything
            said = f"the function of convert=... made no value of it ({type(error).__name__})"
        if said:
            raise self._undecodable(said)
        kind = encoded.value_type if encoded.value_types is None else encoded.value_types[0]
        header = replace(opened.header, value_type=kind or opened.header.value_type)
        return Opened(header, encoded.payloads[0])

    def _undecodable(self, why: str) -> UnopenedError:
        column = self._binding.column
        error = UndecodableError(f"{column.table.name}.{column.name}: {why}")
        return UnopenedError(error, Finding.OTHER_TYPE)
