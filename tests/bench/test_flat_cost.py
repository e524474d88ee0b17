"""Options of `make bench` that would give meaningless results are refused before anything starts."""

from __future__ import annotations

import pytest

from bench import flat_cost


def test_catch_up_needs_a_lake_as_large_as_its_larger_backlog(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["bench", "--rows", "10000", "1000000", "--parts", "minute", "catch-up"])
    with pytest.raises(SystemExit):
        flat_cost.main()
    assert "The part catch-up needs a lake of at least 3000000 rows." in capsys.readouterr().err
