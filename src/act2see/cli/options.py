"""`-o KEY=VALUE`: options specific to a benchmark or a generator, which would clutter the help of every command as flags."""

import difflib
from dataclasses import fields
from typing import Annotated

from cyclopts import App, Parameter, Token
from cyclopts.argument import Argument, ArgumentCollection

from act2see.cli.output import complain
from act2see.config import ImagineConfig
from act2see.config.models import OPTIONS
from act2see.core.errors import ConfigError

Options = Annotated[
    tuple[str, ...],
    Parameter(
        name=("--option", "-o"),
        group=OPTIONS,
        consume_multiple=False,
        negative_iterable=(),
        help="Option of the benchmark (act2see benchmarks NAME lists them) or the generator (docs/generators.md), as KEY=VALUE.",
    ),
]
_OF_GENERATORS = frozenset(one.name for one in fields(ImagineConfig))


def is_option(argument: Argument) -> bool:
    """Whether an argument is spelled `-o key=value`."""
    groups = argument.parameter.group
    return isinstance(groups, tuple) and OPTIONS in groups and argument.name != "--option"


def distribute(_app: App, _commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Assign each `-o KEY=VALUE` to its argument, after the benchmark has accepted it. Raises `ConfigError`.

    The flags that these options replace still work for one release, with a note.
    """
    option = next((one for one in arguments if one.name == "--option"), None)
    if option is None:
        return
    known = {one.name.removeprefix("--").replace("-", "_"): one for one in arguments if is_option(one)}
    for key, argument in known.items():
        if any(token.source == "cli" for token in argument.tokens):
            complain(f"note: {argument.name} is deprecated and will be removed in the next release; use -o {key}=VALUE")
    given = _parsed([token.value for token in option.tokens], known)
    named = next((token.value for one in arguments if one.name == "BENCHMARK" or one.index == 0 for token in one.tokens), None)
    for_benchmark = {key: value for key, value in given.items() if key not in _OF_GENERATORS}
    if named is not None and for_benchmark:
        from act2see.benchmarks.catalogue import parse_options

        parse_options(named, for_benchmark)
    for key, value in given.items():
        argument = known[key]
        parts = [part.strip() for part in value.split(",")] if str(argument.hint).startswith("tuple") else [value]
        for number, part in enumerate(parts):
            argument.append(Token(keyword=f"-o {key}", value=part, source="option", index=number))


def _parsed(texts: list[str], known: dict[str, Argument]) -> dict[str, str]:
    given: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        key = key.strip().replace("-", "_")
        if not equals or not key:
            raise ConfigError(f"-o {text}: give KEY=VALUE, as in -o tries=3")
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            raise ConfigError(f"-o {text}: unknown option; " + (f"did you mean {near[0]}?" if near else f"allowed: {', '.join(sorted(known))}"))
        if key in given:
            raise ConfigError(f"-o {key} is given twice")
        given[key] = value.strip()
    return given
