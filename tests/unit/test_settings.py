"""Settings: where they come from, what is refused, and what is never shown."""

from __future__ import annotations

import traceback

import pytest
from pydantic import ValidationError

from coordinator.errors import ConfigurationError
from coordinator.settings import Auth, Settings

SECRET = "hunter2-secret"


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    """What the developer has set is not part of these tests."""
    import os

    for name in list(os.environ):
        if name.startswith("COORDINATOR_"):
            monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("given", "hosts", "servers", "chroot"),
    [
        ("zk1", "zk1:2181", [("zk1", 2181)], ""),
        ("zk1:2182", "zk1:2182", [("zk1", 2182)], ""),
        (" zk1:2181 , zk2 ", "zk1:2181,zk2:2181", [("zk1", 2181), ("zk2", 2181)], ""),
        ("zk1/", "zk1:2181", [("zk1", 2181)], ""),
        ("zk1,zk2/prod/app", "zk1:2181,zk2:2181/prod/app", [("zk1", 2181), ("zk2", 2181)], "/prod/app"),
        ("10.0.0.1:2181", "10.0.0.1:2181", [("10.0.0.1", 2181)], ""),
        ("[::1]:2182/app", "[::1]:2182/app", [("::1", 2182)], "/app"),
        ("[::1]", "[::1]:2181", [("::1", 2181)], ""),
        ("[fe80::1%eth0]:2181", "[fe80::1%eth0]:2181", [("fe80::1%eth0", 2181)], ""),
        ("zk-1.example.org.", "zk-1.example.org.:2181", [("zk-1.example.org.", 2181)], ""),
        ("my_zk:1", "my_zk:1", [("my_zk", 1)], ""),
    ],
)
def test_hosts_are_read(given, hosts, servers, chroot):
    """In their canonical form, as servers and a chroot."""
    settings = Settings(hosts=given)
    assert (settings.hosts, settings.servers, settings.chroot) == (hosts, servers, chroot)


@pytest.mark.parametrize("given", ["zk1,zk2/prod", "[::1]:2182/app", "zk1"])
def test_canonical_hosts_are_read_as_themselves(given):
    """What is shown can be given again."""
    once = Settings(hosts=given).hosts
    assert Settings(hosts=once).hosts == once


@pytest.mark.parametrize(
    "given",
    [
        "",
        ",",
        "zk1,",
        ":2181",
        "zk1:",
        "zk1:0",
        "zk1:65536",
        "zk1:-1",
        "zk1:port",
        "zk1:²",
        "zk1:21 81",
        "zk 1",
        "-zk",
        "::1",
        "::1:2181",
        "[::1",
        "[]:2181",
        "[::1]2181",
        "zk1,zk1:2181",
        "zk://zk1:2181",
        "user@zk1",
        "zk1//app",
        "zk1/app/",
        "zk1/./app",
        "zk1/../app",
        "zk1/app,zk2/app",
        "zk1/a\0b",
    ],
)
def test_malformed_hosts_are_refused(given):
    """Before anything is sent, by a message that names the setting."""
    with pytest.raises(ConfigurationError, match=r"^hosts: "):
        Settings.make(hosts=given)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("session_timeout", 0),
        ("session_timeout", -1),
        ("session_timeout", float("inf")),
        ("session_timeout", float("nan")),
        ("session_timeout", 10_000),
        ("start_timeout", -1),
        ("operation_timeout", 0),
        ("retry_first_delay", 0),
        ("retry_max_delay", 0),
        ("connect_timeout", 0),
        ("auth", "digest"),
        ("auth", "digest:alice"),
        ("auth", ":secret"),
    ],
)
def test_what_makes_no_sense_is_refused(name, value):
    """The message begins with what was wrong."""
    with pytest.raises(ConfigurationError, match=f"^{name}"):
        Settings.make(**{name: value})


def test_all_that_is_wrong_is_told_at_once():
    """Nobody has to mend one after the other."""
    with pytest.raises(ConfigurationError, match=r"hosts: .*; session_timeout: "):
        Settings.make(hosts="", session_timeout=0)


