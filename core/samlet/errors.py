"""The exception for mistakes that the user can correct."""


class UserError(ValueError):
    """A mistake in the user's input; its message is one sentence that says what to do.

    Command lines and servers show only the message, without a traceback.
    """
