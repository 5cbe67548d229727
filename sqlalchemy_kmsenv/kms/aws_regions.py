"""The Regions in which a multi-Region key can be asked, in the order of trying."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy_kmsenv import defaults
from sqlalchemy_kmsenv.errors import KeyServiceUnavailableError

if TYPE_CHECKING:
    from sqlalchemy_kmsenv.kms.aws_client import AwsClient

_Answer = TypeVar("_Answer")

_RELATED = re.compile(r"(arn:[^:]*:kms:)[^:]*(:[^:]*:key/mrk-.*)", re.DOTALL)


class Regions:
    """The Region of the key, then those of its replicas.

    One that was unavailable is tried after all others for half a minute, so that a
    thousand data keys do not wait for it a thousand times.
    """

    def __init__(
        self,
        home: AwsClient,
        replicas: list[AwsClient],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clients = [home, *replicas]
        self._clock = clock
        self._avoided_until: dict[str | None, float] = {}

    def __len__(self) -> int:
        return len(self._clients)

    def ask(self, key_arn: str, ask: Callable[[AwsClient, str], _Answer]) -> _Answer:
        """The answer of the first Region that is available: whatever it says counts.

        ``ask`` is given a client and the key's ARN there. A key that is not a
        multi-Region one exists in its own Region only.

        Raises:
            KeyServiceUnavailableError: all are unavailable; that of the first one tried.
            KmsEnvError: what the Region that is available says.
        """
        first: KeyServiceUnavailableError | None = None
        for client in self._order(key_arn):
            try:
                return ask(client, self._arn_in(client, key_arn))
            except KeyServiceUnavailableError as error:
                self._avoid(client)
                if first is None:
                    first = error
                else:
                    first.add_note(str(error))
        assert first is not None  # noqa: S101  there is at least one client
        raise first

    def _order(self, key_arn: str) -> list[AwsClient]:
        if _RELATED.fullmatch(key_arn) is None:
            return self._clients[:1]
        now = self._clock()
        # Stable: among those that are avoided, and among the others, the given order stays.
        return sorted(
            self._clients, key=lambda client: self._avoided_until.get(client.region, now) > now
        )

    def _arn_in(self, client: AwsClient, key_arn: str) -> str:
        if client is self._clients[0]:
            return key_arn
        return _RELATED.sub(rf"\g<1>{client.region}\2", key_arn)

    def _avoid(self, client: AwsClient) -> None:
        if len(self) > 1:
            pause = defaults.AWS_REGION_PAUSE_SECONDS
            self._avoided_until[client.region] = self._clock() + pause
