"""Mail programs that people and machines send with, unmodified: what they submit arrives octet by
octet below the fields that the gateway adds."""
import json
import os
import subprocess
import sys

from harness import (BUILD, HOST, Lab, PASSWORD, TLS_NAME, USER, main, mails_about,
                     wait_until)

BODY = "Zeile mit Umlaut: \u00e4\n.dot at the start\n\n..two dots\nlast line\n"
NODE = os.path.join(BUILD, "node")


def arrived(lab, subject):
    found = mails_about(lab.path("arrived"), subject)
    assert len(found) == 1, found
    return found[0]


def split(mail):
    head, _, body = mail["content"].partition(b"\r\n\r\n")
    return head, body


def mechanism(lab):
    """The mechanism of the first reception, once the records tell of it."""
    def receptions():
        with open(lab.path("records.jsonl")) as f:
            told = [json.loads(line) for line in f if line.endswith("\n")]
        return [r for r in told if r["type"] == "reception"]
    return wait_until(receptions, 10, "a reception in the records")[0]["mechanism"]


def with_line_ends(text):
    return text.encode().replace(b"\n", b"\r\n")


def write(lab, name, text, mode=0o600):
    path = lab.path(name)
    with open(path, "w") as f:
        f.write(text)
    os.chmod(path, mode)
    return path


def shell(lab, script, **variables):
    """In the clients' namespace, with a home of its own and the gateway's name in its hosts file."""
    hosts = write(lab, "hosts", "127.0.0.1 localhost client.example.net\n%s %s\n" % (HOST, TLS_NAME),
                  0o644)
    home = lab.path("home")
    os.makedirs(home, exist_ok=True)
    environment = dict(os.environ, HOME=home, LC_ALL="C.UTF-8", SSL_CERT_FILE=lab.ca, **variables)
    p = subprocess.run(["ip", "netns", "exec", lab.client_ns, "unshare", "-m", "sh", "-c",
                        "mount --bind %s /etc/hosts && %s" % (hosts, script)], env=environment,
                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                       text=True, timeout=120)
    assert p.returncode == 0, p.stdout
    return p.stdout


def test_mutt_submits_on_465(lab):
    rc = write(lab, "muttrc", """
set smtp_url="smtps://%s@%s:465/"
set smtp_pass="%s"
set from="alice@example.net" realname="Alice" use_envelope_from=yes hostname=client.example.net
set ssl_starttls=yes ssl_force_tls=yes ssl_verify_host=yes certificate_file="%s"
set copy=no record="" send_charset="utf-8" allow_8bit=yes
""" % (USER, TLS_NAME, PASSWORD, lab.ca))
    body = write(lab, "body", BODY)
    shell(lab, "mutt -n -F %s -s mutt bob@example.org < %s" % (rc, body))
    mail = arrived(lab, "mutt")
    assert mail["from"] == "alice@example.net" and mail["to"] == ["bob@example.org"], mail
    assert split(mail)[1] == with_line_ends(BODY), split(mail)[1]
    assert mechanism(lab) == "SCRAM-SHA-256", "Cyrus SASL prefers it"


def test_s_nail_submits_on_587_with_starttls(lab):
    rc = write(lab, "mailrc", """
set v15-compat mta=submission://%s:%s@%s:587 smtp-auth=plain smtp-use-starttls
set tls-ca-file=%s tls-verify=strict from=alice@example.net hostname=client.example.net
set sendwait ttycharset=utf-8 sendcharsets=utf-8 mime-encoding=8b
unset record
""" % (USER, PASSWORD, TLS_NAME, lab.ca))
    body = write(lab, "body", BODY)
    shell(lab, "s-nail -:u -s snail bob@example.org < %s" % body, MAILRC=rc)
    mail = arrived(lab, "snail")
    assert mail["from"] == "alice@example.net", mail
    assert split(mail)[1] == with_line_ends(BODY), split(mail)[1]


def test_git_send_email_sends_a_patch(lab):
    write(lab, "gitconfig", """
[user]
	name = Alice
	email = alice@example.net
[sendemail]
	smtpServer = %s
	smtpServerPort = 465
	smtpEncryption = ssl
	smtpSSLCertPath = %s
	smtpUser = %s
	smtpPass = %s
	smtpDomain = client.example.net
	confirm = never
""" % (TLS_NAME, lab.ca, USER, PASSWORD))
    tree = lab.path("tree")
    config = "GIT_CONFIG_GLOBAL=" + lab.path("gitconfig")
    shell(lab, "export %s; git init -q %s && cd %s && echo one > file && git add file && "
               "git commit -qm 'first patch' && git format-patch -q --stdout -1 > ../patch && "
               "git send-email --to=bob@example.org --suppress-cc=all -1" % (config, tree, tree))
    mail = arrived(lab, "[PATCH] first patch")
    head, body = split(mail)
    with open(lab.path("patch"), "rb") as f:
        patch = f.read().partition(b"\n\n")[2].replace(b"\n", b"\r\n")
    assert b"\r\nX-Mailer: git-send-email " in head, head
    assert b"+one\r\n" in patch and body == patch, body


NODEMAILER = """
const mailer = require('nodemailer'), fs = require('fs');
const [name, port, user, password, ca, body] = process.argv.slice(2);
const transport = mailer.createTransport({host: name, port: +port, secure: port === '465',
  requireTLS: true, name: 'client.example.net', tls: {ca: fs.readFileSync(ca)},
  auth: {user: user, pass: password}});
transport.sendMail({from: 'alice@example.net', to: 'bob@example.org', subject: 'node ' + port,
  textEncoding: 'quoted-printable', text: fs.readFileSync(body, 'utf8')})
  .then(() => process.exit(0), e => { console.log(e); process.exit(1); });
"""


def test_nodemailer_submits_on_both_ports(lab):
    if not os.path.isdir(os.path.join(NODE, "node_modules", "nodemailer")):
        p = subprocess.run(["npm", "install", "--prefix", NODE, "--no-audit", "--no-fund",
                            "nodemailer@6"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                           text=True, timeout=300)
        assert p.returncode == 0, p.stdout
    script = write(lab, "send.js", NODEMAILER)
    body = write(lab, "body", BODY)
    for port in ("465", "587"):
        shell(lab, "node %s %s %s %s %s %s %s" % (script, TLS_NAME, port, USER, PASSWORD, lab.ca,
                                                 body), NODE_PATH=os.path.join(NODE, "node_modules"))
        mail = arrived(lab, "node " + port)
        assert b"=C3=A4" in split(mail)[1] and mail["to"] == ["bob@example.org"], mail


if __name__ == "__main__":
    with Lab(workers=[min(1, os.cpu_count() - 1)]) as the_lab:
        the_lab.config["control"]["log"]["records"] = the_lab.path("records.jsonl")
        the_lab.write_config()
        the_lab.start_sink(the_lab.path("arrived"))
        the_lab.start()
        sys.exit(main(__name__, the_lab))
