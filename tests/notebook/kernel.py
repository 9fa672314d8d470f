"""A real kernel, in a process of its own, spoken to over its own protocol; run as a program, as its client keeps sockets.

Prints a line for each message of a picture: its type, its display id, and whether there is HTML; then what cells printed.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from jupyter_client.manager import KernelManager


def main(cells: list[str]) -> None:
    kernel: Any = KernelManager(kernel_name="python3")
    kernel.start_kernel()
    client = kernel.blocking_client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=60)
        for cell in cells:
            if cell == "restart":
                kernel.restart_kernel(now=True)
                client.wait_for_ready(timeout=60)
            else:
                run(client, cell)
    finally:
        client.stop_channels()
        kernel.shutdown_kernel(now=True)


def run(client: Any, cell: str) -> None:
    request, deadline, busy = client.execute(cell), time.monotonic() + 60, True
    while busy and time.monotonic() < deadline:
        message = client.get_iopub_msg(timeout=60)
        kind, content = message["msg_type"], message["content"]
        if kind in ("display_data", "update_display_data"):
            data, shown = content["data"], content["transient"].get("display_id", "")
            html = data.get("text/html", "")
            print(kind, shown, "html" if html else "plain", len(html), "no longer" in html, flush=True)
        elif kind == "stream":
            print("said", content["text"].strip(), flush=True)
        elif kind == "error":
            print("error", content["ename"], content["evalue"], flush=True)
        busy = not (
            kind == "status"
            and content["execution_state"] == "idle"
            and message["parent_header"].get("msg_id") == request
        )


if __name__ == "__main__":
    main(sys.argv[1:])
