"""What an operator meets: faults named with place and remedy, live views, a clean end."""
import json
import os
import signal
import subprocess
import sys

from harness import (BUILD, HOST, Lab, POSTERN, Raw, expect, mails_about, main, run, wait_until)

ROOT = os.path.dirname(BUILD)


def refused(lab, *args, change=None, prefix=()):
    """Starts with a changed configuration; exit 1 and no trace left. What it said."""
    path = lab.path("bad.yaml")
    with open(lab.config_path) as f:
        text = f.read()
    for old, new in (change or {}).items():
        assert old in text, old
        text = text.replace(old, new)
    with open(path, "w") as f:
        f.write(text)
    p = subprocess.run(["ip", "netns", "exec", lab.gw_ns, *prefix, POSTERN, "-c", path, *args],
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=30)
    assert p.returncode == 1, "exit %d: %s" % (p.returncode, p.stdout)
    assert not os.path.exists(lab.socket) or lab.gateway, "a socket was left behind"
    return p.stdout


def says(text, *words):
    for w in words:
        assert w in text, "%r is not in: %s" % (w, text)


def test_unknown_key_is_named_with_its_place_and_the_nearest_one(lab):
    out = refused(lab, "-t", change={"hostname:": "hostnam:"})
    says(out, "bad.yaml:1:1: hostnam: ", "hostname")


def test_wrong_type_is_named_with_what_is_allowed(lab):
    out = refused(lab, "-t", change={"memory: 128M": "memory: lots"})
    says(out, "bad.yaml:", "dataplane.memory", "lots")


def test_a_core_that_does_not_exist_is_named(lab):
    out = refused(lab, change={"workers: [%d]" % lab.core: "workers: [250]"})
    says(out, "dataplane.workers", "250")


def test_a_port_that_does_not_exist_is_named(lab):
    out = refused(lab, change={"iface=gw0": "iface=nosuch0"})
    says(out, "nosuch0")


def test_too_few_hugepages_are_counted_with_the_remedy(lab):
    out = refused(lab, change={"memory: 128M": "memory: 128M\n  hugepages: required"})
    says(out, "dataplane.hugepages", "vm.nr_hugepages=")


def test_an_unreadable_certificate_is_named(lab):
    out = refused(lab, change={"cert.pem": "none.pem"})
    says(out, "tls.certificates", "none.pem")


def test_a_key_that_does_not_fit_the_certificate_is_named(lab):
    run("openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out",
        lab.path("other.pem"))
    out = refused(lab, change={"key.pem": "other.pem"})
    says(out, "other.pem")


def test_missing_rights_are_named(lab):
    for name in os.listdir(lab.dir):
        if name in ("key.pem", "users", "bad.yaml"):
            os.chmod(lab.path(name), 0o644)
    os.chmod(lab.spool, 0o777)
    out = refused(lab, prefix=("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"))
    os.chmod(lab.spool, 0o700)
    os.chmod(lab.path("users"), 0o600)
    assert "root" in out or "CAP_NET_RAW" in out or "ermission" in out, out


def test_an_http_address_in_use_is_named(lab):
    holder = lab.spawn(lab.gw_ns, sys.executable, "-c",
                       "import socket,time\ns=socket.socket()\ns.bind(('127.0.0.1',9587))\n"
                       "s.listen()\nprint('up',flush=True)\ntime.sleep(60)",
                       log=lab.path("holder.log"))
    wait_until(lambda: os.path.getsize(lab.path("holder.log")) > 0, 10)
    out = refused(lab)
    holder.terminate()
    holder.wait(10)
    says(out, "control.http", "9587")


def test_status_sessions_stats_and_queue_are_answered(lab):
    lab.start()
    with Raw(lab, 465, login=True) as c:
        c.envelope()
        sessions = json.loads(lab.ctl("--json", "sessions"))
        assert sessions["total"] == 1, sessions
        one = sessions["sessions"][0]
        assert one["user"] == "alice" and one["tls"] and one["state"] == "command", one
        expect(c.cmd("DATA"), 354)
        c.send("Subject: seen\r\n\r\nx\r\n.\r\n")
        expect(c.reply(), 250)
        queue = wait_until(lambda: lab.ctl("--json", "queue"), 10)
        assert json.loads(queue)["recipients"] == 1
    status = json.loads(lab.ctl("--json", "status"))
    assert status["queued"] == 1 and status["next_hops"][0]["down"], status
    says(lab.ctl("status"), "submit.example.net")
    says(lab.ctl("stats"), "smtp_messages")


def test_trace_tells_of_connections_one_by_one(lab):
    with Raw(lab, 465, login=True):
        pass

    def ended():
        """Accepted connections that are over; the relay's attempts are others."""
        told = json.loads(lab.ctl("--json", "trace"))
        accepted = {e["connection"] for e in told if e["meaning"] == "CLOSED -> SYN_RCVD"}
        return [e for e in told if e["connection"] in accepted and
                e["event"] == "state" and e["meaning"].endswith("-> CLOSED")]
    one = wait_until(ended, 10)[0]["connection"]
    events = json.loads(lab.ctl("--json", "trace", one))
    assert {e["connection"] for e in events} == {one}, events
    assert events[0]["meaning"] == "CLOSED -> SYN_RCVD", events
    assert events[1]["meaning"] == "SYN_RCVD -> ESTABLISHED", events
    says(lab.ctl("trace"), "SYN_RCVD -> ESTABLISHED")


