"""Who may use which key for what: IAM policies for models, and checks before production."""

from sqlalchemy_kmsenv.access.checks import Answer, Check
from sqlalchemy_kmsenv.access.contexts import ColumnContext, column_contexts
from sqlalchemy_kmsenv.access.doctor import examine
from sqlalchemy_kmsenv.access.policies import Role, policies
from sqlalchemy_kmsenv.access.sizes import INLINE_CHARACTERS, MANAGED_CHARACTERS, size_of

__all__ = [
    "INLINE_CHARACTERS",
    "MANAGED_CHARACTERS",
    "Answer",
    "Check",
    "ColumnContext",
    "Role",
    "column_contexts",
    "examine",
    "policies",
    "size_of",
]
