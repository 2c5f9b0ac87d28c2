"""Processes compare facts, stop at one step, and end when another one is lost."""

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Thread

import pytest

from lga_jax.processes import member as member_module
from tests.faults import refused
from tests.processes.joining import WAIT


def _in_all(members, function):
    """The results of `function(member)`, called in a thread for each member."""
    with ThreadPoolExecutor(len(members)) as threads:
        return [future.result(WAIT) for future in [threads.submit(function, member) for member in members]]


def test_equal_processes_continue_and_every_process_names_the_one_that_differs(join):
    members = join(3).members
    _in_all(members, lambda member: member.compare("recipe", {"recipe": {"seed": 0}}, WAIT))

    def compare(member):
        with refused("^process 2$", "^1$") as caught:
            member.compare("recipe", {"recipe": {"seed": member.process // 2}}, WAIT)
        return caught.value.expected

    assert _in_all(members, compare) == ["recipe seed 0 as in process 0"] * 3


def test_a_difference_that_is_only_reported_ends_nobody(join):
    joined = join(2)
    unlike = _in_all(joined.members, lambda member: member.difference("a", {"": {"params": member.process}}, WAIT))
    assert unlike == ["process 1: params"] * 2
    assert _in_all(joined.members, lambda member: member.difference("a", {"": {"params": 0}}, WAIT)) == ["", ""]
    joined.channels[1].close()
    assert joined.line(0).startswith("process 1 of 2 is gone")


def test_a_lost_process_ends_the_others_with_one_line_that_has_the_step(join):
    joined = join(3)
    joined.members[0].begin_steps(7)
    joined.channels[1].close()
    assert joined.line(0).startswith("process 1 of 3 is gone since step 7; ")
    assert joined.line(2).startswith("process 1 of 3 is gone before the first step; ")
    assert "\n" not in joined.line(1)  # the hub is gone for process 1


def test_without_process_0_the_others_end(join):
    joined = join(2)
    joined.members[1].begin_steps(1200)
    joined.hub.close()
    assert joined.line(1).startswith("process 0 of 2 is gone since step 1,200; ")


def test_a_process_that_leaves_normally_ends_nobody(join):
    joined = join(3)
    joined.members[1].leave()
    joined.channels[1].close()
    joined.channels[2].close()
    assert joined.line(0).startswith("process 2 of 3 is gone")


def test_once_all_are_done_the_end_of_a_process_ends_nobody(join):
    joined = join(2)
    _in_all(joined.members, lambda member: member.leave_together())
    assert all(member.has_left for member in joined.members)
    joined.channels[1].close()
    joined.hub.close()
    joined.members[0].leave_together()  # at once
    joined.close()
    assert all(joined.silent(process) for process in (0, 1))


@pytest.mark.parametrize("lost", [0, 1])
def test_a_process_that_is_done_still_hears_that_another_is_lost(join, lost):
    """JAX's clean-up would end with an abort: it waits for the lost process."""
    joined = join(2)
    other = 1 - lost
    waiting = Thread(target=joined.members[other].leave_together, daemon=True)
    waiting.start()
    joined.wait_until_done(other)
    joined.hub.close() if lost == 0 else joined.channels[1].close()
    assert joined.line(other).startswith(f"process {lost} of 2 is gone")
    assert waiting.is_alive()  # the process ends here, not its wait


def test_a_process_that_waits_for_the_others_is_not_done_if_it_is_lost(join):
    joined = join(2)
    Thread(target=joined.members[1].leave_together, daemon=True).start()
    joined.wait_until_done(1)
    joined.channels[1].close()
    assert joined.line(0).startswith("process 1 of 2 is gone")


def test_an_error_of_one_process_is_told_to_the_others(join, monkeypatch):
    monkeypatch.setattr(member_module, "_GRACE", 0.0)
    joined = join(2)
    joined.members[1].fail("data.train: not found")
    assert "process 1 of 2 has ended (data.train: not found) before the first step" in joined.line(0)


def test_a_process_that_fails_itself_does_not_end_for_another(join):
    """A loss that is not finite raises in all processes; each reports its own error."""
    joined = join(2)
    _in_all(joined.members, lambda member: member.fail("step 3: nan"))
    joined.hub.close()
    for member in joined.members:
        member._listener.join(WAIT)
    assert all(lines.empty() for lines in joined._lines)


def _train(member, step):
    """Takes steps until all processes stop, and returns the last one."""
    while not member.stops_at(step):
        step += 1
        time.sleep(0.001)
    return step


@pytest.mark.parametrize("asking", [(0,), (1,), (0, 1, 2)])
def test_all_stop_at_one_step_that_all_can_still_reach(join, asking):
    members = join(3).members
    completed = {0: 5, 1: 7, 2: 6}  # steps when the signal arrives

    for member in members:
        member.begin_steps(completed[member.process])

    def run(member):
        if member.process in asking:
            member.ask_to_stop()
        return _train(member, completed[member.process])

    stopped = _in_all(members, run)
    assert len(set(stopped)) == 1 and stopped[0] >= 7


def test_before_an_error_of_one_all_stop_within_two_steps_and_know_it(join):
    """Process 0 can take two steps more. Nobody completes a step before process 0 has completed the one before it."""
    members = join(3).members
    completed = [5, 6, 5]
    for member in members:
        member.begin_steps(completed[member.process])

    def run(member):
        if member.process == 0:
            member.ask_to_stop("OSError: disk")
        while not member.stops_at(completed[member.process]):
            while completed[0] < completed[member.process]:
                time.sleep(0.001)
            completed[member.process] += 1
        return completed[member.process]

    stopped = _in_all(members, run)
    assert len(set(stopped)) == 1 and stopped[0] in (6, 7)
    assert {member.failing for member in members} == {(0, "OSError: disk")}


def test_a_reason_that_comes_after_the_decision_is_none(join):
    members = join(2).members
    for member in members:
        member.begin_steps(3)
    members[0].ask_to_stop()
    _in_all(members, lambda member: _train(member, 3))
    members[1].ask_to_stop("OSError: disk")
    _in_all(members, lambda member: member.compare("answers have arrived", {}, WAIT))
    assert [member.failing for member in members] == [None, None]


def test_a_second_request_does_not_move_the_step(join):
    members = join(2).members
    for member in members:
        member.begin_steps(3)
    members[0].ask_to_stop()
    first, second = _in_all(members, lambda member: _train(member, 3))
    members[1].ask_to_stop()  # the hub decides again, for a later step
    _in_all(members, lambda member: member.compare("answers have arrived", {}, WAIT))
    assert first == second and all(member.stops_at(first) for member in members)


def test_a_process_that_has_left_does_not_delay_the_decision(join):
    members = join(2).members
    members[0].begin_steps(3)
    members[1].leave()
    members[0].ask_to_stop()
    assert _train(members[0], 3) >= 4


def test_a_new_run_forgets_where_the_last_one_stopped(join):
    (member,) = join(1).members
    member.begin_steps(3)
    member.ask_to_stop()
    last = _train(member, 3)
    member.begin_steps(last)
    assert not member.stops_at(last)


def test_the_process_ends_with_status_1_and_one_line_whatever_its_main_thread_does():
    code = (
        "import threading, time\nfrom lga_jax.processes.member import end_process\n"
        "threading.Thread(target=end_process, args=('process 1 of 2 is gone',)).start()\ntime.sleep(600)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=WAIT)
    assert (done.returncode, done.stderr.strip()) == (1, "error: process 1 of 2 is gone")
