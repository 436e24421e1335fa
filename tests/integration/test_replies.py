"""Wrong orders, bad syntax, hostile octets: each gets the reply that the RFCs ask for."""
import base64
import os
import subprocess
import sys
import time

from harness import (HOST, Lab, RAW_CLIENT, Raw, TLS_NAME, body_of, counter, expect, mails_about,
                     main)


def plain(user, password):
    return base64.b64encode(("\0%s\0%s" % (user, password)).encode()).decode()


def test_before_starttls_no_auth_is_offered_and_mail_is_530(lab):
    with Raw(lab) as c:
        ehlo = expect(c.cmd("EHLO raw.example.net"), 250)
        assert "STARTTLS" in ehlo and "AUTH" not in ehlo
        expect(c.cmd("MAIL FROM:<a@example.net>"), 530, "5.7.0")
        expect(c.cmd("AUTH PLAIN " + plain("alice", "x")), 538, "5.7.11")
        expect(c.cmd("QUIT"), 221, "2.0.0")


def test_after_starttls_auth_is_offered_and_what_was_said_is_forgotten(lab):
    with Raw(lab) as c:
        c.starttls()
        expect(c.cmd("MAIL FROM:<a@example.net>"), 503, "5.5.1")
        ehlo = expect(c.cmd("EHLO raw.example.net"), 250)
        assert "AUTH SCRAM-SHA-256 PLAIN LOGIN" in ehlo and "STARTTLS" not in ehlo
        expect(c.cmd("STARTTLS"), 503, "5.5.1")


def test_mail_before_auth_is_530(lab):
    with Raw(lab, 465) as c:
        expect(c.cmd("EHLO raw.example.net"), 250)
        expect(c.cmd("MAIL FROM:<a@example.net>"), 530, "5.7.0")


def test_plaintext_behind_starttls_ends_the_session(lab):
    before = counter(lab, "smtp_starttls_injection")
    with Raw(lab) as c:
        expect(c.cmd("EHLO raw.example.net"), 250)
        c.send("STARTTLS\r\nEHLO injected\r\n")
        expect(c.reply(), 421, "4.7.0")
        assert c.closed()
    assert counter(lab, "smtp_starttls_injection") == before + 1


def test_wrong_password_is_535_after_the_delay(lab):
    with Raw(lab, 465) as c:
        expect(c.cmd("EHLO raw.example.net"), 250)
        began = time.monotonic()
        wrong = expect(c.cmd("AUTH PLAIN " + plain("alice", "wrong")), 535, "5.7.8")
        assert time.monotonic() - began >= 0.5
        unknown = expect(c.cmd("AUTH PLAIN " + plain("nobody", "wrong")), 535, "5.7.8")
        assert wrong == unknown


def test_three_refused_logins_end_the_session(lab):
    with Raw(lab, 465) as c:
        expect(c.cmd("EHLO raw.example.net"), 250)
        for _ in range(2):
            expect(c.cmd("AUTH PLAIN " + plain("alice", "wrong")), 535, "5.7.8")
        expect(c.cmd("AUTH PLAIN " + plain("alice", "wrong")), 535, "5.7.8")
        expect(c.reply(), 421, "4.7.0")
        assert c.closed()


def test_auth_exchange_errors(lab):
    with Raw(lab, 465) as c:
        expect(c.cmd("AUTH PLAIN"), 503, "5.5.1")
        expect(c.cmd("EHLO raw.example.net"), 250)
        expect(c.cmd("AUTH CRAM-MD5"), 504, "5.5.4")
        expect(c.cmd("AUTH PLAIN"), 334)
        expect(c.cmd("*"), 501, "5.7.0")
        expect(c.cmd("AUTH PLAIN !!!!"), 501, "5.5.2")
        expect(c.cmd("AUTH PLAIN YQ"), 501, "5.5.2")
        expect(c.cmd("AUTH LOGIN"), 334)
        expect(c.cmd("*"), 501, "5.7.0")
        expect(c.cmd("AUTH PLAIN " + "A" * 12000), 501)
        expect(c.cmd("AUTH PLAIN " + "A" * 13000), 500)
        c.login()
        expect(c.cmd("AUTH PLAIN " + plain("alice", "x")), 503, "5.5.1")


