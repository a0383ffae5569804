"""JSON and TOML from outside as typed values: whatever does not fit its type exactly is refused in one line, with the path of the field.

The types are msgspec's; the words are ours.
"""

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Annotated, Generic, TypeAlias, TypeVar

import msgspec
from msgspec import Meta
from msgspec import inspect as kinds

from act2see.core.errors import Act2SeeError, StoreError
from act2see.storage.codec import JSON, TOO_LARGE, parse_json, shown

Number: TypeAlias = Annotated[float, Meta(gt=-TOO_LARGE, lt=TOO_LARGE)]
"""A finite number."""
Amount: TypeAlias = Annotated[float, Meta(ge=0, lt=TOO_LARGE, extra={"words": "a number that is not negative"})]
"""A finite number that is not negative: seconds, dollars."""
Count: TypeAlias = Annotated[int, Meta(ge=0, le=2**53, extra={"words": "a count (0 to 2^53)"})]
"""A whole number of things."""

_T = TypeVar("_T")


# Types from JSON that is not trusted


class JsonReader(Generic[_T]):
    """Reads JSON texts into a type whose objects have exactly its fields, and refuses everything that `parse_json` refuses."""

    def __init__(self, kind: type[_T], prepare: Callable[[JSON], JSON] = lambda value: value) -> None:
        self._kind, self._prepare = kind, prepare
        self._decoder, self._encoder = msgspec.json.Decoder(kind), msgspec.json.Encoder()

    def read(self, content: bytes) -> _T:
        """Raises `StoreError`. `prepare` is asked first about a value that is not right at once, and may refuse it in its own words.

        msgspec reads the text in one go, but takes the last of two equal keys, whole numbers of any length for numbers, and no lone surrogates, which
        a tokenizer that cuts a character in two brings into a trace. So its word counts where the text has as many strings as what it read, and no
        long row of digits; all else goes the exact way.
        """
        try:
            found = self._decoder.decode(content)
        except (msgspec.MsgspecError, UnicodeError):
            return converted(self._prepare(parse_json(content)), self._kind)
        if _quotes(content) == _quotes(self._encoder.encode(found)) and _DIGITS not in content.translate(_AS_NINES):
            return found
        return converted(self._prepare(parse_json(content)), self._kind)


_AS_NINES = bytes.maketrans(b"0123456789", b"9" * 10)
_DIGITS = b"9" * 20
"""The least whole number beyond 64 bits has as many. Names of files may have them too: they lose nothing but time."""


def _quotes(content: bytes) -> int:
    """How many quotes begin and end the strings of a JSON text: a key that comes twice brings at least two more than are read."""
    if b"\\" in content:
        content = content.replace(b"\\\\", b"").replace(b'\\"', b"")
    return content.count(b'"')


def converted(value: object, kind: type[_T], where: str = "", raises: type[Act2SeeError] = StoreError) -> _T:
    """A JSON or TOML value as a type. Raises an error with the path of the field that does not fit; `where` goes before the path.

    A `Struct` decides itself whether it may have further fields; a dataclass has exactly its own.
    """
    if is_dataclass(kind) and isinstance(value, dict):
        known = [field.name for field in fields(kind)]
        for unknown in value.keys() - set(known):
            raise raises(f"{where}: unknown field {shown(unknown)}; known are {', '.join(known)}".removeprefix(": "))
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise raises(_refusal(error, value, kind, where)) from error
    except UnicodeError as error:  # msgspec puts a name into its message, which it cannot where half a character is in it
        raise raises(f"{where}: {error}" if where else str(error)) from error


# What is wrong, in words

_AT = re.compile(r"\.(\w+)|\[(\d+|\.\.\.)\]")
_GOT = re.compile(r"Expected `[^`]*`, got `(\w+)`")
_NAME = re.compile(r"Object (contains unknown|missing required) field `(.*)`", re.DOTALL)
_JSON_TYPES: Mapping[str, type] = {"null": type(None), "bool": bool, "int": int, "float": float, "str": str, "array": list, "object": dict}
_WORDS: tuple[tuple[type[kinds.Type] | tuple[type[kinds.Type], ...], str], ...] = (
    (kinds.StrType, "a text"),
    (kinds.IntType, "a whole number"),
    (kinds.FloatType, "a number"),
    (kinds.BoolType, "true or false"),
    ((kinds.ListType, kinds.VarTupleType), "a list"),
    ((kinds.StructType, kinds.DataclassType, kinds.DictType), "an object"),
)


