"""Facets of an emitted event as the classes that OpenLineage generates from its JSON schema.

A member that is unknown or missing raises a TypeError.
"""

from __future__ import annotations

from collections.abc import Mapping

from openlineage.client.facet_v2 import column_lineage_dataset as generated


def column_lineage(facet: Mapping) -> generated.ColumnLineageDatasetFacet:
    members = {name: value for name, value in facet.items() if not name.startswith("_")}
    assert facet["_schemaURL"] == generated.ColumnLineageDatasetFacet._get_schema()
    return generated.ColumnLineageDatasetFacet(
        fields={name: _fields(field) for name, field in members.pop("fields").items()},
        dataset=[_input(source) for source in members.pop("dataset")],
        **members,
    )


def _fields(field: Mapping) -> generated.Fields:
    return generated.Fields(**{**field, "inputFields": [_input(source) for source in field["inputFields"]]})


def _input(source: Mapping) -> generated.InputField:
    transformations = [generated.Transformation(**how) for how in source["transformations"]]
    return generated.InputField(**{**source, "transformations": transformations})
