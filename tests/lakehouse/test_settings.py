"""The setting that names the location of the lakehouse."""

import pytest

from include.lakehouse.settings import LakehouseError, location


@pytest.mark.parametrize("environ", [{}, {"MINUTEMARK_LAKEHOUSE": "/data/lakehouse"}])
def test_a_location_that_is_missing_or_not_a_url_is_refused_with_an_example(environ):
    with pytest.raises(LakehouseError, match=r"Set it to the folder or bucket .* such as file:///data/lakehouse"):
        location(environ)


def test_a_final_slash_is_ignored():
    assert location({"MINUTEMARK_LAKEHOUSE": "gs://bucket/lakehouse/"}) == "gs://bucket/lakehouse"
