"""The extensions of submission, used by real clients: DSN, CHUNKING, SMTPUTF8, holds, bare LF."""
import os
import sys
import time

from harness import (HOST, Lab, PASSWORD, Raw, TLS_NAME, USER, body_of, counter, expect, main,
                     mails, mails_about, next_mail, wait_mails)


def arrived(lab):
    return lab.path("arrived")


SMTPLIB = """
import smtplib, ssl, sys
host, ca, name, user, password, options, rcpt_options, to, text = sys.argv[1:]
context = ssl.create_default_context(cafile=ca)
class Named:
    def wrap_socket(self, sock, server_hostname=None, **kw):
        return context.wrap_socket(sock, server_hostname=name, **kw)
s = smtplib.SMTP_SSL(host, 465, context=Named(), timeout=60)
s.login(user, password)
s.ehlo()
s.sendmail("alice@example.net", [to], text.encode().decode("unicode_escape").encode("latin-1"),
           mail_options=options.split(), rcpt_options=rcpt_options.split())
s.quit()
"""


def smtplib(lab, options, rcpt_options, to, text):
    lab.client(sys.executable, "-c", SMTPLIB, HOST, lab.ca, TLS_NAME, USER, PASSWORD, options,
               rcpt_options, to, text)


def test_smtplib_asks_for_a_report_and_gets_one_of_the_relaying(lab):
    before = len(mails(arrived(lab)))
    smtplib(lab, "RET=HDRS ENVID=QQ314159", "NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;Bob@example.org",
            "bob@example.org", r"From: alice@example.net\r\nSubject: dsn\r\n\r\nbody\r\n")
    both = wait_mails(arrived(lab), before + 2)[before:]
    message = [m for m in both if m["from"] == "alice@example.net"][0]
    report = [m for m in both if m["to"] == ["alice@example.net"]][0]
    assert body_of(message["content"]) == b"body\r\n"
    assert report["from"] in ("", "<>", None), report["from"]
    for field in (b"Original-Envelope-Id: QQ314159\r\n", b"Action: relayed\r\n",
                  b"Original-Recipient: rfc822; Bob@example.org\r\n",
                  b"Final-Recipient: rfc822; bob@example.org\r\n", b"Subject: dsn\r\n"):
        assert field in report["content"], (field, report["content"])
    assert b"\r\nbody\r\n" not in report["content"]


def test_a_utf8_message_comes_back_from_a_hop_that_cannot_take_it(lab):
    before = len(mails(arrived(lab)))
    with Raw(lab, 465, login=True) as c:
        expect(c.cmd("MAIL FROM:<alice@example.net> SMTPUTF8"), 250)
        expect(c.cmd("RCPT TO:<b\xc3\xa4r@example.org>"), 250)
        expect(c.cmd("DATA"), 354)
        c.send("From: alice@example.net\r\nSubject: \xc3\xa4\r\n\r\nx\r\n.\r\n")
        expect(c.reply(), 250)
    report = wait_mails(arrived(lab), before + 1)[before]
    assert b"Status: 5.6.7" in report["content"]
    assert b"Final-Recipient: utf-8; b\\x{E4}r@example.org\r\n" in report["content"]


def test_chunks_arrive_as_one_message_with_their_dots(lab):
    body = b"Subject: chunks\r\nFrom: alice@example.net\r\n\r\n.\r\n..\r\nMAIL FROM:<x@y>\r\n.\r\n"

    def send():
        with Raw(lab, 465, login=True) as c:
            c.envelope()
            for at in range(0, len(body), 7):
                piece = body[at:at + 7]
                c.send(b"BDAT %d\r\n" % len(piece) + piece)
                expect(c.reply(), 250, "2.0.0")
            c.send("BDAT 0 LAST\r\n")
            expect(c.reply(), 250, "2.0.0")
            c.send("BDAT 6 LAST\r\nQUIT\r\n")
            expect(c.reply(), 503, "5.5.1")
            expect(c.cmd("NOOP"), 250)
    mail = next_mail(lab, send)
    assert mail["content"].endswith(body), mail["content"]


