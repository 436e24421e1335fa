"""make demo: the gateway on DPDK over a veth pair, real mail in on 587 and 465, out to a next hop.

HOLD=1 stays up; NEXT_HOP_PORT=n relays to a next hop of your own on the client's address;
DEMO_CONFIG=FILE merges YAML keys over the demo's configuration.
"""
import os
import signal
import sys
import time

import yaml

from lab import BUILD, CLIENT, HOST, PASSWORD, ROOT, TLS_NAME, USER, Lab

MEGABYTES = 128


def title(text):
    print("\n\033[1m== %s\033[0m" % text if sys.stdout.isatty() else "\n== " + text, flush=True)


def write_messages(lab):
    with open(lab.path("note.txt"), "w", newline="\r\n") as f:
        f.write("From: Alice <alice@example.net>\nTo: bob@example.org\nSubject: over 465\n\n"
                "A line with a dot at its start:\n.dot\nNo Date and no Message-ID were given.\n")
    with open(lab.path("attachment.bin"), "wb") as f:
        f.write(os.urandom(5 << 20))


def submit(lab):
    title("swaks on 587: STARTTLS, AUTH PLAIN, a short message")
    print(lab.client("swaks", "--server", HOST, "--port", 587, "--tls", "--tls-verify",
                     "--tls-ca-path", lab.ca, "--tls-sni", TLS_NAME,
                     "--auth", "PLAIN", "--auth-user", USER, "--auth-password", PASSWORD,
                     "--auth-hide-password", "--from", "alice@example.net",
                     "--to", "bob@example.org", "--helo", "client.example.net",
                     "--header", "Subject: over 587"))
    title("swaks on 587 with a 5 MB attachment (transcript without the body)")
    print(lab.client("swaks", "--server", HOST, "--port", 587, "--tls",
                     "--auth", "LOGIN", "--auth-user", USER, "--auth-password", PASSWORD,
                     "--auth-hide-password", "--from", "alice@example.net",
                     "--to", "bob@example.org,carol@example.org", "--helo", "client.example.net",
                     "--header", "Subject: five megabytes", "--attach",
                     "@" + lab.path("attachment.bin"), "--suppress-data"))
    title("curl on 465: smtps://")
    out = lab.client("curl", "-sS", "-v", "--cacert", lab.ca, "--resolve",
                     "%s:465:%s" % (TLS_NAME, HOST), "smtps://%s:465/client.example.net" % TLS_NAME,
                     "--user", "%s:%s" % (USER, PASSWORD), "--mail-from", "alice@example.net",
                     "--mail-rcpt", "bob@example.org", "--upload-file", lab.path("note.txt"))
    print("\n".join(line for line in out.splitlines()
                    if line[:2] in ("< ", "> ", "* ") and "AGFs" not in line))


def wait_for(directory, count, seconds=30):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        mails = sorted(n for n in os.listdir(directory) if n.endswith(".eml"))
        if len(mails) >= count:
            return mails
        time.sleep(0.1)
    raise RuntimeError("only %d of %d mails arrived at the next hop" % (len(mails), count))


def show_mails(directory, mails):
    for name in mails:
        with open(os.path.join(directory, name), "rb") as f:
            content = f.read()
        head, _, body = content.partition(b"\r\n\r\n")
        title("arrived at the next hop: %s, %d octets" % (name, len(content)))
        print(head.decode("ascii", "replace").replace("\r", ""))
        if len(body) < 2000:
            print("\n" + body.decode("ascii", "replace").replace("\r", ""))


def resident(pid):
    """Megabytes of the daemon, and of what `ip netns exec` became: the same process."""
    with open("/proc/%d/status" % pid) as f:
        for line in f:
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
    return 0.0


def hold(lab):
    values = {
        "NETNS": lab.client_ns, "CLIENT": CLIENT, "HOST": HOST, "PORT_SUBMISSIONS": 465,
        "PORT_SUBMISSION": 587, "USER": USER, "PASSWORD": PASSWORD, "CA": lab.ca,
        "TLS_NAME": TLS_NAME, "PID": lab.gateway.pid, "CONFIG": lab.config_path,
        "SPOOL": lab.spool,
    }
    directory = os.path.join(BUILD, "demo")
    os.makedirs(directory, exist_ok=True)
    env = os.path.join(directory, "env")
    with open(env + ".part", "w") as f:
        f.writelines("%s=%s\n" % item for item in values.items())
    os.rename(env + ".part", env)
    title("holding; Ctrl-C ends it")
    for key, value in values.items():
        print("%-17s %s" % (key, value))
    print("\nthe same as shell variables: %s\nfor example:\n"
          "  . %s\n  ip netns exec $NETNS swaks --server $HOST:587 --tls --auth PLAIN "
          "--auth-user $USER \\\n      --auth-password $PASSWORD --from $USER@example.net "
          "--to bob@example.org\n  %s/control/cli/posternctl -c $CONFIG status"
          % (os.path.relpath(env, ROOT), os.path.relpath(env, ROOT),
             os.path.relpath(BUILD, ROOT)), flush=True)
    try:
        while lab.gateway.poll() is None:
            time.sleep(0.2)
        print("the gateway has ended with status %d:\n%s" % (lab.gateway.returncode, lab.log()))
        return 1
    except KeyboardInterrupt:
        return 0
    finally:
        os.unlink(env)


def main():
    if os.geteuid() != 0:
        sys.exit("make demo needs root: it makes network namespaces and opens raw sockets")
    own_hop = os.environ.get("NEXT_HOP_PORT")
    config = {}
    if os.environ.get("DEMO_CONFIG"):
        with open(os.environ["DEMO_CONFIG"]) as f:
            config = yaml.safe_load(f) or {}

    def interrupted(*_):
        raise KeyboardInterrupt

    # also where a shell has started us in the background, with SIGINT ignored
    signal.signal(signal.SIGINT, interrupted)
    signal.signal(signal.SIGTERM, interrupted)
    with Lab(workers=(1 if os.cpu_count() > 1 else 0,), config=config,
             next_hop_port=int(own_hop or 2525)) as lab:
        arrived = lab.path("arrived")
        if not own_hop:
            lab.start_sink(arrived)
        lab.start()
        if os.environ.get("HOLD"):
            return hold(lab)
        write_messages(lab)
        submit(lab)
        if not own_hop:
            show_mails(arrived, wait_for(arrived, 3))
        title("posternctl status")
        print(lab.ctl("status"))
        size = resident(lab.gateway.pid)
        title("the daemon's memory: %.0f MB resident" % size)
        if size > MEGABYTES:
            raise RuntimeError("more than the %d MB of the demo's profile" % MEGABYTES)
        status = lab.stop()
        title("stopped by SIGTERM: exit status %d" % status)
        return status


if __name__ == "__main__":
    try:
        status = main()
    except KeyboardInterrupt:
        status = 130
    if "--tap" in sys.argv:
        print("%s 1 - mail goes in on 587 and 465 and arrives at the next hop" %
              ("not ok" if status else "ok"))
    sys.exit(status)
