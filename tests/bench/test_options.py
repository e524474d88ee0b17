"""Options of benchmarks that would fail or give meaningless results are refused before anything starts."""

from __future__ import annotations

import pytest

from bench import flat_cost, sparse, volume


def test_catch_up_needs_a_lake_as_large_as_its_larger_backlog(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["bench", "--rows", "10000", "1000000", "--parts", "minute", "catch-up"])
    with pytest.raises(SystemExit):
        flat_cost.main()
    assert "The part catch-up needs a lake of at least 3000000 rows." in capsys.readouterr().err


def test_a_sparse_history_has_an_event_in_each_minute(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["sparse", "--rows", "100", "--minutes", "101"])
    with pytest.raises(SystemExit):
        sparse.main()
    assert "--rows must be at least --minutes" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["", "absent.csv"])
def test_a_volume_without_a_file_is_refused(monkeypatch, capsys, tmp_path, name):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["volume", "--file", name])
    with pytest.raises(SystemExit):
        volume.main()
    assert "is not a file. Name one with --file (make: FILE=)" in capsys.readouterr().err
