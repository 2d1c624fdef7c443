"""What can be said of a failure: sentences with the cure, and what exit status each kind means."""


class HarnessError(Exception):
    """Something the user can cure. The message is a sentence that says how; `exit_status` goes to the shell.

    HarnessError (3, incomplete)
    ├── UsageError (2): the command, a name, an option or a file the user gave is wrong
    ├── Full (3): the disk takes no more
    ├── Exhausted (3): memory ran out; less at a time may fit
    ├── Gone (3): a machine of a training was lost
    ├── Denied (3): who is asked lets nobody in, or the budget is spent
    └── Unexpected (70): a fault of ours; the sentence says where its traceback was written
    """

    exit_status = 3


class UsageError(HarnessError):
    """The request itself is wrong; nothing was done."""

    exit_status = 2


class Full(HarnessError):
    """What is to be stored next would fare no better, so nothing more is made."""


class Exhausted(HarnessError):
    """Memory ran out, the machine's or an accelerator's; the same with less at a time may fit."""


class Gone(HarnessError):
    """A machine of a training was lost; on others it goes on from its last checkpoint."""


class Denied(HarnessError):
    """Whoever is asked by the same judge or writer next would fare no better, so nobody asks it any more."""


class Unexpected(HarnessError):
    """An exception that no code of ours expects."""

    exit_status = 70
