"""The configuration is read again while clients submit: nothing is dropped, a bad file changes
nothing, and what changed is on the wire."""
import hashlib
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import threading
import time

from harness import (HOST, Lab, POSTERNCTL, Raw, expect, main, mails, run, wait_until)

PRINT = """
import hashlib, socket, ssl, sys
c = ssl.create_default_context(); c.check_hostname = False; c.verify_mode = ssl.CERT_NONE
s = c.wrap_socket(socket.create_connection((sys.argv[1], 465), 10),
                  server_hostname=sys.argv[2] or None)
print(hashlib.sha256(s.getpeercert(True)).hexdigest())
"""


def new_certificate(lab, name, chain, key):
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
        "-days", "30", "-subj", "/CN=" + name, "-keyout", lab.path(key), "-out", lab.path(chain),
        "-addext", "subjectAltName=DNS:" + name)


def on_the_wire(lab, name):
    return run("ip", "netns", "exec", lab.client_ns, sys.executable, "-c", PRINT, HOST,
               name).strip()


def on_disk(lab, chain):
    der = ssl.PEM_cert_to_DER_cert(open(lab.path(chain)).read())
    return hashlib.sha256(der).hexdigest()


def reload(lab):
    return json.loads(lab.ctl("--json", "reload"))


def refused_reload(lab):
    p = subprocess.run([POSTERNCTL, "--socket", lab.socket, "reload"], stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT, text=True, timeout=30)
    assert p.returncode == 1, p.stdout
    return p.stdout


def test_a_changed_certificate_file_is_on_the_wire_after_a_reload(lab):
    before = on_the_wire(lab, "submit.example.net")
    assert before == on_disk(lab, "cert.pem")
    new_certificate(lab, "submit.example.net", "cert.pem", "key.pem")
    assert on_the_wire(lab, "submit.example.net") == before
    answer = reload(lab)
    assert answer["reloaded"] and answer["certificates_read"] == 1, answer
    assert answer["applied"] == [] and answer["needs_restart"] == [], answer
    assert on_the_wire(lab, "submit.example.net") == on_disk(lab, "cert.pem") != before


def test_sighup_reloads_too(lab):
    new_certificate(lab, "submit.example.net", "cert.pem", "key.pem")
    lab.gateway.send_signal(signal.SIGHUP)
    wait_until(lambda: on_the_wire(lab, "") == on_disk(lab, "cert.pem"), 10, "the certificate")


def test_a_certificate_is_added_for_a_second_name(lab):
    new_certificate(lab, "second.example.net", "second.pem", "second.key")
    lab.config["tls"]["certificates"].append(
        {"chain": lab.path("second.pem"), "key": lab.path("second.key")})
    lab.write_config()
    assert reload(lab)["applied"] == ["tls.certificates"]
    assert on_the_wire(lab, "second.example.net") == on_disk(lab, "second.pem")
    assert on_the_wire(lab, "submit.example.net") == on_disk(lab, "cert.pem")


def test_a_bad_file_is_refused_with_place_and_changes_nothing(lab):
    good = open(lab.config_path).read()
    before = on_the_wire(lab, "submit.example.net")
    with open(lab.config_path, "w") as f:
        f.write(good.replace("max_message_size: 50M", "max_message_size: 50X"))
    out = refused_reload(lab)
    assert "postern.yaml:" in out and "submission.max_message_size" in out, out
    assert "reload refused" in lab.log()
    with open(lab.config_path, "w") as f:
        f.write(good)
    config = json.loads(json.dumps(lab.config))
    config["relay"]["pools"][0].update(connections=1024, next_hops=[
        {"address": "192.0.2.%d" % i} for i in range(200, 205)])
    with open(lab.config_path, "w") as f:
        json.dump(config, f)
    out = refused_reload(lab)
    assert "relay.pools: up to 5120 connections" in out and "needs a restart" in out, out
    with open(lab.config_path, "w") as f:
        f.write(good)
    os.rename(lab.path("key.pem"), lab.path("away.pem"))
    assert "key.pem" in refused_reload(lab)
    shutil.copy(lab.path("second.key"), lab.path("key.pem"))
    assert "key.pem" in refused_reload(lab)
    os.rename(lab.path("away.pem"), lab.path("key.pem"))
    assert on_the_wire(lab, "submit.example.net") == before
    assert reload(lab)["reloaded"]


def test_limits_hold_for_sessions_that_are_open(lab):
    with Raw(lab, 465, login=True) as c:
        assert "SIZE 52428800" in c.cmd("EHLO x")
        lab.config["submission"]["max_message_size"] = "1M"
        lab.config["submission"]["max_recipients"] = 100
        lab.write_config()
        answer = reload(lab)
        assert sorted(answer["applied"]) == ["submission.max_message_size",
                                             "submission.max_recipients"], answer
        assert "SIZE 1048576" in c.cmd("EHLO x")
        expect(c.cmd("MAIL FROM:<a@example.net> SIZE=2000000"), 552)