def test_metrics_have_help_and_worker_cycles(lab):
    out = run("ip", "netns", "exec", lab.gw_ns, "curl", "-s", "http://127.0.0.1:9587/metrics")
    says(out, "# HELP postern_smtp_messages_total", 'postern_worker_idle_cycles_total{worker="0"}',
         'postern_worker_productive_cycles_total{worker="0"}', "# TYPE")


def test_no_secret_is_in_the_log_the_queue_or_the_spool(lab):
    secrets = [b"wonderland-42", b"AGFsaWNlAHdvbmRlcmxhbmQtNDI="]
    for directory, _, files in os.walk(lab.dir):
        for name in files:
            if not os.path.isfile(os.path.join(directory, name)):
                continue
            with open(os.path.join(directory, name), "rb") as f:
                data = f.read()
            for secret in secrets:
                assert secret not in data, "%s holds a password" % name


def test_users_are_added_and_removed_while_it_runs(lab):
    lab.add_user("bob", "another-secret")
    wait_until(lambda: login_works("bob", "another-secret", lab), 10, "the new login")
    run(os.path.join(BUILD, "control", "cli", "posternctl"), "user", "remove", "bob", "--file",
        lab.path("users"))
    wait_until(lambda: not login_works("bob", "another-secret", lab), 10, "the login's end")


def login_works(user, password, lab):
    try:
        with Raw(lab, 465) as c:
            c.login(user, password)
        return True
    except AssertionError:
        return False


def test_sigterm_tells_idle_sessions_421_and_lets_a_message_end(lab):
    with Raw(lab, 465, login=True) as idle, Raw(lab, 465, login=True) as busy:
        busy.envelope()
        expect(busy.cmd("DATA"), 354)
        lab.gateway.send_signal(signal.SIGTERM)
        expect(idle.reply(), 421, "4.3.2")
        assert idle.closed()
        busy.send("Subject: last\r\n\r\nx\r\n.\r\n")
        expect(busy.reply(), 250, "2.0.0")
        expect(busy.reply(), 421, "4.3.2")
    assert lab.gateway.wait(30) == 0
    lab.start_sink(lab.path("arrived"))
    lab.start()
    mails_about(lab.path("arrived"), "last")
    assert lab.stop() == 0


def test_unfilled_checksums_are_named_with_the_command(lab):
    run("ip", "netns", "exec", lab.client_ns, "ethtool", "-K", "cl0", "tx", "on")
    lab.start()
    lab.spawn(lab.client_ns, sys.executable, "-c",
              "import socket\nfor i in range(8):\n try: socket.create_connection(('%s',587),0.3)\n"
              " except OSError: pass" % HOST)
    wait_until(lambda: "ethtool -K gw0 rx off tx off" in lab.log(), 15, "the hint in the log")
    run("ip", "netns", "exec", lab.client_ns, "ethtool", "-K", "cl0", "tx", "off")
    assert lab.stop() == 0


def test_demo_holds_with_the_users_own_next_hop_and_keys(lab):
    extra = lab.path("extra.yaml")
    with open(extra, "w") as f:
        f.write("submission: {max_message_size: 3M}\n")
    env = os.path.join(BUILD, "demo", "env")
    p = subprocess.Popen([sys.executable, os.path.join(ROOT, "tools", "demo.py")],
                         env=dict(os.environ, HOLD="1", NEXT_HOP_PORT="2626", DEMO_CONFIG=extra),
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        wait_until(lambda: os.path.exists(env), 30, "build/demo/env")
        with open(env) as f:
            v = dict(line.rstrip("\n").split("=", 1) for line in f)
        assert set(v) == {"NETNS", "CLIENT", "HOST", "PORT_SUBMISSIONS", "PORT_SUBMISSION", "USER",
                          "PASSWORD", "CA", "TLS_NAME", "PID", "CONFIG", "SPOOL"}, v
        os.makedirs(lab.path("own"), exist_ok=True)
        hop = subprocess.Popen(["ip", "netns", "exec", v["NETNS"], sys.executable,
                                os.path.join(ROOT, "tools", "sink.py"), "--listen",
                                v["CLIENT"] + ":2626", "--directory", lab.path("own")],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        out = run("ip", "netns", "exec", v["NETNS"], "swaks", "--server",
                  "%s:%s" % (v["HOST"], v["PORT_SUBMISSION"]), "--tls", "--auth", "PLAIN",
                  "--auth-user", v["USER"], "--auth-password", v["PASSWORD"], "--from",
                  "alice@example.net", "--to", "bob@example.org", "--header", "Subject: own hop")
        says(out, "250-SIZE 3145728")
        mails_about(lab.path("own"), "own hop", seconds=40)
        hop.terminate()
        hop.wait(10)
    finally:
        p.terminate()
        out, _ = p.communicate(timeout=40)
    assert p.returncode == 0, out
    assert not os.path.exists(env)
    assert v["NETNS"] not in run("ip", "netns", "list")
    assert not os.path.exists(os.path.dirname(v["CONFIG"]))


if __name__ == "__main__":
    core = min(1, os.cpu_count() - 1)
    with Lab(workers=[core]) as the_lab:
        the_lab.core = core
        sys.exit(main(__name__, the_lab))
