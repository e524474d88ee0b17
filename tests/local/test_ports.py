"""Ports: where they come from, and the error when one is taken."""

import os
import socket

import pytest

from local import ports
from local.problems import Problem
from local.process import free_port


@pytest.fixture(autouse=True)
def ports_file(tmp_path, monkeypatch):
    monkeypatch.setattr(ports, "PORTS_FILE", tmp_path / "ports")
    return tmp_path / "ports"


def test_the_environment_beats_the_file_and_the_file_beats_the_defaults(ports_file):
    ports_file.write_text("# mine\nAIRFLOW_PORT=8181\nMARIADB_PORT=3307\n")
    result = ports.chosen({"MARIADB_PORT": "3308"})
    assert (result["AIRFLOW_PORT"], result["MARIADB_PORT"], result["CASSANDRA_PORT"]) == (8181, 3308, 9042)


def test_a_saved_choice_is_the_next_default():
    ports.save(ports.chosen({"AIRFLOW_PORT": "8181"}))
    assert ports.chosen({})["AIRFLOW_PORT"] == 8181


@pytest.mark.parametrize("value", ["http", "80", "70000", "-1"])
def test_a_value_that_is_not_a_port_is_refused_with_its_variable(value):
    with pytest.raises(Problem, match=f"AIRFLOW_PORT={value} is not a port"):
        ports.chosen({"AIRFLOW_PORT": value})


def test_two_names_may_not_share_a_port():
    with pytest.raises(Problem, match="are both 9042"):
        ports.chosen({"AIRFLOW_PORT": "9042"})


def test_a_misspelt_name_in_the_file_is_refused(ports_file):
    ports_file.write_text("AIRFLOWPORT=1\n")
    with pytest.raises(Problem, match="AIRFLOWPORT is not a port variable"):
        ports.chosen({})


def test_a_taken_port_is_reported_with_its_holder_and_a_remedy():
    with socket.create_server(("127.0.0.1", 0)) as holder:
        taken = holder.getsockname()[1]
        with pytest.raises(Problem) as caught:
            ports.require_free({"AIRFLOW_PORT": taken}, ["AIRFLOW_PORT"])
    assert f"Port {taken} (AIRFLOW_PORT)" in str(caught.value)
    assert f"process {os.getpid()}" in caught.value.found
    assert "with another port: AIRFLOW_PORT=" in caught.value.remedy


def test_no_free_port_is_given_twice_in_one_process():
    given = [free_port() for _ in range(2000)]
    assert len(set(given)) == 2000
