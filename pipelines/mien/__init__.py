"""Finds, codes, replaces and redacts the faces of photo archives. setup.py installs this file as the package mien."""


def __getattr__(name: str) -> str:
    if name == "__version__":
        from importlib.metadata import version  # takes longer to load than `mien --help` may

        return version("mien")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
