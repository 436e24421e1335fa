"""posternctl spool check, dump and repair, on a spool in use and on one that is left alone."""
import glob
import json
import os
import subprocess

from harness import HOST, Lab, PASSWORD, POSTERNCTL, USER, main, wait_mails

MAILS = 4


def claim(holds, what):
    if not holds:
        raise AssertionError(what)


def spool(lab, *args, status=0):
    p = subprocess.run([POSTERNCTL, "-c", lab.config_path, "spool"] + [str(a) for a in args],
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
    claim(p.returncode == status, "exit %d\n%s\n%s" % (p.returncode, p.stdout, p.stderr))
    return p.stdout


def check(lab, status=0):
    lines = [json.loads(x) for x in spool(lab, "check", "--json", status=status).splitlines()]
    return lines[-1], lines[:-1]


def submit(lab, n):
    body = lab.path("body")
    with open(body, "w") as f:
        f.write("line of %d\n" % n if n else "x" * 70 + "\n" + ("y" * 70 + "\n") * 2000)
    lab.client("swaks", "--server", HOST + ":587", "--tls", "--auth", "PLAIN", "--auth-user", USER,
               "--auth-password", PASSWORD, "--from", USER + "@example.net", "--to",
               "bob%d@example.org" % n, "--header", "Subject: tool %d" % n, "--body",
               "@" + body)


def test_a_spool_in_use_is_checked_and_shown(lab):
    for n in range(MAILS):
        submit(lab, n)
    sums, faults = check(lab)
    claim(sums["in_use"] and sums["good"] and sums["live"] == MAILS and not faults, (sums, faults))
    claim(sums["holder"] == json.loads(lab.ctl("--json", "status"))["pid"], sums)
    claim(sums["bodies"] == 1, "the first is large: %s" % sums)
    records = [json.loads(x) for x in spool(lab, "dump").splitlines()]
    messages = [r for r in records if r["type"] == "message"]
    claim([m["recipients"] for m in messages] == [["bob%d@example.org" % n] for n in range(MAILS)],
          messages)
    claim(all(m["user"] == USER and m["sender"] == USER + "@example.net" for m in messages), messages)
    for n, m in enumerate(messages):
        head, content = spool(lab, "dump", "--id", m["id"]).split(b"\n\n", 1) if n == 0 else \
            spool(lab, "dump", "--id", m["id"]).rsplit(b"}\n\n", 1)
        claim(content.startswith(b"Received: ") and b"Subject: tool %d\r\n" % n in content, content[:400])
        claim(content.count(b"y" * 70) == (2000 if n == 0 else 0), len(content))
    claim(b"no record" in subprocess.run([POSTERNCTL, "spool", "dump", lab.spool, "--id", "1234"],
                                         stderr=subprocess.PIPE).stderr, "an id that nobody has")


def test_a_spool_in_use_is_not_repaired(lab):
    p = subprocess.run([POSTERNCTL, "spool", "repair", lab.spool], stdout=subprocess.PIPE,
                       stderr=subprocess.PIPE, text=True)
    claim(p.returncode == 1 and str(json.loads(lab.ctl("--json", "status"))["pid"]) in p.stderr, p.stderr)


def test_a_harmed_spool_is_found_out_and_repaired(lab):
    lab.kill()
    sums, faults = check(lab)
    claim(not sums["in_use"] and sums["live"] == MAILS, sums)
    log = min(glob.glob(os.path.join(lab.spool, "*.log")))
    with open(log, "r+b") as f:
        data = f.read()
        f.seek(data.index(b"line of 2"))
        f.write(b"LINE")
    sums, faults = check(lab, status=1)
    claim(sums["damaged"] == 1 and not sums["good"], sums)
    claim(faults[0]["file"] == os.path.basename(log) and faults[0]["at"] > 0, faults)
    result = json.loads(spool(lab, "repair", "--json").splitlines()[-1])
    claim(result["messages"] == MAILS - 1 and result["set_aside"] == 1, result)
    sums, faults = check(lab, status=1)
    claim(sums["damaged"] == 0 and sums["set_aside"] == 1 and sums["live"] == MAILS - 1, sums)
    os.unlink(min(glob.glob(os.path.join(lab.spool, "*.bad"))))
    claim(check(lab, status=1)[0]["damaged"] == 1, "without its copy it is told again")


def test_the_rest_is_delivered(lab):
    lab.start_sink(lab.path("mail"))
    lab.start()
    lab.ctl("queue", "retry", "--all")
    arrived = wait_mails(lab.path("mail"), MAILS - 1)
    claim(sorted(m["to"][0] for m in arrived) == ["bob%d@example.org" % n for n in (0, 1, 3)], arrived)


if __name__ == "__main__":
    with Lab() as the_lab:
        the_lab.start()
        raise SystemExit(main(__name__, the_lab))
