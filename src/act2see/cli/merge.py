"""`act2see merge`: merge a LoRA adapter into its base model."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from act2see.cli.exits import ANSWERED
from act2see.cli.output import say, say_json
from act2see.config import MergeConfig, SettingsFile
from act2see.core.errors import ConfigError


def merge(
    base: Annotated[str, Parameter(help="Base model of the adapter: a folder or a name on the Hub.")],
    adapter: Annotated[Path, Parameter(help="Folder of the LoRA adapter.")],
    /,
    *,
    settings: Annotated[MergeConfig, Parameter(name="*")],
    config: SettingsFile = None,
) -> int:
    """Merge a LoRA adapter into its base model; the output includes tokenizer, processors, chat template and a model card.

    `act2see ask --backend huggingface:DIR` and vLLM load the resulting folder. Ctrl-C leaves no output.
    """
    del config
    from act2see.storage.folders import check_new

    check_new(settings.out)
    try:
        from act2see.training import merge as merging
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("torch", "transformers", "peft"):
            raise
        raise ConfigError(f"merging needs {error.name}: pip install 'act2see[local]'") from error
    merged = merging.merge(base, adapter, settings.out)
    if settings.json:
        say_json({"folder": str(merged.folder), "dtype": merged.dtype, "layers": merged.layers, "difference": merged.difference})
    else:
        say(merged.folder)
    return ANSWERED
