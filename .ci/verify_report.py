"""Fails unless tests in the JUnit report passed against a ZooKeeper in a container.

The pytest plugin notes in each test that used a server where it came from, and its version. Skipped tests, a
fall-back to a child process or an empty session leave no such note.
"""

import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path


def main(report: Path) -> str | None:
    """Count the passed test cases by origin; return what is wrong."""
    if not report.exists():
        return f"there is no report at {report}"
    origins: dict[str, int] = {}
    for case in ElementTree.parse(report).iter("testcase"):  # noqa: S314 written by our own run
        if any(case.find(outcome) is not None for outcome in ("failure", "error", "skipped")):
            continue
        for note in case.iter("property"):
            if note.get("name") == "zookeeper":
                origin = note.get("value", "")
                origins[origin] = origins.get(origin, 0) + 1
    for origin, count in sorted(origins.items()):
        print(f"{count} passed tests: {origin}")
    if not any(origin.startswith("container ") for origin in origins):
        return "no passed test was served by a ZooKeeper in a container"
    if strays := [origin for origin in origins if "container " not in origin]:
        return f"tests ran against something else: {strays}"
    return None


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
