"""The exceptions a user is meant to see, each as one line and an exit status."""

BAD_INPUT = 2
CANCELLED = 3


class BadInput(Exception):
    """Something the user can mend: the message says what is wrong, where, and what to do.

    The command line prints it as one line and exits with status 2 (`BAD_INPUT`); anything else is a
    bug and keeps its traceback.
    """


class WorkFailed(RuntimeError):
    """Work in other processes or jobs came to nothing, for reasons of its own or of the machine.

    The message begins with the cause in one line; then it says where the logs lie, and how they
    end. The command line prints it instead of its own traceback, and exits with status 1.
    """


class Cancelled(Exception):
    """A person ended the work, such as with scancel: the message says who.

    The command line prints it as one line and exits with status 3 (`CANCELLED`): whoever repeats
    what died leaves this alone. The same command, given by a person, goes on.
    """
