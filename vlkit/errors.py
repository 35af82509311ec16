"""The error a user can mend: a message that names the value, the limit and the remedy."""


class UserError(ValueError):
    """A mistake in a file, an option or a configuration; the command line prints it without a traceback."""
