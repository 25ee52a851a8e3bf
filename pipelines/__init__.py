"""Whole jobs and the command line."""

from mien.models.errors import MienError


class JobError(MienError):
    """A job that cannot start, or stopped: what is wrong with the command line, the output or the engine."""
