"""Postfix, Exim and OpenSMTPD with the gateway as their smarthost.

The three exclude each other as packages and bring services along, so each is unpacked into the
build folder and laid over /usr, /etc and /var/spool in a mount namespace of its own; the machine's
own mail system is not touched.  What they submit arrives octet by octet below the Received fields
that they and the gateway put on top."""
import glob
import os
import shutil
import subprocess
import sys

from harness import BUILD, HOST, Lab, PASSWORD, TLS_NAME, USER, main, mails_about

FROM, TO = "alice@example.net", "bob@example.org"
MESSAGE = """From: Alice <%s>
To: Bob <%s>
Subject: %%s
Date: Wed, 25 Nov 2026 08:00:00 +0000
Message-ID: <%%s@client.example.net>
MIME-Version: 1.0
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: 8bit

Zeile mit Umlaut: \u00e4
.dot at the start

..two dots
	a tab, and blanks at the end  
%s
last line
""" % (FROM, TO, "long " * 150)


def unpacked(package):
    """The package's files, in the build folder."""
    directory = os.path.join(BUILD, "mta", package)
    root = os.path.join(directory, "root")
    if not os.path.isdir(root):
        shutil.rmtree(directory, ignore_errors=True)
        os.makedirs(directory)
        p = subprocess.run(["apt-get", "download", "-q", package], cwd=directory, text=True,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120)
        assert p.returncode == 0, p.stdout
        subprocess.run(["dpkg", "-x"] + glob.glob(os.path.join(directory, "*.deb")) +
                       [root + ".part"], check=True)
        os.rename(root + ".part", root)
    return root


def accounts(etc, names):
    """passwd and group with one more pair for each name."""
    for kind, line in (("passwd", "%s:x:%d:%d::/nonexistent:/usr/sbin/nologin\n"),
                       ("group", "%s:x:%d:\n")):
        with open("/etc/" + kind) as f:
            text = "".join(x for x in f if x.split(":")[0] not in names)
        for i, name in enumerate(names):
            number = 64000 + i
            text += line % ((name, number, number) if kind == "passwd" else (name, number))
        with open(os.path.join(etc, kind), "w") as f:
            f.write(text)


