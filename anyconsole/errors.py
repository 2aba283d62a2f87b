"""The errors an operator reads: each says what was tried, on which host or in which file, what came back and what to do."""

__all__ = ["AnyconsoleError", "JournalError", "LabError", "LoadError", "ProfileError"]


class AnyconsoleError(Exception):
    """Anything that is told to the user in one line instead of a traceback; the command line exits with 2."""


class ProfileError(AnyconsoleError):
    """A profile that can't be used. The message names file, key, value and the nearest valid key."""


class LabError(AnyconsoleError):
    """The lab can't be built, found or changed."""


class JournalError(AnyconsoleError):
    """The journal can't be written or read. Nothing may be changed that isn't journalled."""


class LoadError(AnyconsoleError):
    """A load test that can't be prepared, driven or read back. The message names the generator's host or the file."""
