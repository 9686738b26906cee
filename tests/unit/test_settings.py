"""Settings: where they come from, what is refused, and what is never shown."""

from __future__ import annotations

import traceback

import pytest
from pydantic import ValidationError

from coordinator.errors import ConfigurationError
from coordinator.models import ACL
from coordinator.security import TLS, Auth, Sasl
from coordinator.settings import Settings

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


# -- tls, sasl, acl


@pytest.fixture
def pem(tmp_path):
    """A file that is there; what is in it, is looked at when it is used."""
    path = tmp_path / "some.pem"
    path.write_text("")
    return path


@pytest.mark.parametrize("word", ["true", "1", "yes", "on"])
def test_tls_by_a_word(word, monkeypatch):
    """As the system believes, host names verified."""
    monkeypatch.setenv("COORDINATOR_TLS", word)
    assert Settings().tls == TLS() == Settings.make(tls=True).tls
    assert TLS().verify_hostname


@pytest.mark.parametrize("given", [False, 0, "no", "false"])
def test_no_tls_by_a_word(given, monkeypatch, pem):
    """An argument switches off what the environment switches on."""
    monkeypatch.setenv("COORDINATOR_TLS__CA", str(pem))
    assert Settings.make().tls is not None
    assert Settings.make(tls=given).tls is None


@pytest.mark.parametrize("by", ["environment", "argument"])
def test_true_does_not_silently_overrule_the_rest(by, monkeypatch, pem):
    """Nobody shall believe that his authority is used when it is not."""
    monkeypatch.setenv("COORDINATOR_TLS__CA", str(pem))
    if by == "environment":
        monkeypatch.setenv("COORDINATOR_TLS", "true")
    with pytest.raises(ConfigurationError, match="without COORDINATOR_TLS__CA"):
        Settings.make(tls=True if by == "argument" else None)


def test_the_environment_reaches_into_tls_and_sasl(monkeypatch, pem):
    """By two underscores; a password of digits, or of braces, is one."""
    monkeypatch.setenv("COORDINATOR_TLS__CA", str(pem))
    monkeypatch.setenv("COORDINATOR_TLS__VERIFY_HOSTNAME", "false")
    monkeypatch.setenv("COORDINATOR_SASL__USERNAME", "bob")
    for password in ("12345", '{"a": 1}', "null", "true"):
        monkeypatch.setenv("COORDINATOR_SASL__PASSWORD", password)
        settings = Settings.make()
        assert settings.tls == TLS(ca=pem, verify_hostname=False)
        assert settings.sasl.password.get_secret_value() == password


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("tls", {"ca": "/not/there"}, "tls.ca: /not/there is not there"),
        ("tls", {"certificate": "/"}, "tls.certificate: / is no file"),
        ("tls", {"key": "PEM"}, "a key needs its certificate"),
        ("tls", {"key_password": SECRET}, "key_password is for the key of a certificate"),
        ("tls", {"cafile": "PEM"}, "tls.cafile"),
        ("tls", 5, "tls: "),
        ("tls", SECRET, "tls: "),
        ("sasl", {"username": "bob"}, "sasl.password"),
        ("sasl", {"username": "", "password": SECRET}, "sasl.username"),
        ("sasl", {"username": "bob", "password": ""}, "sasl.password"),
        ("sasl", {"username": "a", "password": SECRET, "mechanism": "GSSAPI"}, "unknown mechanism GSSAPI:"),
        ("sasl", {"username": "a", "password": "b", "mechanism": SECRET}, "unknown mechanism: DIGEST-MD5 is"),
        ("acl", "everybody", "acl: expected"),
        ("acl", [], "acl has no entries"),
        ("acl", [("world", "anyone")], "acl takes"),
        ("acl", "world:anyone:xyz", "letters of 'cdrwa'"),
        ("acl", "creator", "needs somebody to be"),
        ("acl", "read", "needs somebody to be"),
    ],
)
def test_what_is_wrong_about_security_is_refused(name, value, words, pem):
    """Before anything is sent, in words that show no secret."""
    if isinstance(value, dict):
        value = {key: str(pem) if one == "PEM" else one for key, one in value.items()}
    with pytest.raises(ConfigurationError) as caught:
        Settings.make(**{name: value})
    assert words in str(caught.value)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("who", ["auth", "sasl", "tls"])
def test_whoever_is_somebody_may_be_the_creator(who, pem):
    """By a credential, by SASL, by a certificate; trusting somebody is not being somebody."""
    given = {
        "auth": "digest:alice:secret",
        "sasl": Sasl(username="bob", password="secret"),
        "tls": TLS(certificate=pem),
    }
    assert Settings.make(**{who: given[who]}, acl="creator").identified
    assert not Settings.make(tls=TLS(ca=pem)).identified


def test_an_acl_from_the_environment(monkeypatch):
    """A word, or entries; a colon may stand in an id."""
    monkeypatch.setenv("COORDINATOR_ACL", "digest:alice:x9+z=:cdrwa world:anyone:r")
    assert Settings().acl == (ACL("digest", "alice:x9+z="), ACL("world", "anyone", "r"))
    monkeypatch.setenv("COORDINATOR_ACL", "open")
    assert Settings().acl == "open"


@pytest.mark.parametrize(
    "show", [str, repr, lambda one: one.model_dump_json(), lambda one: str(one.model_dump())]
)
def test_secrets_of_tls_and_sasl_are_not_shown(show, pem):
    """In no form that ends up in a log."""
    shown = show(
        Settings(
            sasl=Sasl(username="bob", password=SECRET),
            tls=TLS(certificate=pem, key_password=SECRET),
        )
    )
    assert "bob" in shown
    assert SECRET not in shown


def test_ids_of_an_acl_are_not_shown():
    """That of a digest is made of a password."""
    settings = Settings(acl=[ACL("digest", f"alice:{SECRET}")])
    assert SECRET not in repr(settings) + str(settings)