def _refusal(error: msgspec.ValidationError, value: object, kind: type, where: str) -> str:
    """In one line: the path of the field, what it holds, and what is expected there. `where` goes before the path."""
    said, _, at = str(error).partition(" - at `$")
    node: kinds.Type | None = kinds.type_info(kind)
    got = _GOT.match(said)
    path = ""
    for name, index in _AT.findall(at):
        tags, node = _tags(node), _narrowed(node, value)
        if index == "...":  # msgspec does not say under which key of a map: the first whose value has the type that it got, or is out of bounds
            inner = node.value_type if isinstance(node, kinds.DictType) else None
            entries = value if isinstance(value, Mapping) else {}
            refused = (key for key, one in entries.items() if (type(one) is _JSON_TYPES.get(got[1]) if got else _is_out_of_bounds(one, inner)))
            key = next(refused, "…")
            node, value, path = inner, entries.get(key), f"{path}.{key}"
        elif index:
            node, value, path = _item(node, int(index)), value[int(index)] if isinstance(value, Sequence) else None, f"{path}[{index}]"
        else:
            is_tag = isinstance(node, kinds.StructType) and node.tag_field == name
            held = value.get(name) if isinstance(value, Mapping) else None
            node, value, path = kinds.LiteralType(tags) if is_tag else _field(node, name), held, f"{path}.{name}"
    node = _narrowed(node, value)
    place = ": ".join(filter(None, (where, path.removeprefix("."))))
    if found := _NAME.match(said):
        what = f"unknown field {shown(found[2])}; known are {_fields(node)}" if "unknown" in found[1] else f"the field {shown(found[2])} is missing"
        return f"{place}: {what}" if place else what
    if isinstance(node, kinds.LiteralType):
        return f"{place} is {shown(value)}; known are {', '.join(map(str, node.values))}"
    return f"{place} is {shown(value)} where {_words(node)} is expected" if place else f"{shown(value)} where {_words(node)} is expected"


def _tags(node: kinds.Type | None) -> tuple[str, ...]:
    """By which the types of a union are told apart."""
    return tuple(str(one.tag) for one in node.types if isinstance(one, kinds.StructType)) if isinstance(node, kinds.UnionType) else ()


def _narrowed(node: kinds.Type | None, value: object) -> kinds.Type | None:
    """Of several types the one that the value is meant to be of."""
    if isinstance(node, kinds.UnionType):
        others = [one for one in node.types if not isinstance(one, kinds.NoneType)]
        tag = value.get("type") if isinstance(value, dict) else None
        return next((one for one in others if isinstance(one, kinds.StructType) and one.tag is not None and one.tag == tag), others[0])
    return node


def _is_out_of_bounds(value: object, node: kinds.Type | None) -> bool:
    if isinstance(node, kinds.Metadata):
        return _is_out_of_bounds(value, node.type)
    if not isinstance(node, kinds.IntType | kinds.FloatType) or not isinstance(value, int | float):
        return False
    bounds = ((node.ge, operator.ge), (node.gt, operator.gt), (node.le, operator.le), (node.lt, operator.lt))
    return any(bound is not None and not holds(value, bound) for bound, holds in bounds)


def _field(node: kinds.Type | None, name: str) -> kinds.Type | None:
    known = node.fields if isinstance(node, kinds.StructType | kinds.DataclassType) else ()
    return next((one.type for one in known if one.encode_name == name), None)


def _item(node: kinds.Type | None, index: int) -> kinds.Type | None:
    if isinstance(node, kinds.Metadata):
        return _item(node.type, index)
    if isinstance(node, kinds.TupleType):
        return node.item_types[index]
    return node.item_type if isinstance(node, kinds.ListType | kinds.VarTupleType) else None


def _fields(node: kinds.Type | None) -> str:
    return ", ".join(one.encode_name for one in node.fields) if isinstance(node, kinds.StructType | kinds.DataclassType) else ""


def _words(node: kinds.Type | None) -> str:
    if isinstance(node, kinds.Metadata):
        return str((node.extra or {}).get("words") or _words(node.type))
    if isinstance(node, kinds.TupleType):
        return f"a list of {len(node.item_types)}"
    return next((words for kind, words in _WORDS if isinstance(node, kind)), "another value")
