"""Devices, and where they were: the position of a ping is encrypted, its time is not."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import JSON, DateTime, ForeignKey, String, Uuid
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sqlalchemy_kmsenv import Encrypted

# Pairs of every encryption context of this program: what CloudTrail tells it by.
APP = {"app": "locations-demo"}


class Base(DeclarativeBase):
    pass


class Device(Base):
    __tablename__ = "locations_devices"

    device_id: Mapped[str] = mapped_column(String(40), primary_key=True)


class Ping(Base):
    __tablename__ = "locations_pings"

    id: Mapped[UUID] = mapped_column(Uuid, primary_key=True, default=uuid4)
    device_id: Mapped[str] = mapped_column(ForeignKey(Device.device_id), nullable=False)
    # In UTC: MySQL and SQLite keep no time zone.
    recorded_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    # Data keys are shared by the pings of one device, and by no others.
    position: Mapped[dict[str, Any]] = mapped_column(Encrypted(JSON, scope=["device_id"]))
