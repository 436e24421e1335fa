"""Passwords judged by an HTTP back end behind the users file: answers, outages, caches, limits."""
import base64
import json
import os
import re
import sys
import time

from harness import HERE, PASSWORD, USER, Lab, Raw, counter, expect, main, run, wait_until

PORT = 8025
USERS = {
    "carol": {"password": "looking-glass", "answer": {
        "tenant": "acme", "addresses": ["carol@example.net", "@sales.example.net"]}},
    "dave": {"password": "jabberwocky", "answer": {"tenant": "acme"}},
    "Erin": {"password": "snark", "answer": {"user": "erin"}},
    "fake": {"password": "walrus", "answer": {"user": USER}},
    USER: {"password": "not-this-one", "answer": {}},
}


def tell(lab, **state):
    """What the back end does from now on."""
    part = lab.path("backend.json.part")
    with open(part, "w") as f:
        json.dump(dict({"users": USERS}, **state), f)
    os.rename(part, lab.path("backend.json"))


def asked(lab):
    if not os.path.exists(lab.path("backend.json.log")):
        return []
    with open(lab.path("backend.json.log")) as f:
        return [json.loads(line) for line in f]


def start_backend(lab):
    p = lab.spawn(lab.gw_ns, sys.executable, os.path.join(HERE, "backend_http.py"), PORT,
                  lab.path("backend.json"), log=lab.path("backend.log"))
    wait_until(lambda: ":%d " % PORT in run("ip", "netns", "exec", lab.gw_ns, "ss", "-Hltn"),
               what="the back end")
    return p


def auth(c, user, password, mechanism="PLAIN"):
    expect(c.cmd("EHLO raw.example.net"), 250)
    if mechanism == "PLAIN":
        return c.cmd("AUTH PLAIN " + base64.b64encode(
            ("\0%s\0%s" % (user, password)).encode()).decode())
    expect(c.cmd("AUTH LOGIN " + base64.b64encode(user.encode()).decode()), 334)
    return c.cmd(base64.b64encode(password.encode()).decode())


def login(lab, user, password, mechanism="PLAIN"):
    with Raw(lab, 465) as c:
        return auth(c, user, password, mechanism)


def reload(lab, **keys):
    lab.config["auth"]["backends"][1].update(keys)
    lab.write_config()
    lab.ctl("reload")


def test_users_of_the_back_end_log_in_by_plain_and_login(lab):
    expect(login(lab, "carol", "looking-glass"), 235)
    expect(login(lab, "dave", "jabberwocky", "LOGIN"), 235)
    expect(login(lab, "carol", "wrong"), 535, "5.7.8")
    expect(login(lab, "nobody", "wrong"), 535, "5.7.8")
    assert asked(lab)[0] == {"user": "carol", "source": "192.0.2.1", "listener": "submissions",
                             "token": "Bearer s3cret"}


def test_a_user_of_the_file_is_decided_there(lab):
    before = len(asked(lab))
    expect(login(lab, USER, PASSWORD), 235)
    expect(login(lab, USER, "not-this-one"), 535)
    assert len(asked(lab)) == before
    # nor by a name that the back end gives another
    expect(login(lab, "fake", "walrus"), 535)
    assert counter(lab, "auth_shadowed") == 1


def test_scram_is_for_the_file_alone(lab):
    with Raw(lab, 465) as c:
        expect(c.cmd("EHLO raw.example.net"), 250)
        first = base64.b64encode(b"n,,n=carol,r=abcdefghijklmnop").decode()
        before = len(asked(lab))
        expect(c.cmd("AUTH SCRAM-SHA-256 " + first), 334)
        assert len(asked(lab)) == before


def test_addresses_of_the_back_end_are_the_users_own(lab):
    with Raw(lab, 465) as c:
        expect(auth(c, "carol", "looking-glass"), 235)
        expect(c.cmd("MAIL FROM:<carol@example.net>"), 250)
        expect(c.cmd("RSET"), 250)
        expect(c.cmd("MAIL FROM:<any@sales.example.net>"), 250)
        expect(c.cmd("RSET"), 250)
        expect(c.cmd("MAIL FROM:<dave@example.net>"), 550)


def test_the_name_is_the_back_ends(lab):
    with Raw(lab, 465) as c:
        expect(auth(c, "Erin", "snark"), 235)
        assert re.search(r"\berin\b", lab.ctl("sessions")), lab.ctl("sessions")


def test_a_tenants_limit_holds_for_users_of_the_back_end(lab):
    with Raw(lab, 465) as c, Raw(lab, 465) as d, Raw(lab, 465) as e:
        expect(auth(c, "carol", "looking-glass"), 235)
        expect(auth(d, "dave", "jabberwocky"), 235)
        reply = expect(auth(e, "dave", "jabberwocky"), 421)
        assert "tenant acme" in reply, reply
        assert "acme" in lab.ctl("limits", "dave")


def test_a_right_password_is_known_until_its_time_is_over(lab):
    reload(lab, cache="2s")
    before = len(asked(lab))
    expect(login(lab, "carol", "looking-glass"), 235)
    expect(login(lab, "carol", "looking-glass"), 235)
    assert len(asked(lab)) == before + 1
    users = json.loads(json.dumps(USERS))
    users["carol"]["password"] = "changed"
    tell(lab, users=users)
    expect(login(lab, "carol", "changed"), 235)
    wait_until(lambda: login(lab, "carol", "looking-glass").startswith("535"), 10,
               "the old password's end")
    tell(lab)


