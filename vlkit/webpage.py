"""What web pages to try a model on share: the address they listen at, and how they are served."""

import os
from dataclasses import dataclass
from typing import Any, Literal

from vlkit.errors import UserError

LARGEST_UPLOAD = "10mb"


@dataclass(frozen=True, kw_only=True)
class PageOptions:
    """Where a page is served, and on which device its model runs."""

    host: str = "127.0.0.1"
    """address to listen at; 0.0.0.0 shows the page to the whole network"""
    port: int = 7860
    """port to listen at"""
    device: Literal["cpu", "cuda", "mps"] | None = None
    """where to run; the GPU where there is one"""

    def __post_init__(self) -> None:
        if not 1 <= self.port <= 65535:
            raise ValueError(f"port = {self.port}, expected 1 to 65535")


def serve(page: Any, options: PageOptions, what: str) -> None:
    """Serves a page (gradio Blocks) until it is interrupted. UserError where the address is taken."""
    # The page often runs without a network: nothing is asked of the internet.
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    try:
        page.launch(
            server_name=options.host,
            server_port=options.port,
            max_file_size=LARGEST_UPLOAD,
            show_error=True,
            quiet=True,
            prevent_thread_lock=True,
        )
    except OSError as error:
        raise UserError(f"cannot listen at {options.host}:{options.port} ({error}); name another --port") from error
    print(f"http://{options.host}:{options.port} shows {what}; Ctrl-C ends it", flush=True)  # noqa: T201
    page.block_thread()
