"""Has a fork server run the program in place of a shell's call: `fork_client.py PROGRAM ...`.

The program gets the streams, the environment and the directory of this process, which ends as it
does. The imports are few, because each call is a new process.
"""

import json
import os
import signal
import socket
import sys

DESCRIPTOR = "MEMCTL_FORK_SERVER"  # the variable with the number of the server's socket


def main() -> int:
    """Have the server run the program on the streams of this process; return its status."""
    environment = dict(os.environ)
    requests = socket.socket(fileno=int(environment.pop(DESCRIPTOR)))
    ours, theirs = socket.socketpair()
    socket.send_fds(requests, [b"run"], [0, 1, 2, theirs.fileno()])
    theirs.close()
    request = {"words": sys.argv[1:], "environment": environment, "directory": os.getcwd()}  # noqa: PTH109
    ours.sendall(json.dumps(request).encode() + b"\n")
    with ours.makefile("rb") as replies:
        replies.readline()
        return int(replies.readline())


if __name__ == "__main__":
    status = main()
    if status < 0:
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    sys.exit(status)
