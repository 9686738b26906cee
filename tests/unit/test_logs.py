"""What kazoo logs, without what must stay secret, whatever the level."""

from __future__ import annotations

import logging
from binascii import hexlify

import pytest
from kazoo.loggingsupport import BLATHER
from kazoo.protocol import serialization as jute
from kazoo.protocol.states import ZnodeStat
from kazoo.security import ACL, Id

from coordinator.engine.logs import kazoo_logger

SECRET = "hunter2-secret"
BYTES = SECRET.encode()
ENTRIES = [ACL(31, Id("digest", f"alice:{SECRET}"))]
STAT = ZnodeStat(1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1)

ARGUMENTS = [
    jute.Create("/a", BYTES, ENTRIES, 0),
    jute.Create2("/a", BYTES, ENTRIES, 0),
    jute.SetData("/a", BYTES, -1),
    jute.SetACL("/a", ENTRIES, -1),
    jute.Transaction([jute.Create("/a", BYTES, ENTRIES, 0), jute.SetData("/a", BYTES, -1)]),
    jute.Auth(0, "digest", f"alice:{SECRET}"),
    jute.SASL(BYTES),
    jute.Connect(0, 0, 10000, 5, BYTES, False),
    hexlify(BYTES),
    BYTES,
    bytearray(BYTES),
    (BYTES, STAT),
    [SECRET, BYTES],
    {"data": BYTES},
    {SECRET},
]
LEVELS = [BLATHER, logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR]


@pytest.fixture
def lines(caplog):
    """Everything is on, and what was written is returned as text."""
    caplog.set_level(1, logger=kazoo_logger.name)
    return lambda: caplog.text


@pytest.mark.parametrize("level", LEVELS, ids=logging.getLevelName)
@pytest.mark.parametrize("argument", ARGUMENTS, ids=lambda one: type(one).__name__)
def test_no_secret_gets_through(lines, argument, level):
    """Neither data nor credentials nor a session's password, as text or in hex."""
    kazoo_logger.log(level, "Sending request(xid=%s): %s %r", 5, argument, argument)
    assert "Sending request(xid=5)" in lines()
    assert SECRET not in lines()
    assert hexlify(BYTES).decode() not in lines()


def test_no_secret_gets_through_as_a_named_argument(lines):
    """Python takes a mapping for %(name)s."""
    kazoo_logger.info("got %(data)s", {"data": BYTES})
    assert SECRET not in lines()


def test_the_path_gets_through(lines):
    """A log without it would be of no use."""
    kazoo_logger.debug("Sending request(xid=%s): %s", 5, jute.SetData("/a", BYTES, -1))
    assert "SetData(/a)" in lines()


def test_numbers_and_short_texts_get_through(lines):
    """Hosts, ports, states, times."""
    kazoo_logger.info("Connecting to %s(%s):%s, use_ssl: %r", "zk1", "10.0.0.1", 2181, False)
    assert "Connecting to zk1(10.0.0.1):2181, use_ssl: False" in lines()


def test_errors_get_through(lines):
    """Why a connection was dropped."""
    kazoo_logger.warning("Connection dropped: %s", OSError("reset by peer"))
    assert "Connection dropped: OSError: reset by peer" in lines()


def test_a_message_without_arguments_gets_through(lines):
    """As it is, with a percent sign in it."""
    kazoo_logger.info("ZK loop started 100%")
    assert "ZK loop started 100%" in lines()


def test_a_number_is_formatted_as_one(lines):
    """%0.3f needs a number, not its name."""
    kazoo_logger.debug("took %0.3f s, %d left", 1.5, 3)
    assert "took 1.500 s, 3 left" in lines()
