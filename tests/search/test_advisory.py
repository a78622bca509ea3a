"""PostgreSQL as a search's database: its locks, its restarts, and that its password is seen nowhere."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from raysched.errors import DamageError, MissingError, StoppedError
from raysched.records import ledger as ledgers
from raysched.records.entries import Opened
from raysched.records.layout import SweepLayout
from raysched.records.ledger import Ledger
from raysched.runners.control import Hold
from raysched.runners.holding import hold
from raysched.runners.options import Options
from raysched.search.advisory import AdvisoryLock
from raysched.search.database import Address
from raysched.search.optuna_study import OptunaStudy
from tests.postgres import PASSWORD, Postgres
from tests.search.test_storages import finish, search, told

pytestmark = pytest.mark.postgres
HOLDER = """
import sys, time
from raysched.records.layout import SweepLayout
from raysched.runners.holding import hold
from raysched.runners.options import Options
with hold(SweepLayout(sys.argv[1], "demo"), Options(storage=sys.argv[1], optuna_uri=sys.argv[2])):
    print("held", flush=True)
    time.sleep(600)
"""


def wait(condition: Callable[[], object], timeout_s: float = 20) -> float:
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < timeout_s, "waited in vain"
        time.sleep(0.02)
    return time.monotonic() - began


def seen_from(hosts: Path, name: str, uid: str = "0" * 32) -> SweepLayout:
    """One sweep as one of several hosts sees it, whose file locks are its own."""
    layout = SweepLayout(hosts / name, "demo").create()
    if not layout.exists():
        with Ledger.take_over(layout.ledger, host=name, pid=1) as ledger:
            ledger.append(Opened(uid=uid, study={}, resolved={}))
    return layout


def options(layout: SweepLayout, url: str) -> Options:
    return Options(storage=str(layout.storage), optuna_uri=url)


def test_a_second_driver_on_another_host_is_refused(postgres: Postgres, tmp_path: Path) -> None:
    """They share the database only. The first one is killed, and the sweep is free."""
    first, second = seen_from(tmp_path, "a"), seen_from(tmp_path, "b")
    url = postgres.new_database()
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(first.storage), url], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        began = time.monotonic()
        with pytest.raises(
            StoppedError, match=rf"another driver runs this sweep: host \S+, pid {process.pid}, since 2"
        ):
            hold(second, options(second, url)).__enter__()
        assert time.monotonic() - began < 2
        with hold(seen_from(tmp_path, "c", uid="1" * 32), options(second, url)):
            pass  # another sweep of that name, in another storage
        process.send_signal(signal.SIGSTOP)  # it hangs, and still holds
        with pytest.raises(StoppedError, match="another driver"):
            hold(second, options(second, url)).__enter__()
        os.kill(process.pid, signal.SIGKILL)

        def free() -> bool:
            try:
                with hold(second, options(second, url)) as held:
                    return held() is None
            except StoppedError:
                return False

        assert wait(free) < 5
    finally:
        process.kill()
        process.communicate()


def test_a_new_sweep_is_locked_by_its_own_name_once_it_has_one(postgres: Postgres, tmp_path: Path) -> None:
    url = postgres.new_database()
    new = SweepLayout(tmp_path / "a", "demo").create()
    with hold(new, options(new, url)) as held:
        assert held() is None
        with Ledger.take_over(new.ledger, host="here", pid=1) as ledger:
            ledger.append(Opened(study={}, resolved={}))
        (opened,) = [entry for entry in ledgers.read(new.ledger) if isinstance(entry, Opened)]
        assert held() is None
        other = seen_from(tmp_path, "b", uid=opened.uid)
        with pytest.raises(StoppedError, match=f"pid {os.getpid()}"):
            hold(other, options(other, url)).__enter__()


def test_a_restart_of_the_server_is_survived_and_a_thief_is_noticed(postgres: Postgres) -> None:
    url = postgres.new_database()
    with AdvisoryLock(Address(url), ["one"], every_s=0.1) as lock:
        postgres.stop(immediate=True)
        try:
            wait(lambda: lock.trouble is not None)
            assert not lock.gone
        finally:
            postgres.start()
        wait(lambda: lock.trouble is None)
        with pytest.raises(StoppedError, match="another driver"):
            AdvisoryLock(Address(url), ["one"]).acquire()
        thief = AdvisoryLock(Address(url), ["one"])
        lock._end.set()  # its watcher looks away while the server ends the session
        assert lock._watcher is not None
        lock._watcher.join()
        postgres.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'raysched %'"
        )
        wait(lambda: _taken(thief))
        lock._end.clear()
        lock._check()
        assert lock.gone
        assert lock.trouble is not None
        assert f"another driver runs this sweep: host {os.uname().nodename[:30]}" in str(lock.trouble)
        thief.release()


def _taken(lock: AdvisoryLock) -> bool:
    try:
        lock.acquire()
    except StoppedError:
        return False
    return True


def test_a_server_that_stays_away_ends_the_hold(postgres: Postgres) -> None:
    url = postgres.new_database()
    with AdvisoryLock(Address(url), ["one"], every_s=0.1, patience_s=0.3) as lock:
        postgres.stop()
        try:
            wait(lambda: lock.gone)
            assert lock.trouble is not None
            assert PASSWORD not in str(lock.trouble)
            with pytest.raises(MissingError, match="cannot be reached") as caught:
                AdvisoryLock(Address(url), ["two"]).acquire()
            assert PASSWORD not in str(caught.value)
        finally:
            postgres.start()


def test_a_restart_in_the_middle_of_asking_and_telling(postgres: Postgres) -> None:
    """The server crashes three times and is back after a second; every answer comes, and each is kept once."""
    study = OptunaStudy(postgres.new_database(), "one", search())
    ended = threading.Event()

    def crash() -> None:
        for _ in range(3):
            ended.wait(0.2)
            postgres.stop(immediate=True)
            ended.wait(0.5)
            postgres.start()
        ended.set()

    crashing = threading.Thread(target=crash)
    crashing.start()
    try:
        asked = []
        while (one := study.ask()) is not None:
            asked.append(one)
            study.tell(one.number, 50.0 + one.number, {"n": 2})
        crashing.join()
        assert ended.is_set()
        finish(study)
        assert [one.number for one in asked] == list(range(6))
        assert sorted(mean for _, mean in told(study).values() if mean is not None) == [50.0 + n for n in range(6)]
    finally:
        crashing.join()
        study.close()


def test_bad_servers_say_what_to_do_and_no_password(postgres: Postgres) -> None:
    wrong = postgres.url.replace(PASSWORD, "canary-wrong-password")
    for url, error, message in (
        (wrong, MissingError, "password authentication failed"),
        (postgres.url_of("nowhere"), MissingError, 'database "nowhere" does not exist'),
        (postgres.url.replace(f":{postgres.port}/", ":1/"), StoppedError, "did not answer for"),
    ):
        with pytest.raises(error, match=message) as caught:
            OptunaStudy(url, "one", search(), patience_s=0.5)
        seen: BaseException | None = caught.value
        while seen is not None:
            assert "canary" not in str(seen)
            seen = seen.__cause__


def test_a_lost_study_on_a_server_is_not_mistaken_for_damage(postgres: Postgres) -> None:
    """Tables that somebody dropped are damage, which says what to do."""
    url = postgres.new_database()
    study = OptunaStudy(url, "one", search(), patience_s=5)
    postgres.execute("DROP TABLE trial_values CASCADE", url)
    with pytest.raises(DamageError, match=r"cannot be read(.|\n)*restore it from a copy"):
        study.ask()
    study.close()


def test_holds_need_no_server_without_one(tmp_path: Path) -> None:
    layout = seen_from(tmp_path, "a")
    for uri in (None, "journal"):
        with hold(layout, Options(storage=str(layout.storage), optuna_uri=uri)) as held:
            asked: Hold = held
            assert asked() is None
