"""Options of a run have the types that the declaration gives them."""

from __future__ import annotations

import dataclasses
from types import MappingProxyType

import pytest

from include import pipelines
from include.options import OptionRefused, json_type, options_of_run

PIPELINE = dataclasses.replace(
    pipelines.get("recruitment"), options=MappingProxyType({"recover": True, "share": 0.5, "mode": "strict"})
)


def test_an_option_that_a_run_leaves_out_has_its_default() -> None:
    assert options_of_run(PIPELINE, {"share": 1}) == ({"recover": True, "share": 1, "mode": "strict"}, False)
    assert options_of_run(PIPELINE, {"allow_shrink": True})[1] is True


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("recover", "false"),  # would be true if only its emptiness were checked
        ("recover", 0),
        ("recover", None),
        ("share", "0.5"),
        ("share", True),
        ("mode", False),
        ("allow_shrink", "no"),
        ("mode", ["strict"]),
    ],
)
def test_a_value_of_another_type_is_refused_and_the_option_is_named(name: str, value: object) -> None:
    with pytest.raises(OptionRefused, match=f"Option `{name}` is"):
        options_of_run(PIPELINE, {name: value})


def test_types_of_the_form_follow_from_the_defaults() -> None:
    assert [json_type(default) for default in (False, 3, 0.5, "x")] == ["boolean", "number", "number", "string"]
