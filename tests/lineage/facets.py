"""Facets of an emitted event as the classes that OpenLineage generates from its JSON schema: a member that these do not have,
or lack, is a TypeError.
"""

from __future__ import annotations

from collections.abc import Mapping

from openlineage.client.facet_v2 import column_lineage_dataset as generated


def column_lineage(facet: Mapping) -> generated.ColumnLineageDatasetFacet:
    members = {name: value for name, value in facet.items() if not name.startswith("_")}
    assert facet["_schemaURL"] == generated.ColumnLineageDatasetFacet._get_schema()
    return generated.ColumnLineageDatasetFacet(
        fields={name: _fields(one) for name, one in members.pop("fields").items()},
        dataset=[_input(one) for one in members.pop("dataset")],
        **members,
    )


def _fields(one: Mapping) -> generated.Fields:
    return generated.Fields(**{**one, "inputFields": [_input(source) for source in one["inputFields"]]})


def _input(one: Mapping) -> generated.InputField:
    transformations = [generated.Transformation(**how) for how in one["transformations"]]
    return generated.InputField(**{**one, "transformations": transformations})
