"""Write the sample tracks of fictitious devices: ``python -m examples.locations.samples``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

TRACKS = Path(__file__).parent / "tracks"
_START = datetime(2026, 3, 2, 6, 30, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Sample:
    device_id: str
    points: int
    seconds: int
    latitude: float
    longitude: float
    step: float


SAMPLES = (
    Sample("bike-courier", 12, 20, 48.20817, 16.37382, 0.0006),
    Sample("harbour-boat", 8, 60, 53.54120, 9.96630, 0.0011),
    Sample("mountain-rescue", 10, 45, 46.53720, 7.96250, 0.0003),
    Sample("delivery-van", 3000, 5, 52.51630, 13.37770, 0.0002),
)


def gpx(sample: Sample) -> str:
    """The GPX text of a sample, the same every time."""
    return "\n".join(_lines(sample)) + "\n"


def _lines(sample: Sample) -> Iterator[str]:
    yield '<?xml version="1.0" encoding="UTF-8"?>'
    yield '<gpx version="1.1" creator="examples" xmlns="http://www.topografix.com/GPX/1/1">'
    yield f"<trk><name>{sample.device_id}</name><trkseg>"
    # Only random(): its sequence is the one that Python promises to keep.
    random = Random(sample.device_id)
    latitude, longitude = sample.latitude, sample.longitude
    for number in range(sample.points):
        time = _START + timedelta(seconds=number * sample.seconds)
        place = f'lat="{latitude:.5f}" lon="{longitude:.5f}"'
        yield f"<trkpt {place}><time>{time:%Y-%m-%dT%H:%M:%SZ}</time></trkpt>"
        latitude += sample.step * (random.random() - 0.45)
        longitude += sample.step * (random.random() - 0.45)
    yield "</trkseg></trk></gpx>"


def main() -> None:
    """Write every sample."""
    for sample in SAMPLES:
        (TRACKS / f"{sample.device_id}.gpx").write_text(gpx(sample), encoding="utf-8")


if __name__ == "__main__":
    main()