def test_a_binary_message_is_returned_by_a_hop_without_binarymime(lab):
    before = counter(lab, "relay_hop_lacks")
    content = b"From: alice@example.net\r\nSubject: binary\r\n\r\n\0\n.\n\r\xff"

    def send():
        with Raw(lab, 465, login=True) as c:
            expect(c.cmd("MAIL FROM:<alice@example.net> BODY=BINARYMIME"), 250)
            expect(c.cmd("RCPT TO:<bob@example.org>"), 250)
            c.send(b"BDAT %d LAST\r\n" % len(content) + content)
            expect(c.reply(), 250, "2.0.0")
    report = next_mail(lab, send)
    assert report["to"] == ["alice@example.net"]
    assert b"Status: 5.6.3" in report["content"]
    assert counter(lab, "relay_hop_lacks") == before + 1


def test_a_hold_survives_a_kill(lab):
    with Raw(lab, 465, login=True) as c:
        expect(c.cmd("MAIL FROM:<alice@example.net> HOLDFOR=8"), 250)
        began = time.monotonic()
        expect(c.cmd("RCPT TO:<bob@example.org>"), 250)
        expect(c.cmd("DATA"), 354)
        c.send("From: alice@example.net\r\nSubject: held\r\n\r\nx\r\n.\r\n")
        expect(c.reply(), 250)
    lab.kill()
    lab.start()
    mails_about(arrived(lab), "held")
    assert time.monotonic() - began >= 7


def test_curl_sends_bare_lf_only_where_it_is_normalized(lab):
    """curl sends a file as it is: a script's file has LF."""
    text = lab.path("lf.txt")
    with open(text, "wb") as f:
        f.write(b"From: alice@example.net\nSubject: lf\n\nbody\n.dot\n")

    def curl(port):
        lab.client("curl", "-sS", "--ssl-reqd", "--cacert", lab.ca, "--resolve",
                   "%s:%d:%s" % (TLS_NAME, port, HOST),
                   "smtp://%s:%d/client.example.net" % (TLS_NAME, port), "--user",
                   USER + ":" + PASSWORD, "--mail-from", "alice@example.net", "--mail-rcpt",
                   "bob@example.org", "-T", text)
    mail = next_mail(lab, lambda: curl(2587))
    # curl ends data with CR LF . CR LF whatever came before, which is one more empty line
    assert mail["content"].rstrip(b"\r\n").endswith(b"Subject: lf\r\n\r\nbody\r\n.dot"), \
        mail["content"]
    assert b"\n" not in mail["content"].replace(b"\r\n", b"")
    before = len(mails(arrived(lab)))
    refusals = counter(lab, "smtp_message_bare_newline")
    try:
        curl(587)
        said = "taken"
    except RuntimeError as e:
        said = str(e)
    assert "exit 8" in said, said
    assert counter(lab, "smtp_message_bare_newline") == refusals + 1
    assert len(mails(arrived(lab))) == before


def test_a_listener_hides_the_client(lab):
    def send(port):
        with Raw(lab, port, tls=False) as c:
            c.starttls()
            c.login()
            c.envelope()
            expect(c.cmd("DATA"), 354)
            c.send("From: alice@example.net\r\nSubject: hidden\r\n\r\nx\r\n.\r\n")
            expect(c.reply(), 250)
    hidden = next_mail(lab, lambda: send(2587))["content"]
    shown = next_mail(lab, lambda: send(587))["content"]
    assert hidden.startswith(b"Received: from hidden.invalid\r\n"), hidden
    assert b"raw.example.net" not in hidden and b"raw.example.net" in shown


if __name__ == "__main__":
    more = {"listeners": [{"name": "submissions", "port": 465, "tls": "implicit"},
                          {"name": "submission", "port": 587, "tls": "starttls"},
                          {"name": "scripts", "port": 2587, "tls": "starttls",
                           "bare_newline": "normalize", "hide_client": True}]}
    with Lab(workers=[min(1, os.cpu_count() - 1)], config=more) as the_lab:
        the_lab.start_sink(arrived(the_lab))
        the_lab.start()
        sys.exit(main(__name__, the_lab))
