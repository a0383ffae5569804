"""The page of act2see ui, in Gradio. All that it shows comes from `desk.py`; here are only the components and what connects them."""

import os
from collections.abc import Callable, Iterator
from html import escape
from importlib.resources import files
from pathlib import Path

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read by the import below

import gradio as gr
from starlette.middleware import Middleware

from act2see.config import UiConfig
from act2see.core.errors import ConfigError
from act2see.evaluation.conversation import load_models
from act2see.execution.progress import ProgressCallback
from act2see.report.fragments import styles
from act2see.serving.gate import own_names
from act2see.serving.room import Room
from act2see.serving.ui.desk import Desk, Pane, Screen, suggestions
from act2see.serving.ui.gate import PageGate, size_below
from act2see.serving.workspace import workspace

_SCOPE = ".act2see"
_FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "DejaVu Sans", "sans-serif")
_MONO = ("ui-monospace", "DejaVu Sans Mono", "monospace")
_COLOURS = {
    "button_primary_background_fill": "#0b6178",
    "button_primary_background_fill_hover": "#094d60",
    "button_primary_text_color": "#ffffff",
    "button_primary_background_fill_dark": "#74c3d6",
    "button_primary_background_fill_hover_dark": "#9ad6e4",
    "button_primary_text_color_dark": "#16171a",
    "body_background_fill": "#fbfaf7",
    "body_background_fill_dark": "#16171a",
    "block_background_fill_dark": "#1d1f23",
    "input_background_fill_dark": "#24272c",
    "block_label_text_color": "#4d4a44",
    "block_title_text_color": "#4d4a44",
    "block_label_text_color_dark": "#e9e7e2",
    "block_title_text_color_dark": "#e9e7e2",
    "body_text_color_subdued": "#66625a",
    "body_text_color_subdued_dark": "#a4a19a",
}
"""As the report's."""
_CSS = """
.gradio-container { max-width: 76rem !important; margin: 0 auto !important; padding: 1.25rem !important; }
.gradio-container main { padding: 0 !important; }
.gradio-container .html-container { padding: 0 !important; }
#head h1 { font-size: 1.5rem; font-weight: 650; margin: 0; } #head p { margin: 0.1rem 0 0; color: var(--body-text-color-subdued); }
#message:not(:has(p)), #answer-1:not(:has(p, .call)), #answer-2:not(:has(p, .call)), footer { display: none !important; }
#message p { margin: 0; }
#answer-1, #answer-2 { gap: 1.25rem; }
#timeline .timeline { padding-inline: 0.4rem; }
button:disabled { opacity: 0.55; }
/* Trimming would load a program from elsewhere. */
#player .icon-button-wrapper button:not([aria-label="Clear"]) { display: none; }
@media (max-width: 40rem) { .gradio-container { padding: 0.75rem !important; } }
"""


def serve(settings: UiConfig, on_ready: Callable[[str], None], progress: ProgressCallback | None = None) -> None:
    """Load the models and serve the page until the process is interrupted. `on_ready` receives the address. Raises what loading the models raises."""
    with workspace() as folder:
        # Gradio keeps uploads and downloads here; the folder is deleted at the end, or by the next server.
        os.environ["GRADIO_TEMP_DIR"] = str(folder)
        room = Room.of(settings.max_disk_mb, settings.max_upload_mb, copies=1, held=lambda: size_below(folder))
        desk = Desk(settings, load_models(settings, progress=progress), folder)
        page = build(desk)
        address = launch(page, desk, room)
        try:
            on_ready(address)
            page.block_thread()
        finally:
            page.close(verbose=False)


def launch(page: gr.Blocks, desk: Desk, room: Room) -> str:
    """Start the server in a thread and return its address: no share link, no analytics, no fonts from elsewhere. Raises `ConfigError`."""
    settings = desk.settings
    gate = Middleware(PageGate, own_names(settings.host, settings.proxy_host), desk.folder, room, settings.max_upload_mb * 2**20, desk.sweep)
    theme = gr.themes.Base(primary_hue="teal", neutral_hue="stone", font=_FONTS, font_mono=_MONO).set(**_COLOURS)
    try:
        _, address, _ = page.launch(
            server_name=settings.host,
            server_port=settings.port or None,
            share=False,
            quiet=True,
            inbrowser=settings.open,
            prevent_thread_lock=True,
            show_error=False,
            max_file_size=settings.max_upload_mb * 2**20,
            enable_monitoring=False,
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
            run_history=False,
            app_kwargs={"middleware": [gate]},
            footer_links=[],
            theme=theme,
            css=_CSS + styles(_SCOPE, ".dark"),
            js=files("act2see.serving.ui").joinpath("page.js").read_text(encoding="utf-8"),
        )
    except OSError as error:
        raise ConfigError(f"cannot listen on {settings.host}:{settings.port}: {error}; give another --port, or --port 0 for a free one") from error
    return str(address)


