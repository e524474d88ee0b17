"""Rules of the packet filter are marked, and none is left behind; a fake replaces iptables."""

from __future__ import annotations

import shlex
import subprocess

import pytest

from tests.faults import partition

OTHERS = ["-P INPUT ACCEPT", "-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT"]
RULES = partition.rules("127.0.0.2", 7000, 30_001)


class Filter:
    """Keeps rules as iptables does, and refuses to add more than `max_rules`."""

    def __init__(self, max_rules: int = 99) -> None:
        self.lines = list(OTHERS)
        self.calls: list[list[str]] = []
        self._max_rules = max_rules

    def run(self, command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        self.calls.append(command)
        action, rule = command[2], command[3:]
        if action == "-I":
            if len(self.lines) - len(OTHERS) >= self._max_rules:
                return subprocess.CompletedProcess(command, 4, "", "Permission denied")
            self.lines.append(shlex.join(["-A", *rule]))
        elif action == "-D":
            self.lines.remove(shlex.join(["-A", *rule]))
        return subprocess.CompletedProcess(command, 0, "\n".join(self.lines), "")


@pytest.fixture
def fake_iptables(monkeypatch):
    def make(**options: int) -> Filter:
        packet_filter = Filter(**options)
        monkeypatch.setattr(partition.subprocess, "run", packet_filter.run)
        monkeypatch.setattr(partition, "problem", lambda: None)
        return packet_filter

    return make


def test_the_rules_apply_during_the_block_and_every_call_waits_for_the_lock(fake_iptables) -> None:
    packet_filter = fake_iptables()
    with partition.applied(RULES):
        assert [shlex.split(line)[1:] for line in packet_filter.lines[len(OTHERS) :]] == RULES
    assert packet_filter.lines == OTHERS
    assert all(call[:2] == ["iptables", "-w"] for call in packet_filter.calls)


def test_a_refused_rule_leaves_none_of_the_others(fake_iptables) -> None:
    packet_filter = fake_iptables(max_rules=1)
    with pytest.raises(partition.Refused, match="Permission denied"), partition.applied(RULES):
        pytest.fail("The body must not run.")
    assert packet_filter.lines == OTHERS


def test_the_rules_of_a_killed_run_are_removed_and_those_of_others_stay(fake_iptables) -> None:
    packet_filter = fake_iptables()
    packet_filter.lines += [shlex.join(["-A", *rule]) for rule in RULES]
    partition.remove_rules()
    assert packet_filter.lines == OTHERS


def test_a_rule_that_cannot_be_removed_is_reported(fake_iptables, monkeypatch) -> None:
    packet_filter = fake_iptables()
    packet_filter.lines += [shlex.join(["-A", *RULES[0]])]
    keep = subprocess.CompletedProcess([], 0, packet_filter.lines[-1], "")
    monkeypatch.setattr(partition.subprocess, "run", lambda *_, **__: keep)
    with pytest.raises(partition.Refused, match="Remove them by hand"):
        partition.remove_rules()