def submit(lab, package, names, files, script, subject):
    """Runs the script with the package and the files of /etc in place; sends nothing itself."""
    root, etc = unpacked(package), lab.path("etc-" + subject)
    work = lab.path("work-" + subject)
    os.makedirs(work)
    files = dict(files)
    files["hosts"] = "127.0.0.1 localhost client.example.net\n%s %s\n" % (HOST, TLS_NAME)
    files["resolv.conf"] = "nameserver 127.0.0.1\noptions timeout:1 attempts:1\nlookup file\n"
    files["nsswitch.conf"] = "passwd: files\ngroup: files\nhosts: files\n"
    files["mailname"] = "client.example.net\n"
    for name, text in files.items():
        path = os.path.join(etc, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as f:
            f.write(text)
        os.chmod(path, 0o600 if "secret" in name else 0o644)
    accounts(etc, names)
    with open(os.path.join(work, "message"), "w") as f:
        f.write(MESSAGE % (subject, subject))
    etc_below = [d for d in (os.path.join(root, "etc"), "/etc") if os.path.isdir(d)]
    mounts = """set -eu
mount -t overlay overlay -o lowerdir=%s/usr:/usr /usr
mount -t overlay overlay -o lowerdir=%s /etc
mount -t tmpfs tmpfs /var/spool
mount -t tmpfs tmpfs /run
mkdir -p -m 1777 /run/lock
cd %s
""" % (root, ":".join([etc] + etc_below), work)
    p = subprocess.run(["ip", "netns", "exec", lab.client_ns, "unshare", "-m", "-p", "-f",
                        "--kill-child", "--mount-proc", "sh", "-c", mounts + script],
                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                       text=True, errors="replace", timeout=90)
    assert p.returncode == 0, p.stdout
    return p.stdout


def expect_unharmed(lab, subject, told):
    mail = mails_about(lab.path("arrived"), subject)
    assert len(mail) == 1, (mail, told)
    mail = mail[0]
    assert mail["from"] == FROM and mail["to"] == [TO], mail
    original = (MESSAGE % (subject, subject)).encode().replace(b"\n", b"\r\n")
    assert mail["content"].endswith(original), mail["content"]
    above = mail["content"][:-len(original)]
    fields = above.replace(b"\r\n\t", b" ").replace(b"\r\n ", b" ").split(b"\r\n")
    assert fields.pop() == b"" and len(fields) == 2, above
    assert all(f.startswith(b"Received: ") for f in fields), above
    assert b"by %s " % TLS_NAME.encode() in fields[0] and b"ESMTPSA" in fields[0], fields[0]


# until nothing waits in the directories, at most 30 s
DRAINED = """
for i in $(seq 300); do
    [ -n "$(find %s -type f)" ] || break
    sleep 0.1
done
"""

POSTFIX = """
compatibility_level = 3.6
queue_directory = /var/spool/postfix
data_directory = /var/spool/postfix-data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
maillog_file = /var/spool/postfix.log
maillog_file_prefixes = /var/spool
mail_owner = postfix
setgid_group = postdrop
myhostname = client.example.net
myorigin = example.net
mydestination =
inet_interfaces = loopback-only
inet_protocols = ipv4
alias_maps =
alias_database =
smtp_host_lookup = native
smtp_dns_support_level = disabled
relayhost = [%s]:%d
smtp_tls_security_level = secure
smtp_tls_secure_cert_match = nexthop
smtp_tls_CAfile = %s
smtp_tls_wrappermode = %s
smtp_sasl_auth_enable = yes
smtp_sasl_password_maps = texthash:/etc/postfix/secret
smtp_sasl_security_options = noanonymous
"""


def postfix(lab, port, subject):
    files = {
        "postfix/main.cf": POSTFIX % (TLS_NAME, port, lab.ca, "yes" if port == 465 else "no"),
        "postfix/secret": "[%s]:%d %s:%s\n" % (TLS_NAME, port, USER, PASSWORD),
    }
    told = submit(lab, "postfix", ["postfix", "postdrop"], files, """
mkdir -p /var/spool/postfix-data && chown postfix /var/spool/postfix-data
cp /usr/share/postfix/master.cf.dist /run/master.cf
cp -r /etc/postfix /run/postfix && cp /run/master.cf /run/postfix/master.cf
postconf -c /run/postfix -F '*/*/chroot = n'
mount --bind /run/postfix /etc/postfix
mkdir -p /var/spool/postfix && postfix start 2>&1
sendmail -i -f %s %s < message
%s
postfix stop 2>&1 || true
cat /var/spool/postfix.log
""" % (FROM, TO, DRAINED % "/var/spool/postfix/maildrop /var/spool/postfix/incoming "
       "/var/spool/postfix/active /var/spool/postfix/deferred"), subject)
    expect_unharmed(lab, subject, told)
    return told


def test_postfix_submits_on_587_with_starttls(lab):
    postfix(lab, 587, "postfix-587")


def test_postfix_submits_on_465(lab):
    postfix(lab, 465, "postfix-465")


EXIM = """
primary_hostname = client.example.net
spool_directory = /var/spool/exim4
log_file_path = /var/spool/exim4/log-%%slog
exim_user = Debian-exim
exim_group = Debian-exim
disable_ipv6
keep_environment =
begin routers
smarthost:
  driver = manualroute
  transport = smarthost
  route_list = * %s byname
begin transports
smarthost:
  driver = smtp
  port = %d
  protocol = %s
  hosts_require_auth = *
  hosts_require_tls = *
  tls_verify_certificates = %s
  tls_verify_hosts = *
  tls_verify_cert_hostnames = *
begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  client_send = ^%s^%s
"""


def exim(lab, port, subject):
    text = EXIM % (TLS_NAME, port, "smtps" if port == 465 else "smtp", lab.ca, USER, PASSWORD)
    told = submit(lab, "exim4-daemon-light", ["Debian-exim"], {"exim4/exim.conf": text}, """
mkdir /var/spool/exim4 && chown Debian-exim:Debian-exim /var/spool/exim4
exim4 -C /etc/exim4/exim.conf -odf -i -f %s %s < message
cat /var/spool/exim4/log-mainlog
[ -z "$(find /var/spool/exim4/input -type f)" ]
""" % (FROM, TO), subject)
    expect_unharmed(lab, subject, told)


def test_exim_submits_on_587_with_starttls(lab):
    exim(lab, 587, "exim-587")


def test_exim_submits_on_465(lab):
    exim(lab, 465, "exim-465")


OPENSMTPD = """
table secret file:/etc/opensmtpd.secret
listen on socket
action "smarthost" relay host %s://gw@%s:%d auth <secret>
match from any for any action "smarthost"
"""


def opensmtpd(lab, port, subject):
    with open(lab.ca) as f:
        ca = f.read()
    files = {
        "smtpd.conf": OPENSMTPD % ("smtps" if port == 465 else "smtp+tls", TLS_NAME, port),
        "opensmtpd.secret": "gw %s:%s\n" % (USER, PASSWORD),
        "ssl/certs/ca-certificates.crt": ca, "ssl/cert.pem": ca,
    }
    told = submit(lab, "opensmtpd", ["opensmtpd", "opensmtpq"], files, """
mkdir -p /var/lib/opensmtpd/empty 2>/dev/null || { mount -t tmpfs tmpfs /var/lib; mkdir -p /var/lib/opensmtpd/empty; }
smtpd -d > /var/spool/log 2>&1 &
daemon=$!
ln -s /usr/sbin/smtpctl sendmail
for i in $(seq 100); do smtpctl show stats >/dev/null 2>&1 && break; sleep 0.1; done
setpriv --regid $(getent group opensmtpq | cut -d: -f3) --clear-groups ./sendmail -i -f %s %s < message || { cat /var/spool/log; exit 1; }
%s
kill $daemon
wait $daemon || true
cat /var/spool/log
""" % (FROM, TO, DRAINED % "/var/spool/smtpd/queue"), subject)
    expect_unharmed(lab, subject, told)


def test_opensmtpd_submits_on_587_with_starttls(lab):
    opensmtpd(lab, 587, "opensmtpd-587")


def test_opensmtpd_submits_on_465(lab):
    opensmtpd(lab, 465, "opensmtpd-465")


if __name__ == "__main__":
    with Lab(workers=[min(1, os.cpu_count() - 1)]) as the_lab:
        the_lab.start_sink(the_lab.path("arrived"))
        the_lab.start()
        sys.exit(main(__name__, the_lab))
