"""Whole jobs and the command line."""

from mien.models.errors import MienError


class JobError(MienError):
    """A job that cannot start: what is wrong with the command line, the output or the engine."""


class JobStoppedError(JobError):
    """A job that began and could not end, such as on a full disk: what it had not done is left to the next run."""
