"""The page itself, in Gradio, and how it is served: by this machine alone, with nothing from elsewhere."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from cut_tf.common.errors import InputError
from cut_tf.demo.answers import Answer, Answers
from cut_tf.demo.batch import COLUMNS
from cut_tf.demo.models import Models
from cut_tf.demo.pictures import SHRINKS, Limits

if TYPE_CHECKING:
    import gradio

THIS_MACHINE = "127.0.0.1"
# Of users' pictures and results: how often old ones are looked for, and how old they may become.
_CLEAN_EVERY_SEC, _KEEP_SEC = 600, 3600
_USERS_AT_ONCE, _MOST_WAITING = 8, 64
_HEAD = """# Before and after

Pictures stay on the machine that serves this page. Nothing is kept for longer than about an hour.
"""
# A browser takes nothing from any other server, and sends nothing to one, whatever the page's code may ask for.
_POLICY = b"default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'"


def import_gradio() -> ModuleType:
    """Gradio, with its reports of usage switched off before its import.

    Raises:
      InputError: with advice, if it is not installed.
    """
    os.environ.update(GRADIO_ANALYTICS_ENABLED="False", HF_HUB_DISABLE_TELEMETRY="1")
    try:
        import gradio
    except ImportError as error:
        raise InputError(f"the demo needs Gradio: pip install 'cut_tf[demo]' ({error})") from error
    return gradio


def build_page(models: Models, limits: Limits, folder: Path) -> gradio.Blocks:
    """The page; `launch` serves it.

    Args:
      models: what the page offers.
      limits: of pictures and batches.
      folder: for users' files, which exists.

    Raises:
      InputError: if Gradio is not installed.
    """
    gr = import_gradio()
    os.environ["GRADIO_TEMP_DIR"] = str(folder)  # components read it when they are made
    answers = Answers(models, limits, folder)
    with gr.Blocks(title="cut_tf: before and after", analytics_enabled=False,
                   delete_cache=(_CLEAN_EVERY_SEC, _KEEP_SEC)) as page:
        gr.Markdown(_HEAD)
        with gr.Row():
            model = gr.Dropdown(models.names, value=models.names[0], label="model", elem_id="model")
            strength = gr.Slider(0, 1, 1, step=0.05, label="strength", elem_id="strength",
                                 info="0 is the picture itself, 1 the model's output")
            shrinks = gr.Checkbox(False, label=SHRINKS, elem_id="shrinks",
                                  info=f"those of more than {limits.pixels} pixels are refused otherwise")
        with gr.Tab("One picture"):
            _add_one_picture(gr, answers, model, strength, shrinks)
        with gr.Tab("Many pictures"):
            _add_batch(gr, answers, limits, model, strength, shrinks)
    page.queue(default_concurrency_limit=_USERS_AT_ONCE, max_size=_MOST_WAITING)
    return page


def _add_one_picture(gr: ModuleType, answers: Answers, model: object, strength: object, shrinks: object) -> None:
    last = gr.State(None, time_to_live=_KEEP_SEC)
    with gr.Row():
        with gr.Column(scale=1):
            file = gr.File(label="picture: drop it here", elem_id="picture", height=140)
            text = gr.Textbox(label="result", interactive=False, lines=2, elem_id="result")
            download = gr.DownloadButton("Download the result", interactive=False, elem_id="download")
        with gr.Column(scale=3):
            pair = gr.ImageSlider(label="before | after", format="png", interactive=False, max_height=640,
                                  elem_id="pair")

    def shown(answer: Answer) -> tuple[object, ...]:
        path = answer.download
        button = gr.DownloadButton(value=None if path is None else str(path), interactive=path is not None)
        return answer.pair, answer.text, button, answer.translation

    shows = [pair, text, download, last]
    gr.on([file.change, model.change, shrinks.change], lambda *values: shown(answers.picture(*values)),
          [file, model, strength, shrinks], shows, api_visibility="private", trigger_mode="always_last")
    strength.release(lambda *values: shown(answers.blended(*values)), [last, strength], shows,
                     api_visibility="private", trigger_mode="always_last")


def _add_batch(gr: ModuleType, answers: Answers, limits: Limits, model: object, strength: object,
               shrinks: object) -> None:
    with gr.Row():
        with gr.Column(scale=1):
            files = gr.File(label=f"up to {limits.batch_files} pictures: drop them here", file_count="multiple",
                            elem_id="pictures", height=240)
            start = gr.Button("Translate all", variant="primary", elem_id="start")
        with gr.Column(scale=3):
            text = gr.Textbox(label="result", interactive=False, elem_id="batch_result")
            rows = gr.Dataframe(headers=list(COLUMNS), datatype="str", interactive=False, wrap=True, elem_id="rows",
                                column_widths=["22%", "14%", "14%", "50%"])
            download = gr.DownloadButton("Download the zip", interactive=False, elem_id="download_zip")

    # Gradio finds the progress bar by this default.
    def translate(paths: list[str] | None, name: str, share: float, makes_smaller: bool,
                  progress: gradio.Progress = gr.Progress()) -> tuple[object, ...]:  # noqa: B008
        answer = answers.batch(paths, name, share, makes_smaller, lambda done, total, current: progress(
            (done, total), desc=current, unit="pictures"))
        path = answer.download
        return answer.text, answer.rows, gr.DownloadButton(value=None if path is None else str(path),
                                                           interactive=path is not None)

    start.click(translate, [files, model, strength, shrinks], [text, rows, download], api_visibility="private")


def launch(page: gradio.Blocks, limits: Limits, port: int | None = None, host: str | None = THIS_MACHINE) -> str:
    """Serves the page; returns its address at once. `page.block_thread()` then waits, `page.close()` ends it.

    Args:
      page: of `build_page`.
      limits: of files.
      port: None for the first free one from 7860 on.
      host: whose address is served; None for what GRADIO_SERVER_NAME says, as hosts of pages set it.

    Raises:
      InputError: if the port is not free.
    """
    from starlette.middleware import Middleware

    gr = import_gradio()
    # Gradio asks its own server whether it is up, and must not ask a proxy.
    for name in ("no_proxy", "NO_PROXY"):
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), THIS_MACHINE, "localhost"]))
    try:
        _, address, _ = page.launch(
            server_name=host, server_port=port, prevent_thread_lock=True, share=False, quiet=True, inbrowser=False,
            max_file_size=limits.file_bytes, footer_links=[], run_history=False, enable_monitoring=False,
            ssr_mode=False, pwa=False, mcp_server=False, app_kwargs={"middleware": [Middleware(_OwnServerOnly)]},
            theme=gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"]))
    except OSError as error:
        raise InputError(f"--port must be free on {host or 'this machine'}, found {port or 'none'} in use") from error
    return address


class _OwnServerOnly:
    """Adds _POLICY to every answer."""

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self._app = app

    async def __call__(self, scope: MutableMapping[str, Any], receive: Callable[..., Awaitable[Any]],
                       send: Callable[..., Awaitable[None]]) -> None:
        async def send_with_policy(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), (b"content-security-policy", _POLICY)]
            await send(message)

        await self._app(scope, receive, send_with_policy)
