"""``kmsenv kms``: a key service for development."""

from __future__ import annotations

import signal
import threading
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sqlalchemy_kmsenv.errors import ConfigurationError
from sqlalchemy_kmsenv.testing.server import ACCOUNT, REGION, KmsServer

if TYPE_CHECKING:
    from types import FrameType

    from sqlalchemy_kmsenv.testing.principals import Principal

_BEYOND_LOOPBACK = (
    "--host {host} serves whoever reaches this machine. Signatures are not verified and the root"
    " access key is public, so that all of them may use, change and delete every key. Serve on"
    " 127.0.0.1, or keep this port from others and nothing worth protecting under these keys."
)
_LAGS = ("aliases", "keys", "grants")


@click.group()
def kms() -> None:
    """Run a key service for development and tests."""


@kms.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    show_default=True,
    help="Port; 0 takes a free one.",
)
@click.option("--directory", type=click.Path(path_type=Path), help="Keep keys there.")
@click.option("--region", default=REGION, show_default=True, help="Region of --alias.")
@click.option("--account", default=ACCOUNT, show_default=True, help="Account of all keys.")
@click.option("--alias", "aliases", multiple=True, metavar="alias/NAME",
              help="Make a key under this alias, unless it is there. Repeatable.")  # fmt: skip
@click.option("--principal", "principals", multiple=True, metavar="NAME=POLICY.json",
              help="Make a caller with this IAM policy. Repeatable.")  # fmt: skip
@click.option("--seed", default=0, show_default=True, help="What decides about chance.")
@click.option("--fault", "faults", multiple=True, metavar="OP=KIND[:PROBABILITY]",
              help="Let a fault happen; OP may be *. Repeatable.")  # fmt: skip
@click.option("--latency", "latencies", multiple=True, metavar="OP=SECONDS[:JITTER]",
              help="Let requests wait. Repeatable.")  # fmt: skip
@click.option("--quota", "quotas", multiple=True, metavar="OP=PER_SECOND",
              help="Throttle beyond a rate. Repeatable.")  # fmt: skip
@click.option("--lag", "lags", multiple=True, metavar="aliases|keys|grants=SECONDS",
              help="Let changes be seen late. Repeatable.")  # fmt: skip
@click.option("--rotation-seconds", default=0.0, help="How long an on-demand rotation takes.")
def serve(
    *,
    host: str,
    port: int,
    directory: Path | None,
    region: str,
    account: str,
    aliases: tuple[str, ...],
    principals: tuple[str, ...],
    seed: int,
    faults: tuple[str, ...],
    latencies: tuple[str, ...],
    quotas: tuple[str, ...],
    lags: tuple[str, ...],
    rotation_seconds: float,
) -> None:
    """Serve the KMS API over HTTP until Ctrl-C. For one machine: signatures are not verified."""
    try:
        server = KmsServer(host=host, port=port, region=region, account=account,
                           directory=directory, seed=seed)  # fmt: skip
    except (ConfigurationError, OSError) as error:
        raise click.ClickException(str(error)) from error
    with server:
        try:
            callers = [_principal(server, text) for text in principals]
            _make_weather(server, faults, latencies, quotas, lags)
            server.weather.slow_rotation(rotation_seconds)
        except ConfigurationError as error:
            raise click.ClickException(str(error)) from error
        _make_keys(server, aliases)
        if not _is_loopback(host):
            click.echo(f"Warning: {_BEYOND_LOOPBACK.format(host=host)}", err=True)
        # Before the address is printed: whoever reads it may stop the server at once.
        stop = _stopped_by_signal()
        _announce(server, callers)
        stop.wait()


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _announce(server: KmsServer, callers: list[Principal]) -> None:
    click.echo(f"# KMS at {server.url}; Ctrl-C stops it. For the root principal:")
    for name, value in server.environment().items():
        click.echo(f"export {name}={value}")
    for alias in server.call("ListAliases", Limit=1000)["Aliases"]:
        key = server.call("DescribeKey", KeyId=alias["AliasName"])["KeyMetadata"]
        click.echo(f"# aws-kms:///{alias['AliasName']} is {key['Arn']}")
    for caller in callers:
        click.echo(f"# For {caller.name}:")
        for name, value in caller.environment().items():
            click.echo(f"# export {name}={value}")


def _stopped_by_signal() -> threading.Event:
    stop = threading.Event()

    def set_stop(_: int, __: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, set_stop)
    return stop


def _make_keys(server: KmsServer, aliases: tuple[str, ...]) -> None:
    listed = server.call("ListAliases", Limit=1000)["Aliases"]
    there = {alias["AliasName"] for alias in listed}
    for alias in dict.fromkeys(aliases):
        if alias not in there:
            server.create_key(alias=alias)


def _principal(server: KmsServer, text: str) -> Principal:
    name, path = _pair(text, "NAME=POLICY.json")
    try:
        document = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        message = f"--principal {name}: {path} cannot be read as text"
        raise click.ClickException(message) from error
    return server.create_principal(name, document)


def _make_weather(
    server: KmsServer,
    faults: tuple[str, ...],
    latencies: tuple[str, ...],
    quotas: tuple[str, ...],
    lags: tuple[str, ...],
) -> None:
    for text in faults:
        operation, rest = _pair(text, "OP=KIND[:PROBABILITY]")
        kind, _, probability = rest.partition(":")
        server.weather.fault(kind, operation, probability=_number(probability or "1", text))
    for text in latencies:
        operation, rest = _pair(text, "OP=SECONDS[:JITTER]")
        seconds, _, jitter = rest.partition(":")
        server.weather.delay(
            _number(seconds, text), operation, jitter_seconds=_number(jitter or "0", text)
        )
    for text in quotas:
        operation, rest = _pair(text, "OP=PER_SECOND")
        server.weather.quota(_number(rest, text), operation)
    server.weather.lag(**dict(_lag(text) for text in lags))


def _lag(text: str) -> tuple[str, float]:
    name, seconds = _pair(text, "aliases|keys|grants=SECONDS")
    if name not in _LAGS:
        raise click.ClickException(f"{text!r} is refused: it must begin with one of {_LAGS}")
    return name, _number(seconds, text)


def _pair(text: str, form: str) -> tuple[str, str]:
    name, equals, rest = text.partition("=")
    if not (name and equals and rest):
        raise click.ClickException(f"{text!r} is refused: write {form}")
    return name, rest


def _number(digits: str, text: str) -> float:
    try:
        return float(digits)
    except ValueError as error:
        raise click.ClickException(f"{text!r} is refused: {digits!r} is no number") from error
