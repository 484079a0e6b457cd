"""Mistakes in the command line itself."""

from model.errors import UmtError


class UsageError(UmtError):
    """The command line asks for something that cannot be meant; nothing was begun."""
