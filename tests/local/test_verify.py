"""`make verify` from the command line, where nothing runs yet."""

import sys

import pytest

from local import __main__ as commands
from local import environment


def test_without_stores_it_gives_no_verdict(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(environment, "read", dict)
    monkeypatch.setattr(sys, "argv", ["local", "verify", "--pipeline", "recruitment"])
    assert commands.main() == 2, "1 would say that something differs."
    assert "make services" in capsys.readouterr().err
