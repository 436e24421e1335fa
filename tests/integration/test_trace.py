"""A session followed live by user, address and id: commands, replies, TLS and TCP, no secret."""
import base64
import json
import os
import subprocess
import sys
import time

from harness import (CLIENT, Lab, PASSWORD, POSTERNCTL, Raw, USER, expect, main, wait_until)

PLAIN = base64.b64encode(("\0%s\0%s" % (USER, PASSWORD)).encode()).decode()


class Follower:
    def __init__(self, lab, *what, seconds=30):
        self.p = subprocess.Popen([POSTERNCTL, "-s", lab.socket, "--json", "--for", str(seconds),
                                   "trace", *what], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                  text=True)
        time.sleep(0.6)

    def end(self):
        """Lines until now; the follower is told to stop."""
        time.sleep(0.6)
        self.p.terminate()
        out, err = self.p.communicate(timeout=10)
        assert self.p.returncode == 0, err
        return [json.loads(line) for line in out.splitlines()], out


def texts(lines, who):
    return [line["text"] for line in lines if line["who"] == who]


def submit(lab, how):
    with Raw(lab, 465) as c:
        expect(c.cmd("EHLO raw.example.net"), 250)
        c.cmd("hunter2 typed too early")
        if how == "plain":
            expect(c.cmd("AUTH PLAIN " + PLAIN), 235)
        else:
            expect(c.cmd("AUTH LOGIN"), 334)
            expect(c.cmd(base64.b64encode(USER.encode()).decode()), 334)
            expect(c.cmd(base64.b64encode(PASSWORD.encode()).decode()), 235)
        c.envelope()
        expect(c.cmd("DATA"), 354)
        c.send("Subject: traced\r\n\r\nx\r\n.\r\n")
        expect(c.reply(), 250)
        expect(c.cmd("QUIT"), 221)


def test_an_address_is_followed_from_its_first_octet_to_its_last(lab):
    f = Follower(lab, "address", CLIENT)
    submit(lab, "plain")
    lines, _ = f.end()
    client, server, event = (texts(lines, w) for w in ("client", "server", "event"))
    assert client[:2] == ["EHLO raw.example.net", "*** (23 octets that are no command)"], client
    assert client[2] == "AUTH PLAIN ***", client
    assert any(t.startswith("MAIL FROM:<") for t in client) and client[-1] == "QUIT", client
    assert server[0].startswith("220 ") and any(t.startswith("250 2.0.0 queued as ") for t in server)
    assert event[0].startswith("connected from [%s] port " % CLIENT), event
    assert any(t.startswith("secured by TLS1.3, TLS_") for t in event), event
    assert "logged in as alice by PLAIN" in event and event[-1] == "closed after 1 messages", event
    assert any(t.startswith("state: SYN_RCVD -> ESTABLISHED") for t in texts(lines, "tcp")), lines
    assert len({line["session"] for line in lines}) == 1


def test_a_user_is_followed_from_the_login_on(lab):
    f = Follower(lab, "user", USER)
    submit(lab, "login")
    lines, _ = f.end()
    assert texts(lines, "event")[0] == "logged in as alice by LOGIN", lines[0]
    assert "DATA" in texts(lines, "client"), lines


def test_a_network_that_the_client_is_not_in_shows_nothing(lab):
    f = Follower(lab, "address", "198.51.100.0/24")
    submit(lab, "plain")
    assert f.end()[0] == []


def test_a_session_is_followed_by_its_id(lab):
    with Raw(lab, 465, login=True) as c:
        tag = json.loads(lab.ctl("--json", "sessions"))["sessions"][0]["id"]
        f = Follower(lab, "session", tag)
        expect(c.cmd("NOOP"), 250)
        lines, _ = f.end()
    assert texts(lines, "client") == ["NOOP"], lines
    assert texts(lines, "server") == ["250 2.0.0 ok"], lines


def test_no_secret_is_ever_shown(lab):
    f = Follower(lab, "address", CLIENT + "/24")
    for how in ("plain", "login"):
        submit(lab, how)
    _, out = f.end()
    for secret in (PASSWORD, PLAIN, base64.b64encode(PASSWORD.encode()).decode(), "hunter2"):
        assert secret not in out, secret


def test_one_follower_at_a_time_and_a_lost_one_is_forgotten(lab):
    f = Follower(lab, "user", USER)
    second = subprocess.run([POSTERNCTL, "-s", lab.socket, "trace", "user", "bob"], text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=20)
    assert second.returncode != 0 and "somebody follows alice already" in second.stdout, second.stdout
    f.p.kill()
    f.p.wait()

    def free():
        p = Follower(lab, "user", USER, seconds=1)
        return p.p.wait(10) == 0
    wait_until(free, 30, "the follower that died is forgotten")


def test_malformed_questions_are_refused(lab):
    for what in (["address", "nowhere"], ["address", "192.0.2.1/33"]):
        p = subprocess.run([POSTERNCTL, "-s", lab.socket, "trace", *what], text=True,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=20)
        assert p.returncode != 0 and "no address and no network" in p.stdout, p.stdout


if __name__ == "__main__":
    with Lab(workers=[min(1, os.cpu_count() - 1)]) as the_lab:
        the_lab.start_sink(the_lab.path("arrived"))
        the_lab.start()
        sys.exit(main(__name__, the_lab))
