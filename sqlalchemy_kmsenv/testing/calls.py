"""One request, as the operations see it: who asks for what, where and when."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy_kmsenv.testing.principals import Principal


@dataclass(frozen=True, slots=True)
class Call:
    """An authenticated request with checked parameters."""

    operation: str
    parameters: Mapping[str, Any]
    principal: Principal
    region: str
    request_id: str
    now: float
    """Seconds since the epoch."""

    def get(self, name: str, default: Any = None) -> Any:
        """A parameter, or ``default`` where it was not sent."""
        return self.parameters.get(name, default)

    @property
    def dry_run(self) -> bool:
        """Whether nothing but the permission is asked for."""
        return bool(self.get("DryRun"))