def test_without_a_cache_every_login_is_asked(lab):
    reload(lab, cache="0s")
    before = len(asked(lab))
    for _ in range(3):
        expect(login(lab, "carol", "looking-glass"), 235)
    assert len(asked(lab)) == before + 3


def test_an_outage_is_454_and_costs_no_guess(lab):
    refused = counter(lab, "auth_rejected")
    for status in (500, 503, 404, 302):
        tell(lab, status=status)
        expect(login(lab, "carol", "looking-glass"), 454, "4.7.0")
    for body in ("no json", "[]", '{"tenant": 7}', '{"addresses": ["x y"]}', "{" * 20000):
        tell(lab, status=200, body=body)
        expect(login(lab, "carol", "looking-glass"), 454, "4.7.0")
    assert counter(lab, "auth_backend_outages") == 4
    assert counter(lab, "auth_backend_malformed") == 5
    tell(lab, status=403)
    expect(login(lab, "carol", "looking-glass"), 535)
    tell(lab)
    expect(login(lab, "carol", "looking-glass"), 235)
    assert counter(lab, "auth_rejected") == refused + 1
    assert "answers again" in lab.log()


def test_a_server_that_dies_is_454_until_it_is_back(lab):
    lab.backend.kill()
    lab.backend.wait()
    expect(login(lab, "carol", "looking-glass"), 454, "4.7.0")
    expect(login(lab, USER, PASSWORD), 235)
    lab.backend = start_backend(lab)
    wait_until(lambda: login(lab, "carol", "looking-glass").startswith("235"), 10, "its return")


def test_a_slow_back_end_holds_up_nobody_else(lab):
    reload(lab, timeout="2s", connections=2)
    tell(lab, sleep=20)
    with Raw(lab, 465) as idle:
        expect(idle.cmd("EHLO raw.example.net"), 250)
        waiting = [Raw(lab, 465) for _ in range(4)]
        for i, c in enumerate(waiting):
            expect(c.cmd("EHLO raw.example.net"), 250)
            c.send("AUTH PLAIN %s\r\n" % base64.b64encode(
                ("\0slow%d\0looking-glass" % i).encode()).decode())
        began = time.monotonic()
        expect(login(lab, USER, PASSWORD), 235)
        expect(idle.cmd("NOOP"), 250)
        took = time.monotonic() - began
        assert took < 1.5, "others waited %.1f s" % took
        for c in waiting:
            expect(c.reply(), 454, "4.7.0")
            expect(c.cmd("NOOP"), 250)
            c.close()
        assert time.monotonic() - began < 6
    tell(lab)
    wait_until(lambda: login(lab, "carol", "looking-glass").startswith("235"), 10, "its return")


def test_wrong_guesses_are_braked_as_those_of_the_file(lab):
    lab.config["auth"]["failures"]["per_user"] = "4/m"
    lab.write_config()
    lab.ctl("reload")
    answers = [login(lab, "dave", "wrong%d" % i)[:3] for i in range(4)]
    assert answers[:2] == ["535", "535"] and answers[-1] == "454", answers
    assert counter(lab, "auth_limited_user") > 0
    expect(login(lab, USER, PASSWORD), 235)


def test_a_form_is_posted_where_it_is_wanted_and_what_waits_survives_a_reload(lab):
    reload(lab, format="form", timeout="5s")
    expect(login(lab, "carol", "looking-glass"), 235)
    before = asked(lab)
    assert (before[-1]["user"], before[-1]["listener"]) == ("carol", "submissions"), before[-1]
    tell(lab, sleep=3)
    with Raw(lab, 465) as c:
        expect(c.cmd("EHLO raw.example.net"), 250)
        c.send("AUTH PLAIN %s\r\n" % base64.b64encode(b"\0carol\0looking-glass").decode())
        wait_until(lambda: len(asked(lab)) > len(before), 10, "the question")
        reload(lab, format="json")
        expect(c.reply(), 454, "4.7.0")
    tell(lab)
    expect(login(lab, "carol", "looking-glass"), 235)


def test_the_gateway_stops_at_once_while_a_back_end_is_slow(lab):
    tell(lab, sleep=20)
    with Raw(lab, 465) as c:
        expect(c.cmd("EHLO raw.example.net"), 250)
        before = len(asked(lab))
        c.send("AUTH PLAIN %s\r\n" % base64.b64encode(b"\0carol\0looking-glass").decode())
        wait_until(lambda: len(asked(lab)) > before, 10, "the question")
        began = time.monotonic()
        assert lab.stop() == 0
        assert time.monotonic() - began < 18


if __name__ == "__main__":
    config = {"auth": {
        "mechanisms": ["PLAIN", "LOGIN", "SCRAM-SHA-256"], "failures": {
            "delay": "100ms", "per_address": "100/m", "per_user": "100/m"}},
        "submission": {"senders": "own"},
        "limits": [{"name": "acme", "tenants": ["acme"], "tenant": {"sessions": 2}}]}
    with Lab(config=config) as the_lab:
        secret = the_lab.path("token")
        with open(secret, "w") as f:
            f.write("s3cret\n")
        os.chmod(secret, 0o600)
        the_lab.config["auth"]["backends"] = [
            {"type": "users"},
            {"type": "http", "name": "callback", "url": "http://127.0.0.1:%d/auth" % PORT,
             "tls": "none", "password_file": secret, "timeout": "5s", "cache": "60s"}]
        the_lab.write_config()
        tell(the_lab)
        the_lab.backend = start_backend(the_lab)
        the_lab.start_sink(the_lab.path("arrived"))
        the_lab.start()
        sys.exit(main(__name__, the_lab))
