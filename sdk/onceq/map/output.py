"""Structured answers: the schema that is asked for, the check of what came, and the columns that it becomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import import_module
from typing import Any, Final, cast

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from onceq._http import refusal
from onceq._structured import asked_of, format_of
from onceq.errors import ConfigurationError

OWN: Final = ("status", "cost_usd", "ttft_s", "tokens", "job_id", "error", "sample")
"""Columns of every map, beside the answer's."""
Schema = type[BaseModel] | Mapping[str, Any]
Column = tuple[str, str]
"""A name and the kind of its values: integer, number, boolean, string, date-time, date, or any."""
MOMENTS: Final = ("date-time", "date")
_KINDS: Final = ("integer", "number", "boolean", "string")


class OutputMismatch(ValueError):  # noqa: N818 - told in the row, never raised to a caller
    """Why an answer is not what was asked for."""


class Text:
    """Answers as they are written."""

    fields: Mapping[str, Any] = {}
    columns: Sequence[Column] = (("text", "string"),)

    def parse(self, text: str) -> Any:
        """The text itself."""
        return text

    def cells(self, value: Any) -> Sequence[Any]:
        """One column."""
        return (value,)


class Structured:
    """Answers that are JSON of a schema: one column a property, or `value` where it is no object."""

    def __init__(self, schema: Mapping[str, Any], name: str) -> None:
        root = _resolved(schema, schema)
        properties: Mapping[str, Any] = root.get("properties") or {}
        self._names = list(properties) if root.get("type") == "object" and properties else None
        shapes = properties if self._names is not None else {"value": schema}
        self.columns: Sequence[Column] = [(key, _kind(shape, schema)) for key, shape in shapes.items()]
        taken = [key for key, _ in self.columns if key in OWN]
        if taken:
            raise refusal(f"the output has a field {taken[0]!r}, which is a column of every map: give it another name.")
        self.fields: Mapping[str, Any] = {"response_format": format_of(schema, name)}

    def parse(self, text: str) -> Any:
        """The value. Raises OutputMismatch."""
        raise NotImplementedError

    def cells(self, value: Any) -> Sequence[Any]:
        """The value as JSON has it, a cell a column."""
        if value is None:
            return [None] * len(self.columns)
        plain = self._plain(value)
        return [plain] if self._names is None else [plain.get(name) for name in self._names]

    def _plain(self, value: Any) -> Any:
        return value

    def _fitting(self, value: Any, text: str) -> Any:
        """The value, when each cell fits into its column, whatever the frame. Raises OutputMismatch."""
        for (name, kind), cell in zip(self.columns, self.cells(value), strict=True):
            if kind == "integer" and isinstance(cell, int) and not -(2**63) <= cell < 2**63:
                raise OutputMismatch(_mismatch(f"{name}: the number has more than 64 bits", 0, text))
            if kind in MOMENTS and moment(cell) is None and cell is not None:
                raise OutputMismatch(_mismatch(f"{name}: {cell!r} is no {kind}", 0, text))
        return value


class ModelOutput(Structured):
    """Answers that a pydantic model checks; a row's value is an instance."""

    def __init__(self, model: type[BaseModel]) -> None:
        super().__init__(*asked_of(model))
        self._model = model

    def parse(self, text: str) -> BaseModel:
        """An instance. Raises OutputMismatch."""
        try:
            value = self._model.model_validate_json(text)
        except ValidationError as exc:
            first, *more = exc.errors(include_url=False)
            where = ".".join(map(str, first["loc"])) or "the answer"
            raise OutputMismatch(_mismatch(f"{where}: {first['msg']}", len(more), text)) from exc
        return self._fitting(value, text)

    def _plain(self, value: Any) -> Any:
        return cast("BaseModel", value).model_dump(mode="json", by_alias=True)


class SchemaOutput(Structured):
    """Answers that a JSON Schema checks; a row's value is what JSON says."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        checker = _jsonschema().validators.validator_for(schema)
        try:
            checker.check_schema(schema)
        except Exception as exc:
            raise refusal(f"output is no JSON Schema: {getattr(exc, 'message', exc)}") from exc
        super().__init__(schema, "answer")
        self._checker: Any = checker(schema)

    def parse(self, text: str) -> Any:
        """The value. Raises OutputMismatch."""
        try:
            value = from_json(text, allow_inf_nan=False)
        except ValueError as exc:
            raise OutputMismatch(_mismatch(f"it is no JSON ({exc})", 0, text)) from exc
        errors = list(self._checker.iter_errors(value))
        if errors:
            where = ".".join(map(str, errors[0].absolute_path)) or "the answer"
            raise OutputMismatch(_mismatch(f"{where}: {errors[0].message}", len(errors) - 1, text))
        return self._fitting(value, text)


Output = Text | Structured


def output_of(schema: Any) -> Output:
    """How answers are read. Raises BadRequestError for what is no schema, ConfigurationError without jsonschema."""
    if schema is None:
        return Text()
    if isinstance(schema, type) and issubclass(schema, BaseModel):
        return ModelOutput(schema)
    if isinstance(schema, Mapping):
        return SchemaOutput(cast("Mapping[str, Any]", schema))
    raise refusal("output is a pydantic model (the class) or a JSON Schema (a dict).")


def moment(text: Any) -> datetime | None:
    """A date or time as JSON has it, in UTC, as which one without a zone counts; None for what is none."""
    try:
        at = datetime.fromisoformat(text)
        return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
    except (TypeError, ValueError, OverflowError):
        return None


def _mismatch(what: str, more: int, text: str) -> str:
    others = f" (and {more} more)" if more else ""
    return f"the answer does not fit the output: {what}{others}. It is: {text[:200]}"


def _jsonschema() -> Any:
    try:
        return import_module("jsonschema")
    except ImportError as exc:
        raise ConfigurationError(
            "a JSON Schema needs jsonschema to check answers: pip install 'onceq[notebook]', or pass a pydantic model."
        ) from exc


def _resolved(shape: Any, root: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema behind a $ref within the document; what is optional counts as what it is when it is there."""
    for _ in range(20):
        if not isinstance(shape, Mapping):
            break
        found = cast("Mapping[str, Any]", shape)
        ref, choices = found.get("$ref"), found.get("anyOf") or found.get("oneOf")
        if isinstance(ref, str) and ref.startswith("#/"):
            shape = _at(root, ref)
        elif isinstance(choices, list):
            real: list[Any] = [one for one in cast("list[Any]", choices) if one != {"type": "null"}]
            if len(real) != 1:
                return {}
            shape = real[0]
        else:
            return found
    return {}


def _at(root: Mapping[str, Any], ref: str) -> Any:
    found: Any = root
    for part in ref[2:].split("/"):
        found = found.get(part, {}) if isinstance(found, Mapping) else {}  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType] - any JSON
    return found  # pyright: ignore[reportUnknownVariableType]


def _kind(shape: Any, root: Mapping[str, Any]) -> str:
    found = _resolved(shape, root)
    kind: Any = found.get("type")
    if isinstance(kind, list):
        real = [one for one in cast("list[Any]", kind) if one != "null"]
        kind = real[0] if len(real) == 1 else None
    if kind == "string" and found.get("format") in MOMENTS:
        return str(found["format"])
    return str(kind) if kind in _KINDS else "any"
