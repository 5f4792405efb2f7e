"""The one exception a user is meant to see."""


class BadInput(Exception):
    """Something the user can mend: the message says what is wrong, where, and what to do.

    The command line prints it as one line and exits with status 2; anything else is a bug and keeps
    its traceback.
    """
