"""Worker processes as loky starts them: they do not import the main module, and have an environment of their own.

loky's own processes come with its resource tracker, a process that has joblib loaded: 22 MB beside each set of workers. Ours
need none but the standard library's, which loky starts as well.
"""

from __future__ import annotations

import os
import sys
from io import BytesIO
from multiprocessing import process, reduction, resource_tracker, spawn, util
from multiprocessing.context import SpawnContext, SpawnProcess, set_spawning_popen
from multiprocessing.popen_spawn_posix import Popen
from typing import Any

from joblib.externals.loky.backend.fork_exec import fork_exec

__all__ = ["LoneContext"]


class LoneContext(SpawnContext):
    """Of the standard library's start method ``spawn``, but for the main module and the environment.

    Args:
        env: what workers have beside this process's environment.
    """

    def __init__(self, env: dict[str, str]) -> None:
        super().__init__()
        self._env = env

    def Process(self, **options: Any) -> SpawnProcess:  # type: ignore[override]  # noqa: N802 - as multiprocessing calls it
        return _LoneProcess(self._env, **options)


class _LoneProcess(SpawnProcess):
    def __init__(self, env: dict[str, str], **options: Any) -> None:
        super().__init__(**options)
        self.env = env

    @staticmethod
    def _Popen(process_obj: Any) -> Popen:  # noqa: N802 - as multiprocessing calls it
        return _Started(process_obj)

    def __reduce__(self) -> Any:
        # As the standard library's, so that the worker has no need of this module.
        return object.__new__, (SpawnProcess,), vars(self)


class _Started(Popen):
    """The standard library's, which offers nobody to leave the main module out, or to have another environment."""

    def _launch(self, process_obj: Any) -> None:
        tracker: Any = resource_tracker.getfd()
        inherited: list[int] = self._fds  # type: ignore[attr-defined]
        given = self._pickled(process_obj)
        sentinel, its_end = os.pipe()
        its_input, our_end = os.pipe()
        self.finalizer = util.Finalize(self, util.close_fds, [sentinel, our_end])  # type: ignore[attr-defined]
        self.sentinel: int = sentinel
        try:
            command = spawn.get_command_line(tracker_fd=tracker, pipe_handle=its_input)
            command[0] = os.fsdecode(spawn.get_executable())
            self.pid: int = fork_exec(command, [*inherited, tracker, its_input, its_end], env=process_obj.env)
            with open(our_end, "wb", closefd=False) as pipe:
                pipe.write(given)
        finally:
            os.close(its_input)
            os.close(its_end)

    def _pickled(self, process_obj: Any) -> memoryview:
        """What the worker reads first: how it is to be, and what it is to do."""
        file = BytesIO()
        set_spawning_popen(self)
        try:
            reduction.dump(_preparation(process_obj.name), file)
            reduction.dump(process_obj, file)
        finally:
            set_spawning_popen(None)
        return file.getbuffer()


def _preparation(name: str) -> dict[str, Any]:
    """As ``multiprocessing`` has it, but for the main module and for the start method of processes that the worker starts."""
    spawn._check_not_importing_main()  # type: ignore[attr-defined]
    directory: Any = process.ORIGINAL_DIR  # type: ignore[attr-defined]
    return {
        "log_to_stderr": util._log_to_stderr,  # type: ignore[attr-defined]
        "authkey": process.current_process().authkey,
        "name": name,
        "sys_path": [directory if path == "" and directory is not None else path for path in sys.path],
        "sys_argv": sys.argv,
        "orig_dir": directory,
        "dir": os.getcwd(),
        **({} if util._logger is None else {"log_level": util._logger.getEffectiveLevel()}),  # type: ignore[attr-defined]
    }
