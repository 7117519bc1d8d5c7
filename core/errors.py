"""What a command can end with besides success: the user's mistake, a run that had to stop, one that was told to."""


class UserError(Exception):
    """The user's mistake, as one sentence: what, where, how to mend. The command line prints it and exits with 2."""


class RunError(Exception):
    """A run that had to stop (the loss is NaN, the disk is full), as one sentence; the command line exits with 1."""


class Preempted(Exception):
    """A run that was told to stop (SIGTERM, Ctrl-C) and wrote a checkpoint; the command line exits with 75."""
