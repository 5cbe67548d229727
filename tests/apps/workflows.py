"""Small workflows of three applications, each run by itself: ``workflows NAME URL [KEY_FILE]``.

With a key file, columns of the application are encrypted, which it knows nothing of. What it
prints is what the application gave back, and the stored cells that are envelopes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Column, Table, create_engine, event, inspect, text

from sqlalchemy_kmsenv import Encrypted, Keyring, LocalKms, attach_keyrings

# Optuna names an attribute by two columns that may be NULL, and upserts on them.
ENCRYPTED: dict[str, dict[str, dict[str, Any]]] = {
    "optuna": {
        "study_user_attributes": {"value_json": {"bind": "column"}},
        "study_system_attributes": {"value_json": {"bind": "column"}},
        "trial_user_attributes": {"value_json": {"bind": "column"}},
        "trial_system_attributes": {"value_json": {"bind": "column"}},
        "trial_params": {"distribution_json": {}, "param_value": {}},
    },
    "apscheduler": {"apscheduler_jobs": {"job_state": {}}},
    "celery": {
        "celery_taskmeta": {"result": {}, "traceback": {}, "children": {}, "kwargs": {}},
        "celery_tasksetmeta": {"result": {}},
    },
}


def encrypt(tables: dict[str, dict[str, dict[str, Any]]], keyring: Keyring) -> None:
    """Change the types of columns while their tables are declared."""

    @event.listens_for(Column, "before_parent_attach")
    def change(column: Column[Any], table: Any) -> None:
        if isinstance(table, Table) and column.name in tables.get(table.name, {}):
            if not isinstance(column.type, Encrypted):
                column.type = Encrypted(column.type, **tables[table.name][column.name])
            attach_keyrings(table.metadata, keyring)


def optuna(url: str) -> Any:
    """A study with parameters and attributes, read back by another process' storage."""
    import optuna as library

    library.logging.set_verbosity(library.logging.ERROR)

    def objective(trial: Any) -> float:
        x = trial.suggest_float("x", -1, 1)
        kind = trial.suggest_categorical("kind", ["a", "b"])
        trial.set_user_attr("note", f"trial {trial.number}")
        trial.set_user_attr("note", {"again": trial.number, "kind": kind})
        trial.report(x, 0)
        return float(x * x)

    sampler = library.samplers.RandomSampler(seed=7)
    study = library.create_study(storage=url, study_name="s", sampler=sampler)
    study.set_user_attr("owner", "ada")
    study.set_user_attr("owner", {"name": "ada", "age": 36})
    study.optimize(objective, n_trials=8)
    again = library.load_study(storage=url, study_name="s")
    trials = [[t.number, t.params, t.user_attrs, t.values, t.state.name] for t in again.trials]
    return [again.user_attrs, again.best_trial.number, trials]


def work(word: str) -> str:
    """The job of the scheduler."""
    return word


def apscheduler(url: str) -> Any:
    """Jobs that are added, changed, paused and removed, and found by another scheduler."""
    from apscheduler.schedulers.background import BackgroundScheduler

    def scheduler() -> Any:
        made = BackgroundScheduler(timezone="UTC")
        made.add_jobstore("sqlalchemy", url=url)
        made.start(paused=True)
        return made

    first = scheduler()
    at = datetime(2199, 1, 1, tzinfo=UTC)
    for number in range(5):
        first.add_job(work, "date", run_date=at, args=[f"w{number}"], id=f"j{number}")
    first.modify_job("j1", args=["changed"])
    first.reschedule_job("j2", trigger="interval", hours=5, start_date=at)
    first.pause_job("j3")
    first.remove_job("j4")
    first.add_job(work, "date", run_date=at, args=["again"], id="j0", replace_existing=True)
    first.shutdown()
    second = scheduler()
    found = [[j.id, list(j.args), str(j.trigger), str(j.next_run_time)] for j in second.get_jobs()]
    second.shutdown()
    return sorted(found)


def celery(url: str) -> Any:
    """Results, failures and groups, stored and read back."""
    from celery import Celery
    from celery.result import GroupResult

    def application() -> Any:
        app = Celery("a", backend=f"db+{url}", broker="memory://")
        app.conf.update(result_extended=True, task_always_eager=False)
        return app

    app = application()
    backend = app.backend
    for number in range(4):
        backend.store_result(f"t{number}", {"value": number}, "SUCCESS")
    backend.store_result("t1", {"value": "replaced"}, "SUCCESS")
    backend.mark_as_failure("t2", ValueError("no"), traceback="a traceback")
    backend.forget("t3")
    backend.save_group("g", GroupResult("g", [app.AsyncResult("t0"), app.AsyncResult("t1")]))
    again = application()
    metas = [again.backend.get_task_meta(f"t{number}") for number in range(4)]
    found = [[m["status"], repr(m["result"]), m["traceback"]] for m in metas]
    group = again.backend.restore_group("g")
    return [found, [each.id for each in group.results]]


def envelopes(url: str, tables: dict[str, dict[str, dict[str, Any]]]) -> list[int]:
    """The stored values of the encrypted columns: how many are envelopes, and how many are not."""
    engine = create_engine(url)
    counts = [0, 0]
    with engine.connect() as connection:
        for table, columns in tables.items():
            for column in columns if inspect(connection).has_table(table) else ():
                for stored in connection.scalars(text(f"SELECT {column} FROM {table}")):
                    if stored is not None:
                        counts[bytes(stored)[:2] != b"\xe5\x01"] += 1
    engine.dispose()
    return counts


def main(name: str, url: str, key_file: str | None = None) -> None:
    """Run one workflow; print what it gave back."""
    run: dict[str, Callable[[str], Any]] = {
        "optuna": optuna,
        "apscheduler": apscheduler,
        "celery": celery,
    }
    if key_file is not None:
        encrypt(ENCRYPTED[name], Keyring(LocalKms(key_file)))
    given = run[name](url)
    stored = [0, 0] if key_file is None else envelopes(url, ENCRYPTED[name])
    print(json.dumps({"given": given, "envelopes": stored[0], "others": stored[1]}))


if __name__ == "__main__":
    main(*sys.argv[1:])
