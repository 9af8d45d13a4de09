"""Elexon's own OpenAPI file: which operation a path calls, and whether an answer conforms to it.

The file is OpenAPI 3.0, where `nullable` and `int32` have a meaning that plain JSON Schema does not know. It calls no
field `required`, so that an answer may lack any; `lacking` tells what an answer that says everything would have.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from openapi_schema_validator import OAS30Validator, oas30_format_checker
from referencing import Registry
from referencing.jsonschema import DRAFT4

from recon_assets_tests.support.paths import DATA

Row = dict[str, Any]
FILE: dict[str, Any] = json.loads((DATA / "elexon_openapi_subset.json").read_text())
# OpenAPI 3.0 resolves references as JSON Schema's draft 4 does.
REGISTRY: Registry[Any] = Registry().with_resource("urn:elexon", DRAFT4.create_resource(FILE))
WITHOUT_EXAMPLE = {"string": "A", "boolean": False}


@dataclass(frozen=True)
class Operation:
    """A GET of the file, by its path with the parameters in braces."""

    path: str

    @property
    def statuses(self) -> set[int]:
        """The documented ones."""
        return {int(status) for status in self._operation["responses"]}

    @property
    def content_types(self) -> set[str]:
        """Those of a whole answer, without their parameters."""
        return set(self._content)

    @property
    def required_in_query(self) -> dict[str, str]:
        """The query parameters that must be given, with the file's example of each."""
        parameters = (p for p in self._operation.get("parameters", []) if p["in"] == "query" and p.get("required"))
        return {parameter["name"]: parameter["schema"]["example"] for parameter in parameters}

    @property
    def fields(self) -> dict[str, dict[str, Any]]:
        """The schemas of a row's fields."""
        return self._row["properties"]  # type: ignore[no-any-return]

    @property
    def nullable(self) -> set[str]:
        """The fields of a row that may be null."""
        return {name for name, schema in self.fields.items() if schema.get("nullable")}

    @property
    def never_null(self) -> set[str]:
        """The others."""
        return set(self.fields) - self.nullable

    def made_row(self) -> Row:
        """A row of the file's own examples: made from the schema, published nowhere."""
        return _example(self._row)  # type: ignore[no-any-return]

    def body_of(self, rows: Iterable[Row]) -> Any:
        """The rows as an answer: in an envelope, or bare."""
        return list(rows) if self._schema["type"] == "array" else {"data": list(rows), "metadata": {"datasets": []}}

    def rows_of(self, body: Any) -> list[Row]:
        """The rows of an answer."""
        return body if isinstance(body, list) else body["data"]

    def violations(self, body: Any) -> list[str]:
        """What in an answer breaks the schema, each with the place of it: `data/0/volume: ...`."""
        validator = OAS30Validator(self._reference, registry=REGISTRY, format_checker=oas30_format_checker)
        return [f"{'/'.join(map(str, error.absolute_path))}: {error.message}" for error in validator.iter_errors(body)]

    def lacking(self, rows: Iterable[Row]) -> set[str]:
        """The fields that a row lacks."""
        names = self.fields.keys()
        return {name for row in rows for name in names - row.keys()}

    @property
    def _operation(self) -> dict[str, Any]:
        return FILE["paths"][self.path]["get"]  # type: ignore[no-any-return]

    @property
    def _content(self) -> dict[str, Any]:
        return self._operation["responses"]["200"]["content"]  # type: ignore[no-any-return]

    @property
    def _schema(self) -> dict[str, Any]:
        return _resolved(self._content["application/json"]["schema"])

    @property
    def _row(self) -> dict[str, Any]:
        rows = self._schema if self._schema["type"] == "array" else self._schema["properties"]["data"]
        return _resolved(rows["items"])

    @property
    def _reference(self) -> dict[str, str]:
        pointer = self.path.replace("/", "~1").replace("{", "%7B").replace("}", "%7D")
        return {"$ref": f"urn:elexon#/paths/{pointer}/get/responses/200/content/application~1json/schema"}


OPERATIONS = [Operation(path) for path in FILE["paths"]]


def operation_of(path: str) -> Operation:
    """The operation that a path below the base calls, its query left aside; LookupError when the file has none."""
    for operation in OPERATIONS:
        if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", operation.path), path.partition("?")[0]):
            return operation
    raise LookupError(f"Elexon's OpenAPI file knows no {path}")


def telling(rows: Iterable[Row]) -> Iterator[Row]:
    """The rows that show a validator something which no row before them did.

    The schema checks every field of a row by itself: by type, by the size of an integer, by whether a text is a date. A
    row brings nothing new when each of its fields has been seen with a value that is the same in these. All of the
    170,000 recorded rows would take half a minute.
    """
    seen: set[tuple[str, Any]] = set()
    for row in rows:
        new = {(name, _facet(value)) for name, value in row.items()} - seen
        if new:
            seen |= new
            yield row


def _facet(value: Any) -> Any:
    """What the schema can tell apart: types, integers by the bits that hold them, texts that may be dates."""
    match value:
        case str() if value[:1].isdigit():
            return value
        case dict():
            return tuple((name, _facet(item)) for name, item in value.items())
        case int():
            return type(value), value.bit_length() // 32
    return type(value)


def _resolved(schema: dict[str, Any]) -> dict[str, Any]:
    return FILE["components"]["schemas"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema


def _example(schema: dict[str, Any]) -> Any:
    schema = _resolved(schema)
    if schema["type"] == "object":
        return {name: _example(field) for name, field in schema["properties"].items()}
    # The times of wind-and-solar have a blank for the T that the file's own format asks for; BM units have no examples.
    example: Any = schema["example"] if "example" in schema else WITHOUT_EXAMPLE[schema["type"]]
    return example.replace(" ", "T") if schema.get("format") == "date-time" else example
