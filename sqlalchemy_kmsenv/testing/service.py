"""The service behind the HTTP front: one request in, one answer out."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from sqlalchemy_kmsenv.errors import ConfigurationError
from sqlalchemy_kmsenv.testing import service_model
from sqlalchemy_kmsenv.testing.calls import Call
from sqlalchemy_kmsenv.testing.desk import Desk
from sqlalchemy_kmsenv.testing.journal import Event, Journal
from sqlalchemy_kmsenv.testing.names import api_name
from sqlalchemy_kmsenv.testing.operations import OPERATIONS
from sqlalchemy_kmsenv.testing.principals import ROOT, Principal, root_principal
from sqlalchemy_kmsenv.testing.refusals import Refusal, unsupported
from sqlalchemy_kmsenv.testing.store import Store
from sqlalchemy_kmsenv.testing.weather import Fault, Outlook, Weather

_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key>[^/,\s]+)/[0-9]{8}/(?P<region>[a-z0-9-]+)/kms/"
    r"aws4_request,\s*SignedHeaders=[^,\s]+,\s*Signature=[0-9a-f]{64}"
)
_CONTEXTS = ("EncryptionContext", "SourceEncryptionContext")
_KEYS = ("SourceKeyId", "KeyId", "DestinationKeyId", "TargetKeyId")


@dataclass(frozen=True, slots=True)
class Request:
    """What the HTTP front has read."""

    target: str
    """The header ``X-Amz-Target``."""
    authorization: str
    body: Callable[[], object]
    """The JSON; raises ``Refusal`` where it is none."""
    request_id: str


class Service:
    """Everything of a KMS but its network."""

    def __init__(
        self,
        store: Store,
        *,
        principals: Mapping[str, Principal] | None = None,
        seed: int = 0,
        clock: Callable[[], float] = time.time,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self.store = store
        self.clock = clock
        self.journal = Journal()
        self.weather = Weather(seed, clock, api_name)
        root = root_principal(store.account)
        self.principals: dict[str, Principal] = {ROOT: root, **(principals or {})}
        self._changed = changed
        self._written = store.changes

    def outlook(self, target: str) -> Outlook:
        """What the weather has in store for a request; counts it. Fine for what is no operation."""
        operation = target.rpartition(".")[2]
        if not target.startswith("TrentService.") or operation not in OPERATIONS:
            return Outlook()
        self.journal.count(operation)
        return self.weather.outlook(operation)

    def lose(self, request: Request, outlook: Outlook) -> None:
        """Note a request that ends without an answer."""
        operation = request.target.rpartition(".")[2]
        event = Event(operation, None, "", None, {}, request.request_id, str(outlook.fault))
        self.journal.add(event)

    def answer(self, request: Request, outlook: Outlook) -> dict[str, Any]:
        """The members of the response.

        Raises:
            Refusal: every error answer, made on purpose or not.
        """
        operation = request.target.rpartition(".")[2]
        parameters: Mapping[str, Any] = {}
        principal, region = None, ""
        # What is done and not told is no success to the client.
        code = str(outlook.fault) if outlook.fault is Fault.LOST_ANSWER else None
        try:
            principal, region = self._caller(request.authorization)
            self._known(request.target, operation)
            refusal = outlook.refusal()
            if refusal is not None:
                raise refusal
            parameters = service_model.parse_request(operation, request.body())
            call = Call(operation, parameters, principal, region, request.request_id, self.clock())
            return self._carry_out(call)
        except Refusal as refused:
            code = refused.code
            raise
        finally:
            name = None if principal is None else principal.name
            key = next((parameters[k] for k in _KEYS if k in parameters), None)
            pairs: dict[str, str] = next((parameters[c] for c in _CONTEXTS if c in parameters), {})
            event = Event(operation, name, region, key, pairs, request.request_id, code)
            self.journal.add(event)

    def call(self, operation: str, region: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """What the root principal gets, without network, weather and counting.

        Raises:
            Refusal: the service refuses.
            ConfigurationError: there is no such operation here.
        """
        name = api_name(operation)
        if name not in OPERATIONS:
            raise ConfigurationError(f"{name} is not carried out here")
        root = self.principals[ROOT]
        return self._carry_out(Call(name, parameters, root, region, str(uuid4()), self.clock()))

    def _carry_out(self, call: Call) -> dict[str, Any]:
        desk = Desk(self.store, self.weather.late, self.weather.rotation_seconds)
        with self.store.lock:
            self.store.settle(call.now, self.weather.rotation_seconds)
            answer = OPERATIONS[call.operation](desk, call)
            if self.store.changes != self._written:
                self._changed()
                self._written = self.store.changes
        return answer

    def _known(self, target: str, operation: str) -> None:
        if not target.startswith("TrentService.") or operation not in service_model.operations():
            raise Refusal("UnknownOperationException", "There is no such operation.")
        if operation not in OPERATIONS:
            raise unsupported(f"{operation} is not carried out by this server.")

    def _caller(self, authorization: str) -> tuple[Principal, str]:
        if not authorization:
            raise Refusal("MissingAuthenticationTokenException", "Missing Authentication Token")
        parts = _AUTHORIZATION.fullmatch(authorization)
        if parts is None:
            message = "Authorization is no signature of version 4 for kms."
            raise Refusal("IncompleteSignatureException", message)
        for principal in tuple(self.principals.values()):
            if principal.access_key_id == parts["key"]:
                return principal, parts["region"]
        message = "The security token included in the request is invalid."
        raise Refusal("UnrecognizedClientException", message)
