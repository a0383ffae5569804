"""What made a result: the versions of what can change it, and where two sets of settings differ."""

import platform
from collections.abc import Mapping
from importlib import metadata

import act2see
from act2see.storage.codec import JSON, shown

PACKAGES = ("av", "numpy", "pillow", "torch", "transformers", "peft", "diffusers", "openai")
"""Their versions are told where they are installed."""


def library_versions() -> dict[str, str]:
    """Of act2see, Python and the packages, by name."""
    versions = {"act2see": act2see.__version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def flat(settings: Mapping[str, JSON], prefix: str = "") -> dict[str, JSON]:
    """Settings inside settings by one name each: `versions.av`."""
    found: dict[str, JSON] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found


def differences(before: Mapping[str, JSON], now: Mapping[str, JSON]) -> dict[str, tuple[str, str]]:
    """The names under which two flat sets of settings hold different values, with both as a reader is shown them."""

    def value(settings: Mapping[str, JSON], name: str) -> str:
        return shown(settings[name]) if name in settings else "not set"

    pairs = {name: (value(before, name), value(now, name)) for name in {**before, **now}}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
