"""Limits of users and tenants over two workers, told by posternctl, changed by reload."""
import json
import os
import sys

from harness import (HERE, HOST, Lab, PASSWORD, POSTERNCTL, Raw, TLS_NAME, USER, counter, expect, main, run, wait_until)


def load(lab, user, sessions):
    out = lab.client(sys.executable, os.path.join(HERE, "load.py"), "--host", HOST, "--ca", lab.ca,
                     "--name", TLS_NAME, "--user", user, "--password", PASSWORD, "--sessions",
                     sessions, "--messages", 1, "--aborts", 0, "--tag", user, timeout=120)
    return json.loads(out.splitlines()[-1])


def limits(lab, user):
    """{(of, measure): (used, limit)}"""
    return {(r["of"], r["measure"]): (r["used"], r["limit"])
            for r in json.loads(lab.ctl("--json", "limits", user))}


def test_sessions_on_both_workers_share_one_limit_exactly(lab):
    result = load(lab, USER, 40)
    assert len(result["acknowledged"]) == 10, len(result["acknowledged"])
    assert result["errors"] and all("450" in e or "4.7.1" in e for e in result["errors"]), \
        result["errors"][:3]
    assert counter(lab, "smtp_limited_user") == 30


def test_use_is_told_against_the_limit(lab):
    told = limits(lab, USER)
    assert told[("user", "messages")] == (10, 10), told
    assert told[("tenant", "recipients")][0] == 10, told
    assert told[("user", "sessions")] == (0, 100), told


def test_the_refusal_names_limit_user_and_time(lab):
    with Raw(lab, 465, login=True) as c:
        said = expect(c.cmd("MAIL FROM:<a@example.net>"), 450, "4.7.1")
        assert "limit of 10 messages in 24 h for user alice reached; try again in " in said, said
        ehlo = expect(c.cmd("EHLO raw.example.net"), 250)
        assert "SIZE 1048576" in ehlo and "RCPTMAX=20" in ehlo, ehlo


def test_another_user_of_the_tenant_has_his_own_limit(lab):
    assert len(load(lab, "bob", 5)["acknowledged"]) == 5
    assert limits(lab, "bob")[("tenant", "recipients")][0] == 15


def test_a_reload_raises_the_limit_for_sessions_that_are_open(lab):
    with Raw(lab, 465, login=True) as c:
        expect(c.cmd("MAIL FROM:<a@example.net>"), 450, "4.7.1")
        lab.config["limits"][0]["user"]["messages"] = "1000/d"
        lab.write_config()
        answer = json.loads(lab.ctl("--json", "reload"))
        assert answer["applied"] == ["limits[0].user.messages"], answer
        assert answer["needs_restart"] == [], answer
        expect(c.cmd("MAIL FROM:<a@example.net>"), 250)


def test_senders_own_takes_the_addresses_of_the_users_file(lab):
    run(POSTERNCTL, "user", "set", USER, "--file", lab.path("users"), "--addresses",
        "alice@corp.example,@own.example")
    listed = json.loads(run(POSTERNCTL, "--json", "user", "list", "--file", lab.path("users")))
    assert {u["name"]: u["addresses"] for u in listed}[USER] == "alice@corp.example,@own.example"
    lab.config["submission"]["senders"] = "own"
    lab.write_config()
    lab.ctl("reload")
    wait_until(lambda: lab.log().count(": 2 users") >= 1, 10, "the users file is read again")
    with Raw(lab, 465, login=True) as c:
        expect(c.cmd("MAIL FROM:<alice@other.example>"), 550, "5.7.1")
        expect(c.cmd("MAIL FROM:<any@own.example>"), 250)


if __name__ == "__main__":
    cores = [0, min(1, os.cpu_count() - 1)]
    the_lab = Lab(workers=sorted(set(cores)))
    with the_lab:
        the_lab.add_user("bob", PASSWORD)
        for name in (USER, "bob"):
            run(POSTERNCTL, "user", "set", name, "--file", the_lab.path("users"), "--tenant", "acme")
        the_lab.config["limits"] = [{
            "name": "acme", "tenants": ["acme"],
            "user": {"messages": "10/d", "sessions": 100}, "tenant": {"recipients": "1000/d"},
            "max_message_size": "1M", "max_recipients": 20}]
        the_lab.write_config()
        the_lab.start_sink(the_lab.path("arrived"))
        the_lab.start()
        sys.exit(main(__name__, the_lab))
