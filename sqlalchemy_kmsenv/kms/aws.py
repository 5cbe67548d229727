"""``AwsKms``: a key of the AWS Key Management Service."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy_kmsenv import defaults
from sqlalchemy_kmsenv.kms import aws_answers
from sqlalchemy_kmsenv.kms import aws_arguments as arguments
from sqlalchemy_kmsenv.kms.arguments import checked_context, checked_wrapped
from sqlalchemy_kmsenv.kms.aws_client import AwsClient, Connection, Patience, client_config
from sqlalchemy_kmsenv.kms.aws_inspection import AwsInspection
from sqlalchemy_kmsenv.kms.aws_regions import Regions
from sqlalchemy_kmsenv.kms.aws_role import Role

if TYPE_CHECKING:
    from collections.abc import Sequence

    import boto3

    from sqlalchemy_kmsenv.kms.protocol import (
        EncryptionContext,
        GeneratedDataKey,
        ReWrappedDataKey,
        UnwrappedDataKey,
    )


class AwsKms(AwsInspection):
    """One key of AWS KMS.

    Credentials are found by boto3 as usual, or come with ``session``; with
    ``role_arn`` they assume that role. The client is made at the first call, once in
    each process, also after a fork.

    ``key_id`` may be a key ARN, an alias ARN, ``alias/...``, or a key id. The
    Region of an ARN need not be given again. docs/aws.md lists every option.
    IAM: generating needs ``kms:GenerateDataKey``, unwrapping ``kms:Decrypt``,
    re-wrapping ``kms:ReEncryptFrom`` and ``kms:ReEncryptTo``, and ``resolve`` of
    anything but a key ARN ``kms:DescribeKey``.

    Every method may raise, besides what ``Kms`` says, ``ConfigurationError``: no
    Region is known, or the service finds the key id or its usage invalid.

    Raises:
        ConfigurationError: an argument cannot be right.
    """

    def __init__(
        self,
        key_id: str,
        *,
        region: str | None = None,
        replica_regions: Sequence[str] = (),
        session: boto3.session.Session | None = None,
        role_arn: str | None = None,
        external_id: str | None = None,
        role_session_name: str | None = None,
        endpoint_url: str | None = None,
        sts_endpoint_url: str | None = None,
        allow_http: bool = False,
        use_fips: bool = False,
        use_dualstack: bool = False,
        grant_tokens: Sequence[str] = (),
        connect_timeout_seconds: float = defaults.AWS_CONNECT_TIMEOUT_SECONDS,
        read_timeout_seconds: float = defaults.AWS_READ_TIMEOUT_SECONDS,
        max_attempts: int = defaults.AWS_MAX_ATTEMPTS,
        retry_mode: str = defaults.AWS_RETRY_MODE,
        pool_connections: int = defaults.AWS_POOL_CONNECTIONS,
    ) -> None:
        self._key_id = arguments.checked_key_id(key_id)
        self._grant_tokens = arguments.checked_grant_tokens(grant_tokens)
        self._endpoint_url = arguments.checked_endpoint(endpoint_url, allow_http=allow_http)
        self._patience = Patience(
            connect_timeout_seconds=arguments.checked_seconds(
                "connect_timeout_seconds", connect_timeout_seconds
            ),
            read_timeout_seconds=arguments.checked_seconds(
                "read_timeout_seconds", read_timeout_seconds
            ),
            max_attempts=arguments.checked_count("max_attempts", max_attempts),
            retry_mode=arguments.checked_retry_mode(retry_mode),
        )
        self._role = _role(
            role_arn,
            external_id,
            role_session_name,
            arguments.checked_endpoint(
                sts_endpoint_url, allow_http=allow_http, name="sts_endpoint_url"
            ),
        )
        home = arguments.region_for(key_id, region)
        replicas = arguments.checked_replica_regions(
            replica_regions, key_id, home, endpoint_url=endpoint_url
        )
        connection = Connection(
            session=session,
            role=self._role,
            endpoint_url=self._endpoint_url,
            allow_http=allow_http,
            several_regions=bool(replicas),
            config=client_config(
                self._patience,
                pool_connections=arguments.checked_count("pool_connections", pool_connections),
                use_fips=use_fips,
                use_dualstack=use_dualstack,
            ),
        )
        self._client = AwsClient(home, connection)
        self._regions = Regions(
            self._client, [AwsClient(replica, connection) for replica in replicas]
        )
        self._arn = key_id if arguments.is_key_arn(key_id) else None
        self._flights = {}

    def __repr__(self) -> str:
        role = "" if self._role is None else f", role_arn={self._role.arn!r}"
        return (
            f"AwsKms({self._key_id!r}, region={self._client.region!r}, "
            f"endpoint_url={self._endpoint_url!r}{role})"
        )

    @property
    def worst_case_seconds(self) -> float:
        """The longest that one call can take where nothing answers, in any Region, nor STS."""
        calls = 1 if self._role is None else 2
        return self._patience.worst_case_seconds * calls * len(self._regions)

    def generate_data_key(self, context: EncryptionContext) -> GeneratedDataKey:
        """Make a 32-byte data key bound to ``context`` (GenerateDataKey)."""
        pairs = checked_context(context)
        # The answer is nobody's variable: error reporters show those of frames.
        made = aws_answers.generated(
            self._client.call(
                "GenerateDataKey",
                self._key_id,
                lambda client: client.generate_data_key(
                    KeyId=self._key_id,
                    KeySpec="AES_256",
                    EncryptionContext=pairs,
                    GrantTokens=self._grant_tokens,
                ),
            ),
            self._key_id,
        )
        self._arn = made.key_arn
        return made

    def unwrap(
        self, wrapped: bytes, context: EncryptionContext, *, key_arn: str
    ) -> UnwrappedDataKey:
        """The 32-byte data key inside ``wrapped``, by ``key_arn`` and no other key (Decrypt).

        A multi-Region key is asked in the replica Regions too, each where those
        before it are unavailable.
        """
        blob, pairs = checked_wrapped(wrapped), checked_context(context)

        def ask(region: AwsClient, arn: str) -> UnwrappedDataKey:
            # As above: no variable for the answer.
            return aws_answers.unwrapped(
                region.call(
                    "Decrypt",
                    arn,
                    lambda client: client.decrypt(
                        CiphertextBlob=blob,
                        KeyId=arn,
                        EncryptionAlgorithm="SYMMETRIC_DEFAULT",
                        EncryptionContext=pairs,
                        GrantTokens=self._grant_tokens,
                    ),
                ),
                arn,
            )

        return self._regions.ask(key_arn, ask)

    def rewrap(
        self,
        wrapped: bytes,
        context: EncryptionContext,
        *,
        key_arn: str,
        new_context: EncryptionContext | None = None,
    ) -> ReWrappedDataKey:
        """Wrap the data key in ``wrapped`` under this key's newest material (ReEncrypt).

        ``key_arn`` may be another key of the same Region; the service does not always
        tell which of the two it refuses.
        """
        blob, source = checked_wrapped(wrapped), checked_context(context)
        target = source if new_context is None else checked_context(new_context)
        answer = self._client.call(
            "ReEncrypt",
            f"{key_arn} to {self._key_id}",
            lambda client: client.re_encrypt(
                CiphertextBlob=blob,
                SourceKeyId=key_arn,
                SourceEncryptionContext=source,
                SourceEncryptionAlgorithm="SYMMETRIC_DEFAULT",
                DestinationKeyId=self._key_id,
                DestinationEncryptionContext=target,
                DestinationEncryptionAlgorithm="SYMMETRIC_DEFAULT",
                GrantTokens=self._grant_tokens,
            ),
        )
        moved = aws_answers.rewrapped(answer, key_arn, self._key_id)
        self._arn = moved.key_arn
        return moved


def _role(
    role_arn: str | None, external_id: str | None, session_name: str | None, sts_url: str | None
) -> Role | None:
    arguments.check_role(role_arn, external_id, session_name, sts_url)
    if role_arn is None:
        return None
    return Role(role_arn, session_name or defaults.AWS_ROLE_SESSION_NAME, external_id, sts_url)
