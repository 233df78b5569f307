"""A JSON value that fits a schema: what the simulator answers for JSON output and for tool arguments.

`pattern`, `not`, `if` and `uniqueItems` are ignored.
"""

from __future__ import annotations

import math
import random

import msgspec

from onceq_service.simulator.ask import Schema, as_list, as_map

DEEP = 6
"""Below this depth only what is required is filled in, so that a recursive schema ends."""

MOST = 1000
"""Longest string and array made, whatever minLength and minItems ask for."""

FORMATS = {
    "date": "2026-11-23",
    "date-time": "2026-11-23T12:00:00Z",
    "time": "12:00:00Z",
    "email": "reader@example.org",
    "uri": "https://example.org/",
    "uuid": "6f1c7a52-0a4e-4a53-9a5e-3f3f6f3c9a10",
}
NAMES = ("amber", "birch", "cobalt", "dune", "ember", "fjord", "grove", "harbour", "iris", "juniper")
NO_SCHEMA: Schema = {
    "type": "object",
    "properties": {"answer": {"type": "string"}, "score": {"type": "number"}, "notes": {"type": "array"}},
}


def make_json(schema: Schema, seed: int) -> str:
    """Compact JSON text; an empty schema gives a small object."""
    dice = random.Random(seed)  # noqa: S311 - examples, not secrets
    value = _Maker(schema, dice).value(schema or NO_SCHEMA, 0)
    return msgspec.json.encode(value).decode()


class _Maker:
    def __init__(self, root: Schema, dice: random.Random) -> None:
        self.root = root
        self.dice = dice

    def value(self, schema: Schema, depth: int) -> object:
        schema = self._plain(schema, depth)
        if "const" in schema:
            return schema["const"]
        if choices := as_list(schema.get("enum")):
            return self.dice.choice(choices)
        return self._typed(_type_of(schema), schema, depth)

    def _typed(self, kind: str, schema: Schema, depth: int) -> object:
        match kind:
            case "object":
                return self._object(schema, depth)
            case "array":
                return self._array(schema, depth)
            case "integer" | "number":
                return self._number(schema, whole=kind == "integer")
            case "boolean" | "null":
                return None if kind == "null" else self.dice.random() < 0.5
            case _:
                return self._string(schema)

    def _plain(self, schema: Schema, depth: int) -> Schema:
        """The schema with references followed and one branch of each choice taken."""
        for _ in range(32):  # a reference may point at itself
            if isinstance(ref := schema.get("$ref"), str):
                schema = self._lookup(ref)
            elif branches := as_list(schema.get("anyOf")) or as_list(schema.get("oneOf")):
                schema = as_map(branches[-1 if depth >= DEEP else 0])
            elif parts := as_list(schema.get("allOf")):
                schema = _merged([schema, *map(as_map, parts)])
            else:
                break
        return schema

    def _lookup(self, ref: str) -> Schema:
        found = self.root
        for step in ref.removeprefix("#").strip("/").split("/"):
            found = as_map(found.get(step)) if step else found
        return found

    def _object(self, schema: Schema, depth: int) -> dict[str, object]:
        fields = as_map(schema.get("properties"))
        if depth >= DEEP:
            required = as_list(schema.get("required"))
            fields = {name: field for name, field in fields.items() if name in required}
        return {name: self.value(as_map(field), depth + 1) for name, field in fields.items()}

    def _array(self, schema: Schema, depth: int) -> list[object]:
        least = _whole(schema.get("minItems"), 0)
        most = max(least, _whole(schema.get("maxItems"), least + 2))
        count = least if depth >= DEEP else max(least, min(most, self.dice.randint(1, 2)))
        return [self.value(as_map(schema.get("items")) or {"type": "string"}, depth + 1) for _ in range(count)]

    def _number(self, schema: Schema, *, whole: bool) -> float:
        low, high = _range(schema)
        step = schema.get("multipleOf")
        if isinstance(step, int | float) and step > 0:
            value = -(-low // step) * step
        else:
            # Away from the ends, which may be excluded.
            value = low + (high - low) * self.dice.uniform(0.25, 0.75)
        if not whole:
            return round(value, 3) if high - low > 1 else value
        return min(max(round(value), math.ceil(low)), max(math.floor(high), math.ceil(low)))

    def _string(self, schema: Schema) -> str:
        if isinstance(form := schema.get("format"), str) and form in FORMATS:
            return FORMATS[form]
        text = self.dice.choice(NAMES) + " " + self.dice.choice(NAMES)
        text = text.ljust(_whole(schema.get("minLength"), 0), ".")
        return text[: _whole(schema.get("maxLength"), len(text))]


def _type_of(schema: Schema) -> str:
    kind = schema.get("type")
    if isinstance(kind, str):
        return kind
    for name in as_list(kind):
        if isinstance(name, str):
            return name
    return "object" if "properties" in schema else "string"


def _merged(parts: list[Schema]) -> Schema:
    """`allOf` as one schema: fields and required names united, the rest by the last to speak."""
    merged: Schema = {}
    for part in parts:
        fields = {**as_map(merged.get("properties")), **as_map(part.get("properties"))}
        required = [*as_list(merged.get("required")), *as_list(part.get("required"))]
        merged |= {key: value for key, value in part.items() if key != "allOf"}
        merged |= {"properties": fields, "required": required} if fields else {}
    return merged


def _range(schema: Schema) -> tuple[float, float]:
    low, high = _bound(schema, "minimum"), _bound(schema, "maximum")
    if low is None:
        low = 0.0 if high is None else high - 100
    return low, high if high is not None else low + 100


def _bound(schema: Schema, name: str) -> float | None:
    for key in (name, f"exclusive{name.capitalize()}"):
        if isinstance(value := schema.get(key), int | float):
            return float(value)
    return None


def _whole(value: object, otherwise: int) -> int:
    return min(value, MOST) if isinstance(value, int) else otherwise