def test_delays_ascend():
    """A first delay above the greatest one is a mistake."""
    with pytest.raises(ConfigurationError, match="retry_first_delay"):
        Settings.make(retry_first_delay=2.0, retry_max_delay=1.0)


def test_an_unknown_setting_is_refused():
    """A misspelt one would be silently without effect."""
    with pytest.raises(ConfigurationError, match="session_timout"):
        Settings.make(session_timout=3.0)


def test_settings_are_frozen():
    """They are read by several threads."""
    with pytest.raises(ValidationError, match="frozen"):
        Settings().hosts = "zk2"


def test_the_environment_sets_them(monkeypatch):
    """COORDINATOR_ and the name in capitals."""
    monkeypatch.setenv("COORDINATOR_HOSTS", "zk7:2181/env")
    monkeypatch.setenv("COORDINATOR_SESSION_TIMEOUT", "4.5")
    monkeypatch.setenv("COORDINATOR_READ_ONLY", "true")
    settings = Settings()
    assert (settings.hosts, settings.session_timeout, settings.read_only) == ("zk7:2181/env", 4.5, True)


def test_an_argument_wins_over_the_environment(monkeypatch):
    """What the program says is what it means."""
    monkeypatch.setenv("COORDINATOR_HOSTS", "zk7:2181")
    assert Settings.make(hosts="zk1").hosts == "zk1:2181"


def test_an_argument_that_is_none_is_not_given(monkeypatch):
    """The environment decides then."""
    monkeypatch.setenv("COORDINATOR_HOSTS", "zk7:2181")
    assert Settings.make(hosts=None).hosts == "zk7:2181"


def test_several_credentials_come_from_the_environment(monkeypatch):
    """Separated by blanks; a colon may stand in the password."""
    monkeypatch.setenv("COORDINATOR_AUTH", "digest:alice:a:b digest:bob:c")
    shown = [(one.scheme, one.credential.get_secret_value()) for one in Settings().auth]
    assert shown == [("digest", "alice:a:b"), ("digest", "bob:c")]


def test_one_credential_may_be_given_alone():
    """Without a tuple around it."""
    assert len(Settings(auth=Auth(credential="alice:secret")).auth) == 1


def test_the_case_of_a_name_is_no_difference():
    """kazoo lowers it; a name that it never tried would be told as one that does not resolve."""
    settings = Settings(hosts="ZK1.Example:2181/App")
    assert (settings.servers, settings.chroot) == ([("zk1.example", 2181)], "/App")


@pytest.mark.parametrize(
    "show", [str, repr, lambda one: one.model_dump_json(), lambda one: str(one.model_dump())]
)
def test_secrets_are_not_shown(show):
    """In no form that ends up in a log."""
    assert SECRET not in show(Settings(auth=f"digest:alice:{SECRET}"))


@pytest.mark.parametrize(
    "given",
    [
        {"auth": f"digest:{SECRET}"},
        {"auth": f"digest:{SECRET}:"},
        {"auth": [f":{SECRET}"]},
        {"auth": [{"scheme": "", "credential": SECRET}]},
        {"auth": [{"credential": SECRET}]},
        {"auth": [{"credential": f"a:{SECRET}", "colour": "red"}], "hosts": ""},
        {"auth": f"digest:alice:{SECRET}", "session_timeout": 0},
        {"auth": f"digest:alice:{SECRET}", "retry_first_delay": 2.0},
        {"hosts": f"alice:{SECRET}@zk1:2181"},
        {"hosts": f"zk://alice:{SECRET}@zk1:2181"},
    ],
)
def test_secrets_are_not_shown_by_errors(given):
    """Neither in the message nor in the traceback with its causes."""
    with pytest.raises(ConfigurationError) as caught:
        Settings.make(**given)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_secrets_are_not_shown_by_errors_of_the_class(monkeypatch):
    """Who calls Settings() itself gets pydantic's error, without the input."""
    monkeypatch.setenv("COORDINATOR_AUTH", f"digest:{SECRET}")
    with pytest.raises(ValidationError) as caught:
        Settings()
    assert SECRET not in "".join(traceback.format_exception(caught.value))
