"""The locks of optional parts fit the main lock, because they are installed in the same environment."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OPTIONAL_LOCKS = ("include/lakehouse/requirements.lock", "include/bigquery/requirements.lock")


def pins(lock: str) -> dict[str, str]:
    """Version by package."""
    return dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / lock).read_text(), flags=re.MULTILINE))


@pytest.mark.parametrize("lock", OPTIONAL_LOCKS)
def test_no_package_of_the_main_lock_changes_its_version(lock):
    main, optional = pins("local/requirements.lock"), pins(lock)
    assert {
        name: (main[name], version) for name, version in optional.items() if main.get(name, version) != version
    } == {}
    assert optional.keys() - main.keys(), "The lock adds no package: install this part with the main lock."


def test_lakehouse_and_bigquery_fit_each_other():
    lakehouse, bigquery = map(pins, OPTIONAL_LOCKS)
    assert {name for name in lakehouse.keys() & bigquery.keys() if lakehouse[name] != bigquery[name]} == set()


@pytest.mark.parametrize("package", ["pyiceberg", "duckdb", "google-cloud-bigquery", "tableauhyperapi", "sqlglot"])
def test_the_main_lock_has_no_package_of_an_optional_part(package):
    assert package not in pins("local/requirements.lock")
