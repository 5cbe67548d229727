"""The refusal of a statement whose values cannot be bound to a row."""

from __future__ import annotations

from sqlalchemy.exc import DontWrapMixin

from sqlalchemy_kmsenv.errors import KmsEnvError


class UnboundValueError(KmsEnvError, DontWrapMixin):
    """A statement reads or writes an encrypted column in a way that names no row.

    The developer changes the statement; the message says which way works. Nothing
    was sent to the database.
    """

    # DontWrapMixin: SQLAlchemy would otherwise wrap an error of bind processing in
    # a StatementError that prints the parameters, plaintext included.
