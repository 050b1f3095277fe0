"""What holds for every tier."""

import signal

# A shell that runs the tests in the background has them ignore SIGINT, and so would all they
# start; that it ends what it should is tested, too.
signal.signal(signal.SIGINT, signal.default_int_handler)
