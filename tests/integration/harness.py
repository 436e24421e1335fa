"""Test functions of a module run in the order they stand, TAP out.  A test's name is its claim."""
import base64
import glob
import hashlib
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import time
import traceback

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools"))

from lab import BUILD, CLIENT, HOST, PASSWORD, POSTERN, POSTERNCTL, TLS_NAME, USER, Lab, run  # noqa: E402,F401

HERE = os.path.dirname(os.path.abspath(__file__))
FAULTFS = os.path.join(BUILD, "tests", "integration", "libfaultfs.so")


def main(module, *args):
    """Runs test_* of the module, each with args; the exit status."""
    tests = [(n, f) for n, f in vars(sys.modules[module]).items()
             if n.startswith("test_") and callable(f)]
    chosen = sys.argv[1:]
    failed = number = 0
    for name, function in tests:
        if chosen and name not in chosen:
            continue
        number += 1
        began = time.monotonic()
        try:
            function(*args)
            print("ok %d - %s (%.1f s)" % (number, name[5:], time.monotonic() - began), flush=True)
        except Exception:
            failed += 1
            traceback.print_exc(file=sys.stdout)
            print("not ok %d - %s" % (number, name[5:]), flush=True)
    print("1..%d" % number)
    return 1 if failed or not number else 0


def mails(directory):
    """(envelope, content) of everything that arrived, in order."""
    index = os.path.join(directory, "index.jsonl")
    if not os.path.exists(index):
        return []
    with open(index) as f:
        entries = [json.loads(line) for line in f if line.endswith("\n")]
    for e in entries:
        with open(os.path.join(directory, e["file"]), "rb") as f:
            e["content"] = f.read()
    return entries


def wait_until(condition, seconds=30, what="condition"):
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError("%s did not come true in %d s" % (what, seconds))
        time.sleep(0.05)


def wait_mails(directory, count, seconds=30):
    return wait_until(lambda: len(mails(directory)) >= count and mails(directory), seconds,
                      "%d mails at the next hop" % count)


def start_recovered(lab):
    """Starts the gateway and waits until it has all that lay in its spool."""
    lab.start()
    wait_until(lambda: json.loads(lab.ctl("--json", "status"))["spool"]["recovery"]["done"], 60,
               "end of recovery")


def next_mail(lab, action):
    """Runs the action and returns the mail that it brought to the next hop."""
    arrived = lab.path("arrived")
    before = len(mails(arrived))
    action()
    return wait_mails(arrived, before + 1)[before]


def mails_about(directory, subject, count=1, seconds=30):
    """The mails with this subject, once there are so many."""
    line = ("Subject: %s\r\n" % subject).encode()

    def found():
        some = [m for m in mails(directory) if line in m["content"]]
        return some if len(some) >= count else None
    return wait_until(found, seconds, "%d mails about %s" % (count, subject))


def body_of(content):
    return content.partition(b"\r\n\r\n")[2]


def worker_counters(lab, name):
    """A counter's value of each worker, and of the other threads, as /metrics tells it."""
    out = run("ip", "netns", "exec", lab.gw_ns, "curl", "-s", "http://127.0.0.1:9587/metrics")
    values = [int(float(line.split()[1])) for line in out.splitlines()
              if line.startswith(("postern_%s_total{" % name, "postern_%s_total " % name))]
    assert values, "no counter is named " + name
    return values


def counter(lab, name):
    return sum(worker_counters(lab, name))


def unpacked(package):
    """The Debian package's files, in the build folder: not installed, nothing of it is started."""
    directory = os.path.join(BUILD, "packages", package)
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


def expect(reply, code, enhanced=None):
    assert reply.startswith(str(code)), "expected %s, got: %s" % (code, reply)
    if enhanced is not None:
        assert reply[4:].startswith(enhanced + " "), "expected %s, got: %s" % (enhanced, reply)
    return reply


RAW_CLIENT = os.path.join(HERE, "raw_client.py")


class Raw:
    """A client of single octets: a helper process in the clients' namespace does the sockets.

    Lines are sent as they are; replies come back whole (all lines of a multi-line reply)."""

    def __init__(self, lab, port=587, tls=None, login=False):
        self.p = subprocess.Popen(
            ["ip", "netns", "exec", lab.client_ns, sys.executable, RAW_CLIENT, HOST, str(port),
             lab.ca, TLS_NAME], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if tls if tls is not None else port == 465:
            self._do("tls")
        self.greeting = self.reply()
        if login:
            self.login()

    def _do(self, verb, data=""):
        self.p.stdin.write("%s %s\n" % (verb, data))
        self.p.stdin.flush()
        answer = json.loads(self.p.stdout.readline() or '{"error": "helper died"}')
        if "error" in answer:
            raise ConnectionError(answer["error"])
        return answer["value"]

    def send(self, data):
        if isinstance(data, str):
            data = data.encode("latin-1")
        self._do("send", base64.b64encode(data).decode())

    def reply(self, seconds=30):
        return self._do("reply", str(seconds))

    def readable(self, seconds):
        return self._do("readable", str(seconds))

    def cmd(self, line):
        self.send(line + "\r\n")
        return self.reply()

    def closed(self, seconds=30):
        """Whether the peer closes without another octet."""
        return self._do("closed", str(seconds))

    def starttls(self):
        expect(self.cmd("EHLO raw.example.net"), 250)
        expect(self.cmd("STARTTLS"), 220)
        self._do("tls")

    def login(self, user=USER, password=PASSWORD):
        expect(self.cmd("EHLO raw.example.net"), 250)
        token = base64.b64encode(("\0%s\0%s" % (user, password)).encode()).decode()
        expect(self.cmd("AUTH PLAIN " + token), 235)

    def envelope(self, sender="alice@example.net", *recipients):
        expect(self.cmd("MAIL FROM:<%s>" % sender), 250)
        for r in recipients or ("bob@example.org",):
            expect(self.cmd("RCPT TO:<%s>" % r), 250)

    def close(self):
        self.p.stdin.close()
        self.p.wait(10)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()
