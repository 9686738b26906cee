"""A configuration that follows its znode, checked by a pydantic model.

    python examples/config_watch.py 127.0.0.1:2181

Set the data of /config to JSON such as {"workers": 8}. Data that does not fit the model
is told and changes nothing.
"""

import signal
import sys

from pydantic import BaseModel

from coordinator import Coordinator, ZnodeUnreadable


class Config(BaseModel):
    workers: int = 4
    greeting: str = "hello"


def main(hosts: str) -> None:
    with Coordinator(hosts) as zk:
        zk.on(lambda event: print(event), ZnodeUnreadable)
        config = zk.watch("/config", model=Config)
        for znode in config.changes():
            if znode is not None:
                print(repr(znode.value))
            elif not config.exists:
                print("no configuration")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:2181")
    except KeyboardInterrupt:
        print("bye")
