"""A JupyterLab server of our own: settings, signatures and notebooks in a directory, and its kernels end with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import nbformat
from nbformat.sign import NotebookNotary

from tests.notebook.chromium import end_session, wait_until

TOKEN = "secret"


class Lab:
    """JupyterLab on a port of the loopback device; ``url`` is where."""

    def __init__(self, directory: Path) -> None:
        self._directory, self._log = directory, directory / "lab.log"
        self._notebooks, self._data = directory / "notebooks", directory / "data"
        self._notebooks.mkdir()
        self._data.mkdir()
        self.url = ""

    def add(self, name: str, notebook: Any, *, trusted: bool) -> None:
        """Save a notebook; a trusted one is signed, as one that was run here is."""
        path = self._notebooks / f"{name}.ipynb"
        notebook.metadata["called"] = name  # or both were the same, and trusted
        nbformat.write(notebook, path)
        if trusted:
            notary = NotebookNotary(data_dir=str(self._data))
            notary.sign(nbformat.read(path, nbformat.NO_CONVERT))
            notary.store.close()

    def __enter__(self) -> Self:
        running = self._directory / "running"
        settings = self._directory / "settings" / "@jupyterlab" / "apputils-extension"
        settings.mkdir(parents=True)
        # It asks on the page whether it may look for news on the net.
        quiet = {"fetchNews": "false", "checkForUpdates": False}
        (settings / "notification.jupyterlab-settings").write_text(json.dumps(quiet))
        environment = {
            **os.environ,
            "HOME": str(self._directory),
            "JUPYTER_CONFIG_DIR": str(self._directory / "config"),
            "JUPYTER_DATA_DIR": str(self._data),
            "JUPYTER_RUNTIME_DIR": str(running),
            "JUPYTERLAB_SETTINGS_DIR": str(self._directory / "settings"),
            "JUPYTERLAB_WORKSPACES_DIR": str(self._directory / "workspaces"),
        }
        options = [
            "--no-browser", "--port=0", "--ServerApp.ip=127.0.0.1", f"--IdentityProvider.token={TOKEN}",
            f"--ServerApp.root_dir={self._notebooks}", "--LabApp.expose_app_in_browser=True",
            "--LabApp.extension_manager=readonly", *(["--allow-root"] if os.geteuid() == 0 else []),
        ]  # fmt: skip
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "jupyterlab", *options],
                cwd=self._notebooks,
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            wait_until(lambda: list(running.glob("jpserver-*.json")), self._process, self._log)
            (told,) = running.glob("jpserver-*.json")
            wait_until(lambda: told.read_text().endswith("}"), self._process, self._log)
            self.url = json.loads(told.read_text())["url"]
        except BaseException:
            end_session(self._process)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        end_session(self._process)

    def page_of(self, name: str) -> str:
        """Where a notebook is shown, with nothing beside it."""
        return f"{self.url}doc/tree/{name}.ipynb?token={TOKEN}&reset"
