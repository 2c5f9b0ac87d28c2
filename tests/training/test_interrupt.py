"""The first signal is a request, a second one acts as it always did."""

import signal
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest

from lga_jax.errors import UserError
from lga_jax.training import interrupt as interrupt_module
from lga_jax.training.interrupt import Interrupt


@pytest.fixture
def heard():
    """Which signals reached the handler that was there before."""
    received = []
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    for number in before:
        signal.signal(number, lambda number, frame: received.append(signal.Signals(number)))
    yield received
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_requests_and_the_second_acts(heard, number, capfd):
    with Interrupt() as interrupt:
        interrupt.listen()
        assert not interrupt.requested and not interrupt.agreed(1)
        signal.raise_signal(number)
        assert interrupt.requested and interrupt.agreed(1)
        assert heard == []
        signal.raise_signal(number)
        assert heard == [number]
    assert signal.Signals(number).name in capfd.readouterr().err


def test_a_signal_of_the_other_kind_is_a_second_one(heard):
    with Interrupt() as interrupt:
        interrupt.listen()
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        assert interrupt.requested and heard == [signal.SIGINT]


def test_handlers_are_given_back_at_the_end_also_after_an_error(heard):
    interrupt = Interrupt()
    interrupt.listen()
    with pytest.raises(ZeroDivisionError), interrupt:
        raise ZeroDivisionError
    signal.raise_signal(signal.SIGTERM)
    assert heard == [signal.SIGTERM] and not interrupt.requested


def test_before_it_listens_signals_have_their_usual_effect(heard):
    with Interrupt() as interrupt:
        signal.raise_signal(signal.SIGTERM)
        assert heard == [signal.SIGTERM] and not interrupt.requested


class Member:
    """In place of the connection to another process, which stops at step 12."""

    def __init__(self):
        self.asked, self.reason = 0, None

    def ask_to_stop(self, reason):
        self.asked, self.reason = self.asked + 1, reason

    def stops_at(self, step):
        return step >= 12


@pytest.mark.parametrize("own", [0, int(signal.SIGTERM)])
def test_all_processes_stop_at_one_step_with_the_signal_that_one_of_them_received(monkeypatch, own):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(interrupt_module, "joined", lambda: member)
    gather = lambda mine: np.stack([mine, np.array(int(signal.SIGTERM))])  # noqa: E731
    monkeypatch.setattr(interrupt_module.multihost_utils, "process_allgather", gather)
    member, interrupt = Member(), Interrupt()
    with interrupt:
        interrupt.listen()
        interrupt.requested = own
        assert [interrupt.agreed(step) for step in (10, 11, 12)] == [False, False, True]
    assert interrupt.requested == signal.SIGTERM
    assert member.asked == (own > 0)


@pytest.mark.parametrize(
    ("error", "reason"), [(OSError("disk\nfull"), "OSError: disk"), (UserError("a.png", found="a pointer"), "a.png")]
)
def test_an_error_ahead_is_a_reason_to_stop_asked_for_once(monkeypatch, error, reason):
    member, interrupt = Member(), Interrupt()
    monkeypatch.setattr(interrupt_module, "joined", lambda: member)
    monkeypatch.setattr(jax, "process_count", lambda: 1)
    assert [interrupt.agreed(step, error) for step in (10, 11, 12)] == [False, False, True]
    assert member.asked == 1 and member.reason.startswith(reason)
    assert Interrupt().agreed(10) is False and member.asked == 1


def test_another_thread_than_the_main_one_hears_nothing():
    interrupt = Interrupt()
    before = signal.getsignal(signal.SIGTERM)
    with ThreadPoolExecutor(1) as thread:
        thread.submit(interrupt.listen).result()
    assert signal.getsignal(signal.SIGTERM) is before
