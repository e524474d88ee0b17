"""A network partition of one node, with rules of the packet filter; all are marked, so that none is left behind."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Sequence

MARK = "minutemark-faults"
_COMMAND = ("iptables", "-w")  # waits while another program changes rules


class Refused(Exception):
    """The packet filter refuses a rule, or keeps one that must be removed; the message says which."""


def problem() -> str | None:
    """Why this machine allows no rules; None if it does."""
    if os.geteuid() != 0 or not shutil.which(_COMMAND[0]):
        return "it requires root and iptables"
    return None


def rules(host: str, port: int, group: int) -> list[list[str]]:
    """Rules that drop the node's traffic with others: packets to its port, and packets from its group to their ports."""
    to_port = ["-p", "tcp", "--dport", str(port), "-m", "comment", "--comment", MARK, "-j", "DROP"]
    return [
        ["INPUT", "-d", host, *to_port],
        ["OUTPUT", "-m", "owner", "--gid-owner", str(group), *to_port],
    ]


@contextlib.contextmanager
def applied(chosen: Sequence[Sequence[str]]) -> Iterator[None]:
    """Apply these rules during the block. Raises Refused if one is not accepted."""
    try:
        for rule in chosen:
            done = _iptables("-I", *rule)
            if done.returncode:
                raise Refused(f"iptables refuses a rule: {done.stderr.strip()}")
        yield
    finally:
        remove_rules()


def remove_rules() -> None:
    """Remove all marked rules. Raises Refused if one is left."""
    if problem():
        return
    for rule in marked_rules(_iptables("-S").stdout):
        _iptables("-D", *rule)
    if left := marked_rules(_iptables("-S").stdout):
        raise Refused(f"iptables keeps these rules: {left}. Remove them by hand.")


def marked_rules(listing: str) -> list[list[str]]:
    """The rules with our mark in the output of `iptables -S`, each as arguments of `iptables -D`."""
    appended = [shlex.split(line)[1:] for line in listing.splitlines() if line.startswith("-A ")]
    return [rule for rule in appended if MARK in rule]


def _iptables(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*_COMMAND, *arguments], capture_output=True, text=True, check=False)
