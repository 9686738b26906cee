"""A worker that is seen while it lives: an ephemeral that is kept across sessions.

    python examples/worker.py 127.0.0.1:2181

Kill its session or its link and watch what it prints; delete its znode and it comes back.
"""

import os
import signal
import socket
import sys

from coordinator import Coordinator, EphemeralEvent, RecoveryEvent, SessionEvent


def main(hosts: str) -> None:
    with Coordinator(hosts) as zk:
        # SIGTERM ends the stream, and with it this program, in good order.
        stream = zk.events(SessionEvent, EphemeralEvent, RecoveryEvent)
        signal.signal(signal.SIGTERM, lambda *_: stream.close())
        me = f"{socket.gethostname()}-{os.getpid()}"
        zk.ephemeral(f"/workers/{me}", b"10.0.0.5:8443")
        for event in stream:
            print(event)


if __name__ == "__main__":
    try:
        main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:2181")
    except KeyboardInterrupt:
        print("bye")
