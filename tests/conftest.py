"""What holds for all tests."""

import signal

# What a shell puts in the background ignores Ctrl-C, and so would the commands to which tests send one.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
