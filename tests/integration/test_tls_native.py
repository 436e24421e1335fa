"""The whole matrix once more with tls.records: native, and real clients over records of our own."""
import base64
import os
import sys

from harness import (HOST, Lab, PASSWORD, TLS_NAME, USER, body_of, counter, main, mails, next_mail,
                     wait_until)
from test_tls_matrix import *  # noqa: F401,F403
from test_tls_matrix import prepare, s_client

CURL = ("curl", "-sS", "--resolve", "%s:465:%s" % (TLS_NAME, HOST),
        "smtps://%s:465/client.example.net" % TLS_NAME, "--user", USER + ":" + PASSWORD,
        "--mail-from", "alice@example.net", "--mail-rcpt", "bob@example.org")
CUT = """
import socket, ssl, sys
context = ssl.create_default_context(cafile=sys.argv[2])
s = context.wrap_socket(socket.create_connection((sys.argv[1], 465)), server_hostname=sys.argv[3])
f = s.makefile("rb")
def command(line):
    s.sendall(line + b"\\r\\n")
    while f.readline()[3:4] == b"-":
        pass
f.readline()
for line in (b"EHLO x", b"AUTH PLAIN " + sys.argv[4].encode(), b"MAIL FROM:<alice@example.net>",
             b"RCPT TO:<bob@example.org>", b"DATA"):
    command(line)
s.sendall(b"Subject: cut\\r\\n\\r\\n" + b"line\\r\\n" * 10000 + b".\\r")
"""


def test_10_megabytes_arrive_as_they_were(lab):
    lines = os.urandom(5 << 20).hex()
    body = "\r\n".join(lines[i:i + 70] for i in range(0, len(lines), 70)) + "\r\n"
    text = lab.path("large.txt")
    with open(text, "w", newline="") as f:
        f.write("From: alice@example.net\r\nSubject: large\r\n\r\n" + body)
    for version in ("1.2", "1.3"):
        mail = next_mail(lab, lambda: lab.client(*CURL, "--cacert", lab.ca, "--tls-max", version,
                                                 "-T", text))
        assert ("(TLS%s);" % version).encode() in mail["content"]
        assert body_of(mail["content"]) == body.encode()


def test_swaks_submits_10_megabytes_with_starttls(lab):
    attachment = lab.path("large.bin")
    with open(attachment, "wb") as f:
        f.write(os.urandom(7 << 20))
    mail = next_mail(lab, lambda: lab.client(
        "swaks", "--server", HOST, "--port", 587, "--tls", "--auth", "PLAIN", "--auth-user", USER,
        "--auth-password", PASSWORD, "--from", "alice@example.net", "--to", "bob@example.org",
        "--helo", "client.example.net", "--attach", "@" + attachment, "--suppress-data"))
    assert len(mail["content"]) > 9 << 20


def test_data_cut_off_without_close_notify_is_no_message(lab):
    before, truncated = len(mails(lab.path("arrived"))), counter(lab, "tls_truncated")
    lab.client(sys.executable, "-c", CUT, HOST, lab.ca, TLS_NAME,
               base64.b64encode(("\0%s\0%s" % (USER, PASSWORD)).encode()).decode())
    wait_until(lambda: counter(lab, "tls_truncated") == truncated + 1, what="the truncation")
    assert len(mails(lab.path("arrived"))) == before


def test_every_session_went_over(lab):
    assert counter(lab, "tls_records_native") == counter(lab, "tls_handshakes")
    assert counter(lab, "tls_records_kept") == 0


def test_a_reload_switches_new_sessions_back(lab):
    lab.config["tls"]["records"] = "openssl"
    lab.write_config()
    lab.ctl("reload")
    before = counter(lab, "tls_records_native")
    assert "221 " in s_client(lab, 465)[1]
    assert counter(lab, "tls_records_native") == before


if __name__ == "__main__":
    with Lab(workers=[min(1, os.cpu_count() - 1)]) as the_lab:
        prepare(the_lab)
        the_lab.config["tls"]["records"] = "native"
        the_lab.write_config()
        the_lab.start_sink(the_lab.path("arrived"))
        the_lab.start()
        sys.exit(main(__name__, the_lab))
