"""The one exception a user can cause."""

__all__ = ["InputError"]


class InputError(ValueError):
    """The user's data or options are wrong.

    The message says what must hold, what was found and where, and what to do about it.
    The command line prints it in one line and exits with status 2; every other exception
    is a defect of `scarce`.
    """
