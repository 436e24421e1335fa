"""One JSON line an event: receptions, rejections, outcomes; rotated, reopened, without secrets."""
import json
import os
import sys

from harness import (Lab, PASSWORD, Raw, USER, expect, main, mails_about, wait_until)


def records(lab, kind=None, name="records.jsonl"):
    if not os.path.exists(lab.path(name)):
        return []
    with open(lab.path(name), encoding="utf-8") as f:
        lines = [json.loads(line) for line in f]
    return [r for r in lines if kind is None or r["type"] == kind]


def submit(lab, subject, to="bob@example.org"):
    with Raw(lab, 465, login=True) as c:
        expect(c.cmd("MAIL FROM:<alice@example.net> SIZE=100"), 250)
        for one in to.split():
            expect(c.cmd("RCPT TO:<%s>" % one), 250)
        expect(c.cmd("DATA"), 354)
        c.send("From: alice@example.net\r\nSubject: %s\r\n\r\nx\r\n.\r\n" % subject)
        return expect(c.reply(), 250).split()[4]


def one(lab, kind, identity):
    return wait_until(lambda: [r for r in records(lab, kind) if r.get("id") == identity], 10,
                      "a %s of %s" % (kind, identity))


def test_a_reception_tells_who_how_and_how_long(lab):
    lab.start_sink(lab.path("arrived"))
    identity = submit(lab, "told", "bob@example.org carol@example.org")
    r = one(lab, "reception", identity)[0]
    assert r["sender"] == "alice@example.net"
    assert r["recipients"] == ["bob@example.org", "carol@example.org"]
    assert (r["user"], r["mechanism"], r["listener"]) == (USER, "PLAIN", "submissions"), r
    assert r["tls_version"] == "TLS1.3" and r["tls_cipher"].startswith("TLS_"), r
    assert r["extensions"] == ["SIZE"] and r["answered"] is True and r["commit_us"] > 0, r


def test_each_recipient_has_its_delivery(lab):
    mails_about(lab.path("arrived"), "told")
    identity = [r for r in records(lab, "reception") if len(r["recipients"]) == 2][0]["id"]
    found = wait_until(lambda: len([r for r in records(lab, "delivery")
                                    if r["id"] == identity]) == 2 and records(lab, "delivery"), 20)
    mine = [r for r in found if r["id"] == identity]
    assert {r["recipient"] for r in mine} == {"bob@example.org", "carol@example.org"}
    assert all(r["response"].startswith("250") and r["hop_port"] == 2525 and r["user"] == USER
               for r in mine), mine


def test_a_rejection_tells_the_reply_and_the_session(lab):
    with Raw(lab, 465) as c:
        expect(c.cmd("EHLO evil\" name.example"), 501)
        expect(c.cmd("EHLO raw.example.net"), 250)
        said = c.cmd("MAIL FROM:<alice@example.net>")
        expect(said, 530)
    tag = said[said.index("[") + 1:said.index("]")]
    found = wait_until(lambda: [r for r in records(lab, "rejection") if r["session"] == tag], 10)
    assert [r["code"] for r in found] == [501, 530], found
    assert found[1]["enhanced"] == "5.7.0" and found[1]["reply"] == said.strip(), found


def test_no_record_holds_a_password(lab):
    with open(lab.path("records.jsonl")) as f:
        text = f.read()
    assert PASSWORD not in text and "AGFsaWNl" not in text


def test_reload_opens_the_file_anew_for_those_who_rotate_it(lab):
    os.rename(lab.path("records.jsonl"), lab.path("moved.jsonl"))
    before = len(records(lab, name="moved.jsonl"))
    lab.ctl("reload")
    identity = submit(lab, "after rotation")
    assert len(one(lab, "reception", identity)) == 1
    assert len(records(lab, name="moved.jsonl")) == before


def test_the_file_is_rotated_by_size(lab):
    def rotated():
        submit(lab, "filling")
        return os.path.exists(lab.path("records.jsonl.1"))
    assert lab.stop() == 0
    lab.config["control"]["log"]["records_size"] = "4K"
    lab.config["control"]["log"]["records_keep"] = 2
    lab.write_config()
    lab.start()
    wait_until(rotated, 60, "records.jsonl.1")
    assert lab.stop() == 0
    for name in ("records.jsonl", "records.jsonl.1"):
        records(lab, name=name)  # whole lines in each


if __name__ == "__main__":
    with Lab(workers=[min(1, os.cpu_count() - 1)], config={
            "control": {"log": {"level": "info"}}}) as the_lab:
        the_lab.config["control"]["log"]["records"] = the_lab.path("records.jsonl")
        the_lab.write_config()
        the_lab.start()
        sys.exit(main(__name__, the_lab))
