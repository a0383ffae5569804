"""`act2see serve`: questions over HTTP, in the protocol of OpenAI's chat completions."""

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from act2see.cli.exits import ANSWERED, INTERRUPTED
from act2see.cli.options import Options
from act2see.cli.output import complain, show_progress
from act2see.config import ServeConfig, SettingsFile

if TYPE_CHECKING:
    from act2see.serving.service import Service


def serve(
    *,
    settings: Annotated[ServeConfig, Parameter(name="*")] = ServeConfig(),
    option: Options = (),
    config: SettingsFile = None,
) -> int:
    """Answer questions over HTTP: an OpenAI-compatible server whose answers carry their steps, frames and cost.

    SIGTERM and Ctrl-C refuse new questions, finish the running ones and exit with 0; a second one gives them up.
    """
    del config, option  # the parser has applied both
    from act2see.core.naming import importing

    with importing("act2see serve"):
        import python_multipart  # noqa: F401 - starlette asks for it at the first upload only

        from act2see.serving.serve import serve as run

    if settings.ray is not None:
        return _on_ray(settings)

    def ready(address: str, service: "Service") -> None:
        complain(f"serving {service.model_name} on {address}/v1 ({service.answers.workers} at once); Ctrl-C ends")

    with show_progress(transient=True) as progress:
        return ANSWERED if run(settings, ready, progress) else INTERRUPTED


def _on_ray(settings: ServeConfig) -> int:
    from act2see.core.naming import importing

    with importing("act2see serve --ray", "ray-serve"):
        from act2see.serving.replicas import serve as run

    def ready(address: str, model: str) -> None:
        complain(f"serving {model} on {address}/v1 (replicas: {settings.replicas or 1}, each {settings.workers} at once); Ctrl-C ends")

    complain("starting Ray Serve and loading the models")
    return ANSWERED if run(settings, ready) else INTERRUPTED