def test_order_of_commands_is_enforced(lab):
    with Raw(lab, 465, login=True) as c:
        expect(c.cmd("RCPT TO:<bob@example.org>"), 503, "5.5.1")
        expect(c.cmd("DATA"), 503, "5.5.1")
        expect(c.cmd("MAIL FROM:<alice@example.net>"), 250, "2.1.0")
        expect(c.cmd("MAIL FROM:<alice@example.net>"), 503, "5.5.1")
        expect(c.cmd("DATA"), 554, "5.5.1")
        expect(c.cmd("RSET"), 250, "2.0.0")
        expect(c.cmd("RCPT TO:<bob@example.org>"), 503, "5.5.1")


def test_syntax_errors(lab):
    with Raw(lab, 465, login=True) as c:
        expect(c.cmd("FROB"), 500, "5.5.1")
        expect(c.cmd("EXPN list"), 502, "5.5.1")
        expect(c.cmd("VRFY"), 501, "5.5.4")
        expect(c.cmd("VRFY bob"), 252, "2.5.0")
        expect(c.cmd("HELP"), 214)
        expect(c.cmd("NOOP anything"), 250, "2.0.0")
        expect(c.cmd("EHLO"), 501, "5.5.4")
        for bad in ("MAIL FROM:alice@example.net", "MAIL FROM:<alice", "MAIL FROM:<a@b@c>",
                    "MAIL FROM:<" + "l" * 65 + "@example.net>", "MAIL FROM:<alice>"):
            expect(c.cmd(bad), 501, "5.1.7")
        expect(c.cmd("MAIL FROM:<alice@example.net> FROB=1"), 555, "5.5.4")
        expect(c.cmd("MAIL FROM:<alice@example.net> SIZE=abc"), 501, "5.5.4")
        expect(c.cmd("MAIL FROM:<alice@example.net> SIZE=99999999999"), 552, "5.3.4")
        expect(c.cmd("MAIL FROM: <alice@example.net>"), 250, "2.1.0")
        expect(c.cmd("RCPT TO:<>"), 501, "5.1.3")
        expect(c.cmd("RCPT TO:<bob>"), 501, "5.1.3")
        expect(c.cmd("RCPT TO:<postmaster>"), 250, "2.1.5")


def test_non_ascii_command_octets_are_an_error_not_the_end(lab):
    with Raw(lab, 465, login=True) as c:
        expect(c.cmd("MAIL FROM:<\xfc@example.net>"), 501, "5.1.7")
        expect(c.cmd("MAIL FROM:<\xc3\xbc@example.net>"), 553, "5.6.7")
        expect(c.cmd("\xff\xfe"), 500)
        expect(c.cmd("NOOP"), 250)


def test_over_long_line_is_500_and_the_next_one_counts(lab):
    with Raw(lab, 465, login=True) as c:
        c.send("NOOP " + "x" * 40000 + "\r\nNOOP\r\n")
        expect(c.reply(), 500, "5.5.2")
        expect(c.reply(), 250, "2.0.0")


def test_lone_lf_in_commands_is_refused(lab):
    with Raw(lab, 465, login=True) as c:
        c.send("NOOP\nMAIL FROM:<alice@example.net>\r\n")
        expect(c.reply(), 500, "5.5.2")
        expect(c.cmd("RCPT TO:<bob@example.org>"), 503)


def test_no_other_sequence_than_crlf_dot_crlf_ends_data(lab):
    endings = ["\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r", "\r\n.\r", "\r.\r\n", "\r\n\0.\r\n",
               "\r\r\n.\r\r\n"]
    before = counter(lab, "smtp_messages")
    for ending in endings:
        with Raw(lab, 465, login=True) as c:
            c.envelope()
            expect(c.cmd("DATA"), 354)
            c.send("Subject: smuggle\r\n\r\nfirst" + ending +
                   "MAIL FROM:<evil@example.net>\r\nRCPT TO:<victim@example.org>\r\nDATA\r\n"
                   "second\r\n.\r\n")
            expect(c.reply(), 550, "5.6.0")
            expect(c.cmd("NOOP"), 250)
            expect(c.cmd("QUIT"), 221)
    assert counter(lab, "smtp_messages") == before


def test_dots_are_unstuffed_and_stuffed_again(lab):
    with Raw(lab, 465, login=True) as c:
        c.envelope()
        expect(c.cmd("DATA"), 354)
        c.send("Subject: dots\r\n\r\n..\r\n...\r\n..x\r\nend\r\n.\r\n")
        expect(c.reply(), 250, "2.0.0")
    mail = mails_about(lab.path("arrived"), "dots")[0]
    assert body_of(mail["content"]) == b".\r\n..\r\n.x\r\nend\r\n"


