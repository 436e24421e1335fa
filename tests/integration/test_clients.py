"""Real clients, unmodified, against one worker on DPDK over veth."""
import os
import subprocess
import sys

from harness import HOST, Lab, PASSWORD, TLS_NAME, USER, body_of, main, next_mail


def arrived(lab):
    return lab.path("arrived")


def swaks(lab, *more):
    return lab.client("swaks", "--server", HOST, "--from", "alice@example.net", "--to",
                      "bob@example.org", "--helo", "client.example.net", "--auth-user", USER,
                      "--auth-password", PASSWORD, *more)


def test_swaks_submits_on_587_with_starttls_and_plain(lab):
    mail = next_mail(lab, lambda: swaks(lab, "--port", 587, "--tls", "--auth", "PLAIN"))
    assert mail["from"] == "alice@example.net" and mail["to"] == ["bob@example.org"]
    assert b"with ESMTPSA id " in mail["content"]
    assert b"tls TLS_AES_256_GCM_SHA384 (TLS1.3);" in mail["content"]


def test_swaks_submits_on_465_with_login(lab):
    mail = next_mail(lab, lambda: swaks(lab, "--port", 465, "--tls-on-connect", "--auth", "LOGIN"))
    assert b"This is a test mailing" in mail["content"]


def test_swaks_submits_with_tls_1_2(lab):
    mail = next_mail(lab, lambda: swaks(lab, "--port", 465, "--tls-on-connect", "--tls-protocol",
                                        "tlsv1_2", "--auth", "PLAIN"))
    assert b"(TLS1.2);" in mail["content"]


def test_swaks_pipelines(lab):
    mail = next_mail(lab, lambda: swaks(lab, "--port", 587, "--tls", "--auth", "PLAIN",
                                        "--pipeline", "--to",
                                        "b@example.org,c@example.org,d@example.org"))
    assert len(mail["to"]) == 3


def test_curl_submits_on_465(lab):
    text = lab.path("curl.txt")
    with open(text, "wb") as f:
        f.write(b"From: alice@example.net\r\nSubject: curl\r\n\r\nbody\r\n.dot\r\n")
    mail = next_mail(lab, lambda: lab.client(
        "curl", "-sS", "--cacert", lab.ca, "--resolve", "%s:465:%s" % (TLS_NAME, HOST),
        "smtps://%s:465/client.example.net" % TLS_NAME, "--user", USER + ":" + PASSWORD,
        "--mail-from", "alice@example.net", "--mail-rcpt", "bob@example.org", "-T", text))
    head, _, body = mail["content"].partition(b"\r\n\r\n")
    assert body == b"body\r\n.dot\r\n", body
    assert b"\r\nDate: " in head and b"\r\nMessage-ID: <" in head


def test_curl_submits_on_587_with_starttls(lab):
    text = lab.path("curl.txt")
    mail = next_mail(lab, lambda: lab.client(
        "curl", "-sS", "--ssl-reqd", "--cacert", lab.ca, "--resolve",
        "%s:587:%s" % (TLS_NAME, HOST), "smtp://%s:587/client.example.net" % TLS_NAME,
        "--user", USER + ":" + PASSWORD, "--mail-from", "alice@example.net",
        "--mail-rcpt", "bob@example.org", "-T", text))
    assert b"Subject: curl" in mail["content"]


SMTPLIB = """
import smtplib, ssl, sys
host, ca, name, user, password, mode, path = sys.argv[1:]
context = ssl.create_default_context(cafile=ca)
class Named:
    def wrap_socket(self, sock, server_hostname=None, **kw):
        return context.wrap_socket(sock, server_hostname=name, **kw)
if mode == "465":
    s = smtplib.SMTP_SSL(host, 465, context=Named(), timeout=60)
else:
    s = smtplib.SMTP(host, 587, timeout=60)
    s.starttls(context=Named())
s.login(user, password)
with open(path, "rb") as f:
    refused = s.sendmail("alice@example.net", ["bob@example.org"], f.read())
s.quit()
assert not refused
"""


def smtplib(lab, mode, path):
    lab.client(sys.executable, "-c", SMTPLIB, HOST, lab.ca, TLS_NAME, USER, PASSWORD, mode, path)


def test_smtplib_submits_on_both_ports(lab):
    for mode in ("465", "587"):
        mail = next_mail(lab, lambda: smtplib(lab, mode, lab.path("curl.txt")))
        assert body_of(mail["content"]) == b"body\r\n.dot\r\n"


def test_large_message_arrives_octet_by_octet(lab):
    """Over 64 KiB a body takes the large-message area; every octet must survive it."""
    path = lab.path("large.txt")
    lines = [b"%08x" % i + b"." * (i % 70) for i in range(300000)]
    lines[1000], lines[-1] = b".", b"..two dots"
    body = b"\r\n".join(lines) + b"\r\n"
    with open(path, "wb") as f:
        f.write(b"From: alice@example.net\r\nSubject: large\r\n\r\n" + body)
    mail = next_mail(lab, lambda: smtplib(lab, "465", path))
    assert body_of(mail["content"]) == body


def test_openssl_s_client_submits(lab):
    token = subprocess.run(["base64", "-w0"], input=("\0%s\0%s" % (USER, PASSWORD)).encode(),
                           stdout=subprocess.PIPE).stdout.decode()
    script = ("sleep 0.5; for l in 'EHLO s' 'AUTH PLAIN %s' 'MAIL FROM:<alice@example.net>' "
              "'RCPT TO:<bob@example.org>' DATA; do echo \"$l\"; sleep 0.3; done; "
              "printf 'Subject: by hand\\n\\nhello\\n.\\n'; sleep 0.5; echo QUIT; sleep 0.3") % token
    for more in (["-connect", HOST + ":465"], ["-connect", HOST + ":587", "-starttls", "smtp"]):
        mail = next_mail(lab, lambda: lab.client(
            "sh", "-c", "(%s) | openssl s_client -crlf -quiet -ign_eof -CAfile %s %s" %
            (script, lab.ca, " ".join(more))))
        assert b"Subject: by hand\r\n\r\nhello\r\n" in mail["content"], mail["content"]


def test_sigterm_ends_with_status_0_and_leaves_no_file(lab):
    assert lab.stop() == 0
    assert not os.path.exists(lab.socket)


if __name__ == "__main__":
    with Lab(workers=[min(1, os.cpu_count() - 1)]) as the_lab:
        the_lab.start_sink(arrived(the_lab))
        the_lab.start()
        sys.exit(main(__name__, the_lab))
