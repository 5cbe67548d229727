"""Where the database servers are that tests run on; imports nothing of the package."""

from __future__ import annotations

import os

from sqlalchemy import make_url

SERVERS = {
    "postgresql": (
        "KMSENV_TEST_POSTGRESQL_URL",
        "postgresql+psycopg://postgres@127.0.0.1:5432/test",
    ),
    "mariadb": ("KMSENV_TEST_MARIADB_URL", "mysql+pymysql://root@127.0.0.1:3306/test"),
}
OWN_DATABASE = "KMSENV_TEST_DATABASE"


def server_url(name: str) -> str:
    """The URL of a database server, from the environment or its usual local address.

    ``KMSENV_TEST_DATABASE`` names another database there, so that two runs do not meet.
    """
    variable, usual = SERVERS[name]
    url = os.environ.get(variable, usual)
    own = os.environ.get(OWN_DATABASE)
    return url if own is None else _at(url, own)


def _at(url: str, database: str) -> str:
    return make_url(url).set(database=database).render_as_string(hide_password=False)