def test_pipelined_commands_are_answered_in_order(lab):
    with Raw(lab, 465, login=True) as c:
        c.send("MAIL FROM:<alice@example.net>\r\nRCPT TO:<bob@example.org>\r\nRCPT TO:<bad\r\n"
               "RCPT TO:<carol@example.org>\r\nDATA\r\n")
        for code in (250, 250, 501, 250, 354):
            expect(c.reply(), code)
        c.send("Subject: one\r\n\r\n1\r\n.\r\nNOOP\r\nQUIT\r\n")
        for code in (250, 250, 221):
            expect(c.reply(), code)


def test_message_in_any_pieces_is_the_same_message(lab):
    text = "Subject: pieces\r\n\r\na\r\n..b\r\n\r\n..c\r\n.\r\n"
    with Raw(lab, 465, login=True) as c:
        for piece in (1, 2, 3, 7):
            c.envelope()
            expect(c.cmd("DATA"), 354)
            for i in range(0, len(text), piece):
                c.send(text[i:i + piece])
            expect(c.reply(), 250)
    arrived = mails_about(lab.path("arrived"), "pieces", 4)
    assert {body_of(m["content"]) for m in arrived} == {b"a\r\n.b\r\n\r\n.c\r\n"}


def test_too_large_message_is_552_after_its_end(lab):
    with Raw(lab, 465, login=True) as c:
        c.envelope()
        expect(c.cmd("DATA"), 354)
        line = "x" * 998 + "\r\n"
        c.send("Subject: big\r\n\r\n" + line * 2200 + ".\r\n")
        expect(c.reply(), 552, "5.3.4")
        expect(c.cmd("NOOP"), 250)


def test_too_many_recipients_are_452(lab):
    with Raw(lab, 465, login=True) as c:
        c.envelope("alice@example.net", *["r%d@example.org" % i for i in range(100)])
        expect(c.cmd("RCPT TO:<one-more@example.org>"), 452, "4.5.3")
        expect(c.cmd("RSET"), 250)


def test_http_is_not_spoken_here(lab):
    with Raw(lab) as c:
        c.send("POST / HTTP/1.1\r\nHost: x\r\n\r\nMAIL FROM:<a@example.net>\r\n")
        expect(c.reply(), 421)
        assert c.closed()


def test_not_tls_on_465_is_closed(lab):
    before = counter(lab, "tls_not_tls")
    with Raw.__new__(Raw) as c:
        c.p = subprocess.Popen(["ip", "netns", "exec", lab.client_ns, sys.executable, RAW_CLIENT,
                                HOST, "465", lab.ca, TLS_NAME], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, text=True)
        c.send("EHLO plain.example.net\r\n")
        assert c.closed()
    assert counter(lab, "tls_not_tls") == before + 1


def test_dripping_octets_do_not_extend_the_deadline(lab):
    with Raw(lab, 465) as c:
        dripped = 0
        while not c.readable(0.2):
            c.send("E")
            dripped += 1
            assert dripped < 100, "the session is still open"
        expect(c.reply(), 421, "4.4.2")
        assert dripped > 10


def test_ping_is_answered(lab):
    out = lab.client(sys.executable, "-c", PING, HOST)
    assert "reply" in out, out


PING = """
import os, socket, struct, sys
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
s.settimeout(5)
def checksum(d):
    t = sum(struct.unpack("!%dH" % (len(d) // 2), d))
    t = (t >> 16) + (t & 0xffff)
    return ~(t + (t >> 16)) & 0xffff
body = b"0123456789abcdef"
head = struct.pack("!BBHHH", 8, 0, 0, 77, 1)
s.sendto(struct.pack("!BBHHH", 8, 0, checksum(head + body), 77, 1) + body, (sys.argv[1], 0))
while True:
    p = s.recv(2048)
    if p[20] == 0 and p[24:26] == struct.pack("!H", 77) and p[28:] == body:
        print("reply")
        break
"""


if __name__ == "__main__":
    config = {"submission": {"max_message_size": "2M", "max_recipients": 100,
                             "timeouts": {"idle_unauthenticated": "5s"}},
              "auth": {"failures": {"delay": "700ms", "per_address": "100/m", "per_user": "100/m"}}}
    with Lab(workers=[min(1, os.cpu_count() - 1)], config=config) as the_lab:
        the_lab.start_sink(the_lab.path("arrived"))
        the_lab.start()
        sys.exit(main(__name__, the_lab))
