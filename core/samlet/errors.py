"""The one exception that means "the user can fix this"."""


class UserError(ValueError):
    """A mistake in the user's input, told in one sentence that names the remedy.

    Command lines and servers show the sentence alone, without a traceback.
    """
