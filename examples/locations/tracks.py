"""GPX files to pings: a file is understood completely before anything of it is written."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import gpxpy
from gpxpy.gpx import GPXException, GPXTrackPoint
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from examples.locations.models import Device, Ping

_MAX_BYTES = 32 << 20
_MAX_DEVICE_ID = 40


class TrackError(Exception):
    """A GPX file is refused; the message says which one and why."""


@dataclass(frozen=True, slots=True)
class Point:
    recorded_at: datetime
    latitude: float
    longitude: float
    elevation_m: float | None

    def position(self) -> dict[str, float]:
        """What the encrypted column holds."""
        position = {"lat": self.latitude, "lon": self.longitude}
        if self.elevation_m is not None:
            position["ele"] = self.elevation_m
        return position


@dataclass(frozen=True, slots=True)
class Track:
    device_id: str
    points: tuple[Point, ...]


def read_track(path: Path) -> Track:
    """The track in a GPX file; the device is named by the file, without its suffix.

    Raises:
        TrackError: the file is no GPX, has no points, or one without a time or a place.
    """
    if not 0 < len(path.stem) <= _MAX_DEVICE_ID:
        raise TrackError(f"{path.name}: a device name has at most {_MAX_DEVICE_ID} characters")
    try:
        parsed = gpxpy.parse(_content(path))
    except (GPXException, ValueError) as error:
        raise TrackError(f"{path.name} is not a readable GPX file: {error}") from error
    found = [point for track in parsed.tracks for part in track.segments for point in part.points]
    if not found:
        raise TrackError(f"{path.name} holds no track points, so there is nothing to store")
    points = (_point(path.name, number, point) for number, point in enumerate(found, 1))
    return Track(path.stem, tuple(points))


def store_track(engine: Engine, track: Track) -> list[UUID]:
    """Store a track in one transaction, all of it or nothing, and return the new pings' ids."""
    ids = [uuid4() for _ in track.points]
    with Session(engine) as session, session.begin():
        if session.get(Device, track.device_id) is None:
            session.add(Device(device_id=track.device_id))
            session.flush()
        session.add_all(
            Ping(
                id=ping_id,
                device_id=track.device_id,
                recorded_at=point.recorded_at,
                position=point.position(),
            )
            for ping_id, point in zip(ids, track.points, strict=True)
        )
    return ids


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise TrackError(f"{path.name} cannot be read: {error.strerror}") from error
    if len(content) > _MAX_BYTES:
        raise TrackError(f"{path.name} is larger than {_MAX_BYTES >> 20} MiB; split it")
    if not content.strip():
        raise TrackError(f"{path.name} is empty")
    return content


def _point(name: str, number: int, point: GPXTrackPoint) -> Point:
    if point.time is None:
        raise TrackError(f"{name}: point {number} has no time, or one that is none")
    if not (abs(point.latitude) <= 90 and abs(point.longitude) <= 180):
        raise TrackError(f"{name}: point {number} lies nowhere on Earth")
    if point.elevation is not None and not math.isfinite(point.elevation):
        raise TrackError(f"{name}: point {number} has an elevation that is no number")
    # GPX times are UTC, also where the Z is missing.
    time = point.time if point.time.tzinfo else point.time.replace(tzinfo=UTC)
    return Point(time.astimezone(UTC), point.latitude, point.longitude, point.elevation)
