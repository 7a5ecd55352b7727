"""The exception for mistakes that the user can correct."""


class UserError(ValueError):
    """A mistake in the user's input; its message is one sentence that says what to do.

    Command lines and servers show only the message, without a traceback.
    """


class ImageTooLargeError(UserError):
    """An image has more pixels than the limit.

    Args:
        fault: what is wrong, and what helps without another limit; without a full stop.
        remedy: how to raise the limit, where the image was read.

    Attributes:
        fault: see there.
    """

    def __init__(self, fault: str, remedy: str) -> None:
        super().__init__(f"{fault}, or {remedy}.")
        self.fault = fault
