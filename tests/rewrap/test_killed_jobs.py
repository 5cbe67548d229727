import json
import os
import subprocess
import sys

import pytest
from sqlalchemy.engine import Engine

from tests.conftest import on
from tests.servers import server_url


@pytest.mark.timeout(300)
@on("postgresql", "mariadb")
def test_a_job_that_is_killed_again_and_again_loses_nothing(
    engine: Engine, database: str, checkpoint_table
):
    """Against SIGKILL nothing helps but what is in the database; the script says the rest."""
    checkpoint = {"postgresql": "table", "mariadb": "file"}[database]
    command = [
        sys.executable, "-m", "tests.rewrap.killed_jobs",
        "--rows", "3000", "--kills", "4", "--batch-size", "100", "--checkpoint", checkpoint,
    ]  # fmt: skip
    environment = {**os.environ, "KMSENV_KILLED_JOBS_URL": server_url(database)}

    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=280, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["kills"] == 4
    assert all(found["claims"].values())
    assert found["writer"]["updated"] > 0
