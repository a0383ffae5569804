"""Wrong arguments of a tool in one line: which argument, what was received, and what is allowed."""

from collections.abc import Mapping, Sequence

from pydantic import ValidationError

from act2see.storage.codec import JSON, shown

_NAMES = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false", "null": "null"}


def unknown_argument(schema: Mapping[str, JSON], arguments: Mapping[str, object]) -> str | None:
    """What is wrong with the names of a call's arguments; None if a tool with this JSON schema has all of them."""
    properties = _object(schema.get("properties"))
    unknown = next((name for name in arguments if name not in properties), None)
    return None if unknown is None else f"there is no argument {shown(unknown)}; the arguments are {', '.join(properties)}"


def first_problem(schema: Mapping[str, JSON], error: ValidationError) -> str:
    """The first problem that pydantic found, told by the tool's JSON schema."""
    found = error.errors(include_url=False, include_context=False)[0]
    name, *places = found["loc"]
    wanted = _object(_object(schema.get("properties")).get(str(name)))
    label = str(name)
    for place in places:
        if isinstance(place, int):  # else the name of a branch of a union
            label, wanted = f"{label}[{place}]", _object(wanted.get("items"))
    if found["type"] == "missing":
        return f"{label} is missing; it must be {_words(wanted)}"
    value = found["input"]
    if isinstance(value, str | list) and len(value) > 100:
        received = f"{'a text' if isinstance(value, str) else 'a list'} of length {len(value)}"
    else:
        received = shown(value)
    return f"{label} is {received}; it must be {_words(wanted)}"


def _words(schema: Mapping[str, JSON]) -> str:
    """What a JSON schema allows, to follow "it must be"."""
    options = schema.get("anyOf")
    if isinstance(options, Sequence) and not isinstance(options, str):
        return " or ".join(_words(_object(one)) for one in options)
    kind = str(schema.get("type"))
    if kind == "array":
        most = f"at most {schema['maxItems']} entries" if "maxItems" in schema else "any length"
        return f"a list of {most}, each {_words(_object(schema.get('items')))}"
    if kind == "null":
        return "null"
    text = f"a {_NAMES[kind]}" if kind in ("string", "integer", "number") else _NAMES.get(kind, kind)
    if "maxLength" in schema:
        text += f" of at most {schema['maxLength']} characters"
    if "minimum" in schema and "maximum" in schema:
        text += f" from {_number(schema['minimum'])} to {_number(schema['maximum'])}"
    return text


def _number(value: JSON) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _object(value: object) -> Mapping[str, JSON]:
    return value if isinstance(value, Mapping) else {}
