"""The tables, made by the migrations at the top of the repository."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine

_INI = Path(__file__).parents[2] / "alembic.ini"


def config_for(engine: Engine) -> Config:
    """Alembic's configuration with the URL of ``engine``."""
    config = Config(str(_INI))
    url = engine.url.render_as_string(hide_password=False)
    # Percent signs begin an interpolation in the configuration.
    config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
    return config


def upgrade(engine: Engine) -> None:
    """Create the tables, or bring older ones up to date."""
    command.upgrade(config_for(engine), "head")
