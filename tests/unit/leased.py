"""Runs a command under a lease that exists on the clock only, as ``coordinator run`` does under a real one.

python -m tests.unit.leased PIPE '{"lasts": 1.2, "stop_within": 1.1}' command ...

The last line on stderr tells what came of it; the exit code is that of ``coordinator run``.
"""

from __future__ import annotations

import json
import os
import sys
import threading

from coordinator.cli.child import Child, GuardLostError, OnLost
from coordinator.engine.clock import now


class Lease:
    """One that is renewed until it is said to fail: by a byte in a pipe, and then it is certain for so long.

    Args:
        pipe: a descriptor to read from; -1: it never fails.
        lasts: seconds that it is certain for.
        stop_within: seconds before its end at which it is lost.
        expires: it ends at once when it fails.
    """

    def __init__(
        self, pipe: int, lasts: float = 1.2, stop_within: float = 1.1, *, expires: bool = False
    ) -> None:
        self.stop_within = stop_within
        self._expires = expires
        self._pipe = pipe
        self._lasts = lasts
        self._fixed: float | None = None

    @property
    def end(self) -> float:
        return now() + self._lasts if self._fixed is None else self._fixed

    @property
    def remaining(self) -> float:
        return max(0.0, self.end - now())

    def wait_lost(self, timeout: float | None = None) -> bool:
        if self._pipe < 0:
            threading.Event().wait()
        os.read(self._pipe, 1)
        self._fixed = now() + (0 if self._expires else self._lasts)
        threading.Thread(target=self._tell_end, daemon=True).start()
        threading.Event().wait(self._fixed - self.stop_within - now())
        return True

    def _tell_end(self) -> None:
        threading.Event().wait(self.remaining)
        sys.stderr.write("ended\n")


def main() -> int:
    pipe, options, *command = sys.argv[1:]
    given = json.loads(options)
    on_lost: OnLost = given.pop("on_lost", "kill")
    told: dict[str, object] = {}
    try:
        with Child(command, grace=given.pop("grace", 60.0), on_lost=on_lost) as child:
            lease = Lease(int(pipe), **given)
            environment = {"COORDINATOR_LEASE_TOKEN": "7"}
            outcome = child.run(
                lease, environment, stop_within=lease.stop_within, on_loss=lambda: told.update(loss=now())
            )
            code = 121 if outcome.lost else outcome.code
    except GuardLostError as error:
        told["error"], code = str(error), 125
    except OSError as error:
        told["error"], code = f"{error.strerror}: {error.filename}", 126
    else:
        told["end"] = lease.end
    told["over"] = now()
    sys.stderr.write(json.dumps(told) + "\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
