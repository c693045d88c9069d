"""The error that a user can mend."""


class InputError(ValueError):
    """Something that the user gave cannot be used; the message is one line that says what to do.

    The message has the form ``<file or option>: expected <what was wanted>, got <what came>; <what to do>``.
    The command line prints it and ends with exit code 2. Any other exception is our fault and ends with 1.
    """
