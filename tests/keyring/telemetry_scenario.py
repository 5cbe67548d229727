"""Works with a keyring under OpenTelemetry's SDK and prints what was exported, as JSON.

A process of its own: providers are global, and can be set once.
"""

import gc
import json
import sys
from contextlib import suppress
from pathlib import Path

from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sqlalchemy import Column, Integer, LargeBinary, MetaData, String, Table, create_engine, select
from sqlalchemy import type_coerce as coerce

from sqlalchemy_kmsenv import Encrypted, Keyring, LocalKms, attach_keyrings
from sqlalchemy_kmsenv.errors import KeyStateError, KmsEnvError, WrongCellError

CANARY = "canary-of-a-value"


def work(directory: Path) -> bytes:
    """Write, read, move a value, and disable the key; one stored envelope."""
    kms = LocalKms.create(directory / "keys.json")
    keyring = Keyring(kms)
    metadata = MetaData()
    table = Table(
        "pings",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("note", Encrypted(String)),
    )
    attach_keyrings(metadata, places=Keyring(kms), default=keyring)
    engine = create_engine("sqlite://")
    metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(table.insert(), [{"id": n, "note": CANARY} for n in range(3)])
        assert len(connection.execute(select(table.c.note)).all()) == 3
        one = connection.scalars(select(coerce(table.c.note, LargeBinary))).first()
        connection.exec_driver_sql("UPDATE pings SET note = ? WHERE id = 2", (one,))
        with suppress(WrongCellError):
            connection.execute(select(table.c.note).where(table.c.id == 2)).all()
        kms.disable()
        keyring.forget()
        with suppress(KeyStateError):
            connection.execute(select(table.c.note)).all()
    # Collected while the keyring lives.
    _KEPT.append(keyring)
    return bytes(one or b"")


def shortlived(directory: Path) -> None:
    """What a job does: a keyring of the same name that is gone afterwards."""
    keyring = Keyring(LocalKms.create(directory / "job.json"), name="default")
    keyring.seal_many((("a", "b"),), 2, b"", [b"i1:", b"i2:"], [b"x", b"y"])
    del keyring
    gc.collect()


_KEPT: list[Keyring] = []


def main() -> None:
    """Print spans, metrics and the stored envelope."""
    spans, reader = InMemorySpanExporter(), InMemoryMetricReader()
    # The keyring's instruments are made before the providers are set: proxies go over to them.
    with suppress(KmsEnvError):
        Keyring(LocalKms.create(Path(sys.argv[1]) / "early.json"))
    tracing = TracerProvider()
    tracing.add_span_processor(SimpleSpanProcessor(spans))
    trace.set_tracer_provider(tracing)
    metrics.set_meter_provider(MeterProvider([reader]))

    envelope = work(Path(sys.argv[1]))
    shortlived(Path(sys.argv[1]))

    data = reader.get_metrics_data()
    print(  # noqa: T201  the test reads it
        json.dumps(
            {
                "spans": [json.loads(span.to_json()) for span in spans.get_finished_spans()],
                "metrics": json.loads(data.to_json()) if data else None,
                "envelope": envelope.hex(),
            }
        )
    )


if __name__ == "__main__":
    main()