def build(desk: Desk) -> gr.Blocks:
    """The page for the visitors of a desk."""
    clips = suggestions()
    with gr.Blocks(title="act2see", analytics_enabled=False) as page:
        gr.HTML("<h1>act2see</h1><p>Ask about a video. The model looks again while it reasons.</p>", elem_id="head")
        message = gr.HTML(elem_id="message", elem_classes="act2see")
        with gr.Row():
            with gr.Column(scale=5, min_width=320):
                video = gr.Video(sources=["upload"], label="Video", elem_id="player", height=340, buttons=[], include_audio=True)
                clip = gr.Radio([one.file for one in clips], label="Or a bundled clip", elem_id="clips")
                timeline = gr.HTML(elem_id="timeline", elem_classes="act2see")
            with gr.Column(scale=4, min_width=320):
                question = gr.Textbox(label="Question", placeholder="Where can the cross be seen?", max_lines=3, elem_id="question")
                choices = gr.Textbox(label="Choices, one a line (optional)", lines=3, max_lines=8, elem_id="choices")
                compare = gr.Checkbox(label="Also ask without looking, beside it", elem_id="compare")
                with gr.Row():
                    ask = gr.Button("Ask", variant="primary", scale=2, min_width=120, elem_id="ask")
                    stop = gr.Button("Stop", min_width=80, elem_id="stop")
                with gr.Row():
                    report = gr.DownloadButton("Download report", size="sm", min_width=120, elem_id="report", interactive=False)
                    traces = gr.DownloadButton("Download traces", size="sm", min_width=120, elem_id="traces", interactive=False)
        with gr.Row():
            panes = [_pane("answer-1"), _pane("answer-2")]
        shown = [message, timeline, report, traces, *(part for parts in panes for part in parts)]

        def changed(screen: Screen, before: Screen | None = None) -> list[object]:
            return list(_changed(screen, before))

        def opened(path: str | None, request: gr.Request) -> list[object]:
            try:
                return changed(desk.visitor(_key(request)).open(Path(path)) if path else Screen())
            except ConfigError as error:  # no upload: sent by something else than the page
                return changed(Screen(str(error)))

        def picked(name: str, request: gr.Request) -> list[object]:
            screen, path = desk.visitor(_key(request)).open_bundled(name)
            one = next(one for one in clips if one.file == name)
            return [str(path), one.question, "\n".join(one.choices), *changed(screen)]

        def cleared(request: gr.Request) -> list[object]:
            desk.visitor(_key(request)).close()
            return [None, *changed(Screen())]

        def asked(question: str | None, choices: str | None, both: bool, request: gr.Request) -> Iterator[list[object]]:
            before = None
            for screen in desk.visitor(_key(request)).ask(question or "", choices or "", compare=both):
                yield changed(screen, before)
                before = screen

        def stopped(request: gr.Request) -> None:
            desk.visitor(_key(request)).stop()

        def left(request: gr.Request) -> None:
            desk.leave(_key(request))

        quiet: dict[str, object] = {"api_visibility": "private", "show_progress": "hidden"}
        video.upload(opened, video, shown, **quiet)
        video.clear(cleared, None, [clip, *shown], **quiet)
        clip.input(picked, clip, [video, question, choices, *shown], **quiet)
        gr.on(
            [ask.click, question.submit],
            asked,
            [question, choices, compare],
            shown,
            concurrency_limit=1,
            concurrency_id="model",
            trigger_mode="once",
            api_visibility="private",
            show_progress="minimal",
            show_progress_on=[message],
        )
        stop.click(stopped, None, None, queue=False, **quiet)
        page.unload(left)
    page.queue(max_size=desk.settings.queue, api_open=False)
    return page


def _pane(name: str) -> tuple[gr.HTML, gr.HTML, gr.HTML]:
    """The parts of one answer. A style hides them while they are empty: components that become visible may miss values that follow at once."""
    with gr.Column(min_width=320, elem_id=name):
        answer = gr.HTML(elem_id=f"{name}-answer", elem_classes="act2see")
        reasoning = gr.HTML(elem_id=f"{name}-reasoning", elem_classes="act2see")
        words = gr.HTML(elem_id=f"{name}-words", elem_classes="act2see")
    return answer, reasoning, words


def _changed(screen: Screen, before: Screen | None) -> Iterator[object]:
    """The page's new values in the order of its components; what has not changed is not sent again."""

    def new(value: object, old: object) -> object:
        return gr.skip() if before is not None and value == old else value

    old = before or Screen()
    message = f'<p class="warning" role="status">{escape(screen.message)}</p>' if screen.message else ""
    yield new(message, message if old.message == screen.message else None)
    yield new(screen.timeline, old.timeline)
    for path, was in ((screen.report, old.report), (screen.traces, old.traces)):
        yield (
            gr.skip()
            if before is not None and path == was
            else gr.DownloadButton(value=None if path is None else str(path), interactive=path is not None)
        )
    for number in range(2):
        now, then = (one.panes[number] if number < len(one.panes) else Pane() for one in (screen, old))
        yield from (new(now.answer, then.answer), new(now.reasoning, then.reasoning), new(now.words, then.words))


def _key(request: gr.Request) -> str:
    """The session's own random name."""
    if not request.session_hash:
        raise ConfigError("the page has no session: load it again")
    return str(request.session_hash)
