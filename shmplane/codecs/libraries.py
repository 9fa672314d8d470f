"""Libraries that come with an extra: what to install when a value needs one that is not there."""

from __future__ import annotations

__all__ = ["with_cure"]

_INSTALL = {
    "pandas": "pip install 'shmplane[pandas]'",
    "polars": "pip install 'shmplane[polars]'",
    "torch": "pip install torch",
    "ml_dtypes": "pip install ml_dtypes",
}


def with_cure(error: ModuleNotFoundError) -> ModuleNotFoundError:
    """The same error with the command that helps; of any other library, as it is."""
    library = (error.name or "").partition(".")[0]
    cure = _INSTALL.get(library)
    if cure is None:
        return error
    said = ModuleNotFoundError(f"{library} is not installed, and showing this value needs it: {cure}", name=error.name)
    return said.with_traceback(error.__traceback__)
