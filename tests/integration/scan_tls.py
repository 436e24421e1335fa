"""sslscan and testssl.sh against both ports; what they must find is in scan_tls.expected.json.

A finding of testssl.sh that the file does not name fails when it is rated worse than OK or INFO, so
that a new weakness is seen without a new line here."""
import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET

from harness import HERE, HOST, Lab, main
from test_tls_matrix import s_client

with open(os.path.join(HERE, "scan_tls.expected.json")) as expected_file:
    EXPECTED = json.load(expected_file)
PORTS = {465: [], 587: ["smtp"]}


def sslscan(lab, port):
    out = lab.path("sslscan-%d.xml" % port)
    starttls = ["--starttls-smtp"] if PORTS[port] else []
    p = subprocess.run(["ip", "netns", "exec", lab.client_ns, "sslscan", "--no-colour", *starttls,
                        "--sni-name=submit.example.net", "--xml=" + out, "%s:%d" % (HOST, port)],
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)
    assert p.returncode == 0, p.stdout
    return ET.parse(out).getroot().find("ssltest")


def summary(test):
    """What matters of a scan, in the form of the expectation file."""
    return {
        "protocols": sorted("%s%s" % (p.get("type"), p.get("version"))
                            for p in test.findall("protocol") if p.get("enabled") == "1"),
        "ciphers": sorted("%s %s" % (c.get("sslversion"), c.get("cipher"))
                          for c in test.findall("cipher")),
        "groups": sorted(g.get("name") for g in test.findall("group")),
        "compression": [c.get("supported") for c in test.findall("compression")],
        "renegotiation": [(r.get("supported"), r.get("secure"))
                          for r in test.findall("renegotiation")],
        "fallback": [f.get("supported") for f in test.findall("fallback")],
        "heartbleed": [h.get("vulnerable") for h in test.findall("heartbleed")],
    }


def check_sslscan(lab, port):
    found = json.loads(json.dumps(summary(sslscan(lab, port))))
    for key, value in EXPECTED["sslscan"].items():
        assert found[key] == value, "%s: expected %s, found %s" % (key, value, found[key])


def test_sslscan_finds_only_modern_tls_on_465(lab):
    check_sslscan(lab, 465)


def test_sslscan_finds_only_modern_tls_behind_starttls(lab):
    check_sslscan(lab, 587)


def testssl(lab, port):
    out = lab.path("testssl-%d.json" % port)
    starttls = ["--starttls", "smtp"] if PORTS[port] else []
    p = subprocess.run(["ip", "netns", "exec", lab.client_ns, "testssl", "--quiet", "--color", "0",
                        "--warnings", "off", "--fast", "--nodns", "none", "-p", "-f", "-P", "-S",
                        "-U", "--sneaky", "--ip", HOST, "--jsonfile", out, *starttls,
                        "submit.example.net:%d" % port],
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=400,
                       env=dict(os.environ, TERM="dumb"))
    assert os.path.exists(out), p.stdout
    with open(out) as f:
        return {e["id"]: e for e in json.load(f)}, p.stdout


def check_testssl(lab, port):
    found, text = testssl(lab, port)
    want = EXPECTED["testssl"]
    for name, pattern in want["findings"].items():
        assert name in found, "%s is missing:\n%s" % (name, text)
        assert re.search(pattern, found[name]["finding"]), "%s: %s" % (name, found[name])
    bad = {n: e["finding"] for n, e in found.items()
           if e["severity"] not in ("OK", "INFO") and n not in want["tolerated"]}
    assert not bad, bad


def test_testssl_finds_no_weakness_on_465(lab):
    check_testssl(lab, 465)


def test_testssl_finds_no_weakness_behind_starttls(lab):
    check_testssl(lab, 587)


def saved(lab, port, version):
    """What testssl.sh runs for its finding on resumption, by a client that stays for the greeting."""
    session = lab.path("session.pem")
    if os.path.exists(session):
        os.unlink(session)
    s_client(lab, port, version, "-sess_out", session)
    return os.path.exists(session) and os.path.getsize(session) > 0


def test_a_client_that_stays_for_the_greeting_has_a_ticket_each_time(lab):
    for port in PORTS:
        for version in ("-tls1_2", "-tls1_3"):
            assert all(saved(lab, port, version) for _ in range(10)), (port, version)


if __name__ == "__main__":
    with Lab(workers=[min(1, os.cpu_count() - 1)]) as the_lab:
        the_lab.start()
        sys.exit(main(__name__, the_lab))
