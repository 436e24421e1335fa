"""posternctl queue on a running gateway: what waits is listed, filtered, shown, held, released, retried,
routed, bounced and deleted; what was ordered outlives kill -9; records tell who ordered it."""
import copy
import json
import os
import subprocess
import sys
import threading
import time

from harness import (CLIENT, POSTERNCTL, Lab, Raw, expect, main, mails, mails_about, start_recovered,
                     wait_mails, wait_until)

PARTNER = 2526
CROWD = 3000


def ctl(lab, *args, status=0):
    """posternctl queue with these arguments; its output, after the exit status was as expected."""
    p = subprocess.run([POSTERNCTL, "-s", lab.socket, "queue"] + list(args), text=True,
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
    assert p.returncode == status, (args, p.returncode, p.stdout)
    return p.stdout


def rows(lab, *args):
    return [json.loads(line) for line in ctl(lab, "list", "--json", *args).splitlines()]


def order(lab, *args, status=0):
    return json.loads(ctl(lab, *args, "--json", status=status))


def submit(lab, subject, *to, sender="alice@example.net", parameters="", client=None):
    c = client or Raw(lab, 465, login=True)
    expect(c.cmd("MAIL FROM:<%s>%s" % (sender, parameters)), 250)
    for one in to:
        expect(c.cmd("RCPT TO:<%s>" % one), 250)
    expect(c.cmd("DATA"), 354)
    identity = expect(c.cmd("From: %s\r\nSubject: %s\r\n\r\nx\r\n." %
                            (sender or "a@example.net", subject)), 250).split()[4]
    if client is None:
        c.close()
    return identity


def records(lab, kind):
    with open(lab.path("records.jsonl"), encoding="utf-8") as f:
        return [r for r in map(json.loads, f) if r["type"] == kind]


def test_the_queue_is_listed_and_filtered(lab):
    a = submit(lab, "one", "bob@example.org")
    b = submit(lab, "two", "carol@partner.example", sender="news@other.example")
    c = submit(lab, "three", "dave@example.org", "erin@partner.example", sender="")
    wait_until(lambda: len(rows(lab, "--status", "ready,deferred")) == 4 and
               not [r for r in rows(lab) if r["pool"] == ""], 10)
    every = rows(lab)
    assert {r["id"] for r in every} == {a, b, c} and len(every) == 4, every
    assert [r["id"] for r in rows(lab, "--id", a)] == [a]
    assert [r["id"] for r in rows(lab, "--sender", "Alice@example.net")] == [a]
    assert [r["id"] for r in rows(lab, "--sender", "@other.example")] == [b]
    assert {r["id"] for r in rows(lab, "--sender", "<>")} == {c}
    assert {r["id"] for r in rows(lab, "--domain", "partner.example")} == {b, c}
    assert [r["pool"] for r in rows(lab, "--domain", "partner.example", "--sender", "<>")] == \
        ["partner"]
    assert {r["id"] for r in rows(lab, "--pool", "partner")} == {b, c}
    assert len(rows(lab, "--user", "alice")) == 4 and rows(lab, "--user", "bob") == []
    assert rows(lab, "--older", "1h") == [] and len(rows(lab, "--younger", "1h")) == 4
    assert len(rows(lab, "--limit", "2")) == 2
    table = ctl(lab, "list", "--id", a)
    assert a in table and "1 shown" in table and "default" in table, table
    assert "is no message id" in ctl(lab, "list", "--id", "zzz", status=1)
    assert "is none of ready" in ctl(lab, "list", "--status", "odd", status=1)
    ctl(lab, "list", "--older", "soon", status=2)
    assert json.loads(lab.ctl("--json", "status"))["queued"] == 4


def test_a_message_is_shown_with_envelope_and_header(lab):
    a = rows(lab, "--sender", "@other.example")[0]["id"]
    shown = json.loads(ctl(lab, "show", a, "--header", "--json"))
    assert shown["sender"] == "news@other.example" and shown["user"] == "alice", shown
    assert shown["to"] == [{"address": "carol@partner.example", "state": "waiting"}], shown
    assert shown["mechanism"] == "PLAIN" and shown["client"] == CLIENT, shown
    assert "Subject: two" in shown["header"] and shown["header_cut"] is False, shown
    assert not [line for line in shown["header"] if line == "x"], "no body"
    text = ctl(lab, "show", a, "--content")
    assert "    Subject: two" in text and "news@other.example" in text, text
    assert "is in the queue" in ctl(lab, "show", "123456", status=1)


def test_what_a_recipient_asked_for_is_shown(lab):
    with Raw(lab, 465, login=True) as c:
        expect(c.cmd("MAIL FROM:<alice@example.net> RET=HDRS ENVID=QQ314 BODY=8BITMIME"), 250)
        expect(c.cmd("RCPT TO:<zoe@example.org> NOTIFY=FAILURE,DELAY ORCPT=rfc822;zoe@old.example"),
               250)
        expect(c.cmd("DATA"), 354)
        identity = expect(c.cmd("Subject: asked\r\n\r\nx\r\n."), 250).split()[4]
    shown = json.loads(ctl(lab, "show", identity, "--json"))
    assert shown["to"] == [{"address": "zoe@example.org", "state": "waiting",
                            "notify": ["FAILURE", "DELAY"], "orcpt": "rfc822;zoe@old.example"}]
    assert (shown["ret"], shown["envid"], shown["body"]) == ("HDRS", "QQ314", "8BITMIME"), shown
    assert "header" not in shown, shown
    assert order(lab, "delete", "--id", identity)["results"] == {"done": 1}
    assert rows(lab, "--id", identity) == []


def test_nothing_is_changed_without_saying_which(lab):
    assert "--all" in ctl(lab, "hold", status=1)
    assert order(lab, "hold", "--all", "--dry-run")["matched"] == 4
    assert not rows(lab, "--status", "held")
    assert 'no pool is named "nowhere"' in ctl(lab, "route", "nowhere", "--all", status=1)
    assert "no message in the queue" in ctl(lab, "hold", "--id", "12345", status=1)


def test_a_hold_outlives_kill_and_restart(lab):
    answer = order(lab, "hold", "--all", "--reason", "maintenance")
    # of the two entries of a message the first holds both
    assert answer["matched"] == 4 and answer["results"] == {"done": 3, "unchanged": 1}, answer
    lab.kill()
    start_recovered(lab)
    assert len(rows(lab, "--status", "held")) == 3
    lab.sink = lab.start_sink(lab.path("arrived"))
    lab.start_sink(lab.path("partner"), PARTNER)
    assert order(lab, "retry", "--all", status=1)["results"] == {"held": 3}
    time.sleep(3)
    assert not mails(lab.path("arrived")) and not mails(lab.path("partner"))
    told = [r for r in records(lab, "admin") if r["action"] == "hold"]
    assert len(told) == 3 and {r["reason"] for r in told} == {"maintenance"}, told
    assert {r["uid"] for r in told} == {os.getuid()}


def test_what_is_released_goes(lab):
    c = rows(lab, "--sender", "<>")[0]["id"]
    assert order(lab, "release", "--id", c)["results"] == {"done": 1}
    assert wait_mails(lab.path("arrived"), 1)[0]["to"] == ["dave@example.org"]
    assert wait_mails(lab.path("partner"), 1)[0]["to"] == ["erin@partner.example"]
    d = submit(lab, "future", "bob@example.org", parameters=" HOLDFOR=3600")
    wait_until(lambda: rows(lab, "--id", d, "--status", "held"), 10)
    order(lab, "release", "--id", d)
    mails_about(lab.path("arrived"), "future")


def test_a_route_moves_what_waits(lab):
    a = rows(lab, "--sender", "alice@example.net")[0]["id"]
    assert order(lab, "route", "partner", "--id", a)["results"] == {"done": 1}
    lab.kill()
    start_recovered(lab)
    assert rows(lab, "--id", a)[0]["pool"] == "partner"
    order(lab, "release", "--id", a)
    assert mails_about(lab.path("partner"), "one")[0]["to"] == ["bob@example.org"]


def test_a_bounce_is_reported_to_the_sender(lab):
    b = rows(lab, "--sender", "@other.example")[0]["id"]
    assert order(lab, "bounce", "--id", b, "--reason", "list closed")["results"] == {"done": 1}
    report = wait_until(lambda: [m for m in mails(lab.path("arrived"))
                                 if m["to"] == ["news@other.example"]], 20)[0]
    assert report["from"] == "<>", report
    for text in (b"Final-Recipient: rfc822; carol@partner.example", b"Action: failed",
                 b"Status: 5.3.0", b"list closed", b"Subject: two"):
        assert text in report["content"], (text, report["content"])
    told = wait_until(lambda: [r for r in records(lab, "admin") if r["action"] == "bounce"], 10)[0]
    assert told["recipient"] == "carol@partner.example" and told["reason"] == "list closed", told
    assert not rows(lab, "--id", b)


def test_thousands_are_paged_changed_and_deleted_while_others_are_answered(lab):
    lab.sink.terminate()
    lab.sink.wait(10)
    with Raw(lab, 465, login=True) as c:
        one = ("MAIL FROM:<alice@example.net>\r\nRCPT TO:<u%d@d%d.example>\r\n"
               "BDAT 15 LAST\r\nSubject: many\r\n")
        for begin in range(0, CROWD, 50):
            c.send("".join(one % (i, i % 10) for i in range(begin, begin + 50)))
            for _ in range(150):
                expect(c.reply(), 250)
    slowest = [0.0]
    stop = threading.Event()

    def others():
        while not stop.is_set():
            began = time.monotonic()
            lab.ctl("--json", "status")
            slowest[0] = max(slowest[0], time.monotonic() - began)
    other = threading.Thread(target=others)
    other.start()
    try:
        began = time.monotonic()
        every = rows(lab)
        listed = time.monotonic() - began
        assert len({r["id"] for r in every}) == CROWD and len(every) == CROWD
        assert len(rows(lab, "--domain", "d7.example")) == CROWD // 10
        began = time.monotonic()
        held = order(lab, "hold", "--domain", "d7.example")
        assert held["matched"] == CROWD // 10, held
        assert len(rows(lab, "--status", "held")) == CROWD // 10
        began = time.monotonic()
        done = order(lab, "delete", "--status", "ready,deferred", "--reason", "test")
        deleted = time.monotonic() - began
    finally:
        stop.set()
        other.join()
    told = [r for r in records(lab, "admin") if r.get("reason") == "test"]
    assert len(told) == done["results"]["done"]
    # one may be under way at this moment
    assert done["results"]["done"] >= CROWD * 9 // 10 - 8, done
    print("# %d listed in %.2f s, deleted in %.2f s, another command took %.0f ms at most" %
          (CROWD, listed, deleted, slowest[0] * 1000))
    # the reports come into the queue while it is walked through, and are no part of the walk
    bounced = order(lab, "bounce", "--all")
    assert bounced["matched"] >= CROWD // 10, bounced
    assert len(rows(lab, "--sender", "<>")) == bounced["results"]["done"], bounced
    wait_until(lambda: order(lab, "delete", "--all", status=0)["matched"] == 0, 20)
    lab.kill()
    start_recovered(lab)
    assert rows(lab) == []


if __name__ == "__main__":
    with Lab(workers=[min(1, os.cpu_count() - 1)]) as the_lab:
        relay = the_lab.config["relay"]
        hop = relay["pools"][0]["next_hops"][0]
        relay["pools"].append(dict(copy.deepcopy(relay["pools"][0]), name="partner",
                                   next_hops=[dict(hop, port=PARTNER)]))
        relay["routes"] = [{"match": "partner.example", "pool": "partner"},
                           {"match": "*", "pool": "default"}]
        the_lab.config["control"]["log"]["records"] = the_lab.path("records.jsonl")
        the_lab.write_config()
        the_lab.start()
        sys.exit(main(__name__, the_lab))