def test_what_needs_a_restart_is_listed_and_not_taken(lab):
    lab.config["spool"]["max_size"] = "1G"
    lab.config["dataplane"]["limits"]["sessions"] = 999
    lab.config["control"]["log"]["level"] = "debug"
    lab.write_config()
    for _ in range(2):
        answer = reload(lab)
        assert sorted(answer["needs_restart"]) == ["dataplane.limits.sessions",
                                                   "spool.max_size"], answer
    assert answer["applied"] == [], answer


def test_http_cannot_reload(lab):
    out = run("ip", "netns", "exec", lab.gw_ns, "curl", "-s", "-o", "/dev/null", "-w",
              "%{http_code}", "http://127.0.0.1:9587/api/reload")
    assert out == "404", out


def submitter(lab, number, stop, sent, faults):
    try:
        while not stop.is_set():
            with Raw(lab, 465, login=True) as c:
                for _ in range(3):
                    c.envelope()
                    expect(c.cmd("DATA"), 354)
                    c.send("Subject: %d-%d\r\n\r\nx\r\n.\r\n" % (number, sent[number]))
                    expect(c.reply(), 250)
                    sent[number] += 1
    except Exception as e:  # what a client sees as a dropped session
        faults.append("client %d: %r" % (number, e))


def test_200_reloads_while_clients_submit_drop_nothing(lab):
    lab.start_sink(lab.path("arrived"))
    stop, faults, sent = threading.Event(), [], [0] * 6
    threads = [threading.Thread(target=submitter, args=(lab, i, stop, sent, faults))
               for i in range(len(sent))]
    for t in threads:
        t.start()
    for i in range(200):
        if i % 20 == 10:
            new_certificate(lab, "second.example.net", "second.pem", "second.key")
        lab.config["submission"]["max_recipients"] = 100 + i
        lab.write_config()
        answer = reload(lab)
        assert answer["reloaded"], answer
    stop.set()
    for t in threads:
        t.join(60)
    assert not faults, faults
    assert min(sent) > 0, sent
    wait_until(lambda: len(mails(lab.path("arrived"))) >= sum(sent), 60, "all mails")
    assert on_the_wire(lab, "second.example.net") == on_disk(lab, "second.pem")


def test_retired_contexts_are_freed_when_their_sessions_end(lab):
    def retired():
        out = run("ip", "netns", "exec", lab.gw_ns, "curl", "-s", "http://127.0.0.1:9587/metrics")
        return [line for line in out.splitlines()
                if line.startswith("postern_tls_retired_contexts ")][0].split()[1]
    with Raw(lab, 465, login=True) as c:
        assert reload(lab)["reloaded"]
        time.sleep(2.5)
        assert retired() == "1", retired()
        expect(c.cmd("NOOP"), 250)
    wait_until(lambda: retired() == "0", 10, "the end of the old contexts")


def test_a_ticket_secret_is_made_advanced_and_shared_over_a_restart(lab):
    secret = lab.path("tickets")
    lab.config["tls"]["tickets"] = {"secret": secret, "lifetime": "12h"}
    lab.write_config()
    assert "posternctl tickets create" in refused_reload(lab)
    run(POSTERNCTL, "-c", lab.config_path, "tickets", "create")
    assert os.stat(secret).st_mode & 0o777 == 0o600
    run(POSTERNCTL, "-c", lab.config_path, "tickets", "advance")
    assert reload(lab)["reloaded"]
    saved = lab.path("session.pem")
    first = s_client(lab, "-sess_out", saved)
    assert "New, TLSv1.3" in first, first
    lab.stop()
    lab.start()
    assert "Reused, TLSv1.3" in s_client(lab, "-sess_in", saved)
    os.chmod(secret, 0o644)
    assert "lets others read" in refused_reload(lab)
    os.chmod(secret, 0o600)


def s_client(lab, *args):
    p = subprocess.run(["ip", "netns", "exec", lab.client_ns, "openssl", "s_client", "-connect",
                        HOST + ":465", "-servername", "submit.example.net", "-ign_eof", "-crlf", *args],
                       input="QUIT\n", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                       timeout=30)
    return p.stdout


def test_the_policy_of_one_listener_changes_for_sessions_that_are_open(lab):
    text = "Subject: x\r\n\r\nno author\r\n."
    with Raw(lab, 465, login=True) as strict, Raw(lab, 587) as lax:
        lax.starttls()
        lax.login()
        for step, code in ((0, 250), (1, 554)):
            if step:
                lab.config["listeners"][0]["require_from"] = True
                lab.write_config()
                answer = reload(lab)
                assert answer["applied"] == ["listeners[0].require_from"], answer
                assert answer["needs_restart"] == [], answer
            for c, expected in ((strict, code), (lax, 250)):
                c.envelope("alice@example.net")
                expect(c.cmd("DATA"), 354)
                expect(c.cmd(text), expected)


if __name__ == "__main__":
    with Lab(workers=[min(1, os.cpu_count() - 1)]) as the_lab:
        the_lab.start()
        sys.exit(main(__name__, the_lab))
