import pytest

from lga_jax.stores.lease import LOCK, Lease
from lga_jax.stores.store import Store
from tests.faults import refused
from tests.stores.memory import URL, names


def never(seconds):
    pytest.fail("waited")


def test_the_lock_is_removed_at_the_end(bucket):
    with Lease(Store(URL), "process 1", never) as lease:
        lease.check()
        lease.renew()
        assert names(bucket) == [LOCK]
    assert names(bucket) == []


def test_a_run_that_still_works_keeps_its_lock(bucket):
    with Lease(Store(URL), "process 1", never) as first:
        with refused(f"workdir {URL}", "process 1"), Lease(Store(URL), "process 2", lambda seconds: first.renew()):
            pytest.fail("not refused")
        first.check()


def test_the_lock_of_a_killed_run_is_taken(bucket, capsys):
    killed = Lease(Store(URL), "process 1", never)
    Store(URL).write(LOCK, killed._content())
    waited = []
    with Lease(Store(URL), "process 2", waited.append) as second:
        assert waited == [90.0]
        assert "process 1" in capsys.readouterr().out
        second.check()
        with refused(f"workdir {URL}", "process 2"):
            killed.check()
        killed.renew()  # writes nothing
        second.check()


def test_a_lock_that_was_released_while_another_run_waited(bucket):
    Store(URL).write(LOCK, b"process 1")
    with Lease(Store(URL), "process 2", lambda seconds: Store(URL).remove([LOCK])) as lease:
        lease.check()


def test_of_two_runs_that_wait_one_gets_the_lock(bucket):
    Store(URL).write(LOCK, b"process 1")
    third = Lease(Store(URL), "process 3", lambda seconds: None)
    with (
        refused(f"workdir {URL}", "process 3"),
        Lease(Store(URL), "process 2", lambda seconds: third.__enter__()),
    ):
        pytest.fail("not refused")
    third.__exit__(None, None, None)
    assert names(bucket) == []
