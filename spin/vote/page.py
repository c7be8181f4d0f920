"""The page that a voter sees: two pictures, three buttons. The only module that imports gradio.

It listens on 127.0.0.1 alone, and its answers forbid the browser to ask anybody else for anything.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Awaitable, Callable
from html import escape
from importlib.util import find_spec
from typing import Any, Final

from spin.core.ballots import Choice
from spin.core.errors import ConfigError
from spin.vote.booth import Booth

HOST: Final = "127.0.0.1"
_POLICY: Final = (
    "default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; frame-ancestors 'none'; form-action 'none'"
)
_HEADERS: Final = ((b"content-security-policy", _POLICY.encode()), (b"referrer-policy", b"no-referrer"))
_KEYS: Final = """
<script>
document.addEventListener("keydown", (event) => {
  const button = { "1": "left", "2": "right", "0": "neither", u: "undo" }[event.key];
  const shown = document.querySelector("#pair [data-pair]");
  if (!button || event.repeat || event.ctrlKey || event.metaKey || event.altKey || !shown) return;
  document.getElementById(button)?.click();
});
</script>
"""
_STYLE: Final = """
#pair .sides { display: flex; gap: 2rem; justify-content: center; flex-wrap: wrap; }
#pair figure { margin: 0; text-align: center; }
#pair img { width: min(42vw, 512px); height: auto; background: #8884; }
#pair img.pixels { image-rendering: pixelated; }
#pair .prompt { font-size: 1.4rem; text-align: center; margin: .5rem 0 1rem; }
#pair .done { text-align: center; font-size: 1.4rem; margin: 4rem 0; }
"""


def serve(booth: Booth, port: int, told: Callable[[str], None]) -> None:
    """Serve the page until Ctrl-C."""
    _refuse_missing()
    _refuse_taken(port)
    import uvicorn

    app = make_app(booth, port)
    told(f"http://{HOST}:{port} asks {booth.voter} about {len(booth.pairs)} pairs; Ctrl-C ends")
    uvicorn.run(app, host=HOST, port=port, log_level="warning")


def make_app(booth: Booth, port: int) -> Any:
    """The page as an application that a server can serve."""
    _refuse_missing()
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    import gradio as gr
    from fastapi import FastAPI
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(_Inside)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])  # no other site's page may vote

    return gr.mount_gradio_app(
        app, _blocks(gr, booth), path="/", server_name=HOST, server_port=port, footer_links=[], run_history=False,
        ssr_mode=False, enable_monitoring=False, show_error=False, css=_STYLE, head=_KEYS,
    )  # fmt: skip


class _Inside:
    """Adds to every answer that the browser is to ask nobody else; streams pass as they are."""

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Callable[[Any], Awaitable[None]]) -> None:
        async def mark(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_HEADERS]
            await send(message)

        await self._app(scope, receive, mark)


def _blocks(gr: Any, booth: Booth) -> Any:
    """Buttons around one piece of HTML; the pair that is seen goes along with each vote."""

    def voted(choice: Choice) -> Callable[[str], tuple[str, str, str]]:
        def vote(seen: str) -> tuple[str, str, str]:
            booth.vote(seen, choice)
            return render(booth)

        return vote

    def undo() -> tuple[str, str, str]:
        booth.undo()
        return render(booth)

    with gr.Blocks(title="Which picture?", analytics_enabled=False) as blocks:
        seen = gr.State("")
        pair, progress = gr.HTML(elem_id="pair"), gr.HTML(elem_id="progress")
        with gr.Row():
            left = gr.Button("1  Left", elem_id="left", variant="primary")
            neither = gr.Button("0  Cannot say", elem_id="neither")
            right = gr.Button("2  Right", elem_id="right", variant="primary")
        back = gr.Button("u  Undo the last vote", elem_id="undo", size="sm")
        shown = [pair, progress, seen]
        options = {"show_progress": "hidden", "api_visibility": "private", "concurrency_limit": 1}
        for button, choice in ((left, "left"), (right, "right"), (neither, "neither")):
            button.click(voted(choice), seen, shown, **options)  # type: ignore[arg-type]
        back.click(undo, None, shown, **options)
        blocks.load(lambda: render(booth), None, shown, **options)
    return blocks


def render(booth: Booth) -> tuple[str, str, str]:
    """The next pair as HTML, the progress, and the pair's key."""
    done, total, pair = booth.done, len(booth.pairs), booth.next_pair()
    progress = f"<progress max={total} value={done}></progress> {done} of {total}"
    if pair is None:
        return '<p class="done" data-pair="">All pairs have your vote. Thank you.</p>', progress, ""
    shown = booth.show(pair)
    css = ' class="pixels"' if shown.is_pixel_art else ""
    figures = "".join(
        f'<figure><img{css} src="{uri}" alt="{side} picture"><figcaption>{side}</figcaption></figure>'
        for side, uri in (("left", shown.left), ("right", shown.right))
    )
    question = f'<p class="prompt">Which picture shows this better?<br><strong>{escape(shown.prompt)}</strong></p>'
    return f'<div data-pair="{shown.key}">{question}<div class="sides">{figures}</div></div>', progress, shown.key


def _refuse_missing() -> None:
    if find_spec("gradio") is None:
        raise ConfigError("the page needs gradio", where="vote", fix='pip install "spin-diffusion[vote]"')


def _refuse_taken(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise ConfigError(f"port {port}: {error.strerror}", where="--port", fix="name a free one") from error
