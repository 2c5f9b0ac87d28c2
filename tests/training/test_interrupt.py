"""The first signal is a request, a second one acts as it always did."""

import signal

import pytest

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
        assert not interrupt.requested and not interrupt.agreed(1)
        signal.raise_signal(number)
        assert interrupt.requested and interrupt.agreed(1)
        assert heard == []
        signal.raise_signal(number)
        assert heard == [number]
    assert signal.Signals(number).name in capfd.readouterr().err


def test_a_signal_of_the_other_kind_is_a_second_one(heard):
    with Interrupt() as interrupt:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        assert interrupt.requested and heard == [signal.SIGINT]


def test_handlers_are_given_back_at_the_end_also_after_an_error(heard):
    with pytest.raises(ZeroDivisionError), Interrupt() as interrupt:
        raise ZeroDivisionError
    signal.raise_signal(signal.SIGTERM)
    assert heard == [signal.SIGTERM] and not interrupt.requested
