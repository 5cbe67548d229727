"""``KmsServer``: a KMS over HTTP on loopback, for tests."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Self

from sqlalchemy_kmsenv.errors import ConfigurationError
from sqlalchemy_kmsenv.testing.front import Front
from sqlalchemy_kmsenv.testing.principals import ROOT, Principal, make_principal
from sqlalchemy_kmsenv.testing.service import Service
from sqlalchemy_kmsenv.testing.storage import Storage
from sqlalchemy_kmsenv.testing.store import Store

if TYPE_CHECKING:
    from collections import Counter

    from sqlalchemy_kmsenv.testing.journal import Event
    from sqlalchemy_kmsenv.testing.policies import PolicyDocument
    from sqlalchemy_kmsenv.testing.weather import Weather

ACCOUNT = "111122223333"
REGION = "eu-central-1"


@dataclass(frozen=True, slots=True)
class ServerKey:
    """A key of a server, and what an operator does with it. No method is counted as a call."""

    server: KmsServer
    arn: str
    region: str

    @property
    def id(self) -> str:
        """The last part of the ARN."""
        return self.arn.rpartition("/")[2]

    @property
    def uri(self) -> str:
        """What ``Keyring`` takes; credentials come from the environment."""
        return f"aws-kms:///{self.arn}?endpoint_url={self.server.url}"

    @property
    def material_ids(self) -> tuple[str, ...]:
        """Ids of all key material, oldest first; the last one wraps. None for an HMAC key."""
        answer = self._call("ListKeyRotations", IncludeKeyMaterial="ALL_KEY_MATERIAL", Limit=1000)
        return tuple(rotation["KeyMaterialId"] for rotation in answer["Rotations"])

    @property
    def state(self) -> str:
        """``Enabled``, ``Disabled``, ``PendingDeletion``, ..."""
        state: str = self._call("DescribeKey")["KeyMetadata"]["KeyState"]
        return state

    def rotate(self) -> str:
        """Add key material, which wraps from now on unless ``slow_rotation`` says when."""
        self._call("RotateKeyOnDemand")
        return self.material_ids[-1]

    def disable(self) -> None:
        """Let every use answer ``DisabledException``."""
        self._call("DisableKey")

    def enable(self) -> None:
        """Take back ``disable``."""
        self._call("EnableKey")

    def schedule_deletion(self, days: int = 7) -> None:
        """Let every use answer ``KMSInvalidStateException``, and delete it after 7 to 30 days."""
        self._call("ScheduleKeyDeletion", PendingWindowInDays=days)

    def cancel_deletion(self) -> None:
        """Take back ``schedule_deletion``; the key is disabled then."""
        self._call("CancelKeyDeletion")

    def replicate(self, region: str) -> ServerKey:
        """A related key in another Region."""
        metadata = self._call("ReplicateKey", ReplicaRegion=region)["ReplicaKeyMetadata"]
        return ServerKey(self.server, metadata["Arn"], region)

    def _call(self, operation: str, **parameters: Any) -> dict[str, Any]:
        return self.server.call(operation, region=self.region, KeyId=self.arn, **parameters)


class KmsServer:
    """A KMS that unmodified boto3 talks to, at ``url`` from construction until ``close``.

    One server stands for every Region: that of a request is the one that it was signed
    for. ``directory`` keeps keys, aliases, grants and principals over restarts; without
    it they are gone with the server. ``seed`` decides what chance in ``weather`` brings.
    ``clock`` tells seconds since the epoch; all dates, quotas, lags and schedules follow
    it. ``read_seconds`` is how long the body of a request may take to arrive.

    For tests on one machine: signatures are not verified, and the root principal's access
    key is known to everybody.

    Raises:
        ConfigurationError: the directory cannot be used, or holds something else.
        OSError: the address is taken.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        region: str = REGION,
        account: str = ACCOUNT,
        directory: str | os.PathLike[str] | None = None,
        seed: int = 0,
        clock: Callable[[], float] = time.time,
        read_seconds: float = 5.0,
    ) -> None:
        self.region = region
        self._storage = None if directory is None else Storage(directory)
        try:
            self._begin(host, port, account, seed=seed, clock=clock, read_seconds=read_seconds)
        except BaseException:
            self._leave()
            raise

    def _begin(
        self,
        host: str,
        port: int,
        account: str,
        *,
        seed: int,
        clock: Callable[[], float],
        read_seconds: float,
    ) -> None:
        loaded = None if self._storage is None else self._storage.read()
        store, principals = (Store(account), {}) if loaded is None else loaded
        self._service = Service(
            store, principals=principals, seed=seed, clock=clock, changed=self._write
        )
        self._front = Front((host, port), self._service, read_seconds)
        self.url = f"http://{host}:{self._front.server_port}"
        self._thread = threading.Thread(
            target=self._front.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        self._thread.start()

    def __repr__(self) -> str:
        return f"KmsServer({self.url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop, and end every connection. Again does nothing."""
        if not self._front.closing.is_set():
            self._front.stop()
            self._thread.join()
            self._leave()

    def _leave(self) -> None:
        if self._storage is not None:
            self._storage.close()

    @property
    def weather(self) -> Weather:
        """What goes wrong; fine at first."""
        return self._service.weather

    @property
    def root(self) -> Principal:
        """The principal that may do everything."""
        return self._service.principals[ROOT]

    @property
    def principals(self) -> Mapping[str, Principal]:
        """Every caller by name."""
        return MappingProxyType(self._service.principals)

    @property
    def calls(self) -> Counter[str]:
        """Requests so far by boto3 method, each try of a client by itself. A copy."""
        return self._service.journal.calls

    @property
    def events(self) -> tuple[Event, ...]:
        """The last requests, oldest first, with their request ids: what CloudTrail would hold."""
        return self._service.journal.events

    def expect(self, **calls: int) -> AbstractContextManager[None]:
        """Require exactly these requests and no others: ``expect(generate_data_key=1)``.

        Raises:
            AssertionError: at the end of the block, other numbers were seen.
            ConfigurationError: a name is no operation.
        """
        return self._service.journal.expect(**calls)

    def call(
        self, operation: str, *, region: str | None = None, **parameters: Any
    ) -> dict[str, Any]:
        """What the root principal gets from an operation, in process: not counted, no weather.

        Parameters are those of the API, not checked, with blobs as bytes.

        Raises:
            Refusal: the service refuses; it has the ``code`` of the API.
            ConfigurationError: this server has no such operation.
        """
        return self._service.call(operation, region or self.region, parameters)

    def create_key(
        self, *, alias: str | None = None, region: str | None = None, **parameters: Any
    ) -> ServerKey:
        """A new key, under an alias (``alias/app/location``) where one is given.

        ``parameters`` are those of CreateKey: ``KeySpec``, ``KeyUsage``, ``MultiRegion``.

        Raises:
            Refusal: the service refuses.
        """
        where = region or self.region
        metadata = self.call("CreateKey", region=where, **parameters)["KeyMetadata"]
        if alias is not None:
            self.call("CreateAlias", region=where, AliasName=alias, TargetKeyId=metadata["KeyId"])
        return ServerKey(self, metadata["Arn"], where)

    def create_principal(self, name: str, *policies: PolicyDocument) -> Principal:
        """A caller with these IAM policies, as JSON text or as what that parses to.

        Without one it may do only what grants allow. A name that is there already gets
        the new policies: its access key follows from the name and stays the same.

        Raises:
            ConfigurationError: a policy is refused, or it is the root principal.
        """
        if name == ROOT:
            raise ConfigurationError("the root principal may do everything; choose another name")
        principal = make_principal(name, self._service.store.account, *policies)
        with self._service.store.lock:
            self._service.principals[name] = principal
            self._write()
        return principal

    def environment(self, principal: Principal | None = None) -> Mapping[str, str]:
        """The environment variables that lead another program to this server."""
        return {
            "AWS_ENDPOINT_URL_KMS": self.url,
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
            **(principal or self.root).environment(),
        }

    def _write(self) -> None:
        if self._storage is not None:
            self._storage.write(self._service.store, self._service.principals)
