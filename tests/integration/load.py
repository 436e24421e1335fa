"""A load of real sessions (smtplib, threads): prints what was acknowledged as one line of JSON.

Every message carries X-Tag and a body of its own; the digest is of the body as it must arrive.
"""
import argparse
import hashlib
import json
import random
import smtplib
import ssl
import threading
import time


class Load:
    def __init__(self, args):
        self.args = args
        self.context = ssl.create_default_context(cafile=args.ca)
        self.acknowledged, self.errors, self.codes = {}, [], {}
        self.lock = threading.Lock()
        self.began = time.monotonic()

    def wrap_socket(self, sock, server_hostname=None, **kw):
        return self.context.wrap_socket(sock, server_hostname=self.args.name, **kw)

    def connect(self, implicit):
        if implicit:
            s = smtplib.SMTP_SSL(self.args.host, 465, context=self, timeout=self.args.timeout)
        else:
            s = smtplib.SMTP(self.args.host, 587, timeout=self.args.timeout)
            s.starttls(context=self)
        s.login(self.args.user, self.args.password)
        return s

    def body(self, rng):
        size = rng.choice([0, 10, 1000, 20000, 70000, 300000])
        lines, n = [], 0
        while n < size:
            line = "".join(rng.choice(".abcdefgh ") for _ in range(rng.randint(0, 60)))
            lines.append(line)
            n += len(line) + 2
        return "".join(line + "\r\n" for line in lines)

    def message(self, s, tag, rng):
        body = self.body(rng)
        text = "From: a@example.net\r\nX-Tag: %s\r\n\r\n%s" % (tag, body)
        s.sendmail("alice@example.net", ["%s@example.org" % tag], text)
        with self.lock:
            self.acknowledged[tag] = hashlib.sha256(body.encode()).hexdigest()

    def session(self, i):
        rng = random.Random("%s/%d" % (self.args.tag, i))
        try:
            s = self.connect(i % 2 == 0)
            for k in range(self.args.messages):
                self.message(s, "%s-%d-%d" % (self.args.tag, i, k), rng)
            s.quit()
        except smtplib.SMTPResponseException as e:
            with self.lock:
                self.codes[e.smtp_code] = self.codes.get(e.smtp_code, 0) + 1
                self.errors.append("%d: %r" % (i, e))
        except (OSError, smtplib.SMTPException) as e:
            with self.lock:
                self.errors.append("%d: %r" % (i, e))

    def abort(self, i):
        """A session that goes away in the middle of its data: it must leave nothing."""
        try:
            s = self.connect(i % 2 == 0)
            s.mail("alice@example.net")
            s.rcpt("abort-%d@example.org" % i)
            s.putcmd("data")
            s.getreply()
            s.send("X-Tag: aborted-%d\r\n\r\n%s" % (i, "x" * 900 + "\r\n" * 200))
            s.sock.close()
        except (OSError, smtplib.SMTPException) as e:
            with self.lock:
                self.errors.append("abort %d: %r" % (i, e))

    def run(self):
        threads = [threading.Thread(target=self.session, args=(i,), daemon=True)
                   for i in range(self.args.sessions)]
        threads += [threading.Thread(target=self.abort, args=(i,), daemon=True)
                    for i in range(self.args.aborts)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        with self.lock:
            print(json.dumps({"acknowledged": self.acknowledged, "errors": self.errors,
                              "codes": self.codes,
                              "seconds": time.monotonic() - self.began}), flush=True)


if __name__ == "__main__":
    p = argparse.ArgumentParser()
    p.add_argument("--host", required=True)
    p.add_argument("--ca", required=True)
    p.add_argument("--name", required=True)
    p.add_argument("--user", required=True)
    p.add_argument("--password", required=True)
    p.add_argument("--sessions", type=int, default=1)
    p.add_argument("--messages", type=int, default=1)
    p.add_argument("--aborts", type=int, default=0)
    p.add_argument("--timeout", type=float, default=60)
    p.add_argument("--tag", default="load")
    Load(p.parse_args()).run()
