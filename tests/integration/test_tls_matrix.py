"""What openssl s_client and Python's ssl get from both ports: versions, suites, groups, the
certificate's kind, and what is refused."""
import os
import re
import subprocess
import sys

from harness import HOST, Lab, main, run

PORTS = ((465, ()), (587, ("-starttls", "smtp")))
SUITES_1_3 = ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"]
SUITES_1_2 = ["AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305"]
WEAK = ["AES128-SHA", "AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-SHA", "ECDHE-RSA-AES256-SHA384",
        "DHE-RSA-AES128-GCM-SHA256", "NULL-SHA256", "ECDHE-ECDSA-NULL-SHA", "AECDH-AES128-SHA",
        "PSK-AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-CCM8"]


def s_client(lab, port, *args):
    """Exit status and output of a session that says QUIT."""
    p = subprocess.run(["ip", "netns", "exec", lab.client_ns, "openssl", "s_client", "-connect",
                        "%s:%d" % (HOST, port), "-servername", "submit.example.net", "-CAfile",
                        lab.ca, "-ign_eof", "-crlf", *dict(PORTS)[port], *args],
                       input="QUIT\n", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                       timeout=30)
    return p.returncode, p.stdout


def session(out):
    """Protocol and cipher of an established session; None: there is none."""
    m = re.search(r"^(?:New|Reused), (TLSv[0-9.]+), Cipher is (\S+)$", out, re.M)
    if m is None or m.group(2) == "(NONE)" or "221 " not in out:
        return None
    return m.groups()


def offered(lab, port, *args):
    return session(s_client(lab, port, *args)[1])


def test_tls_1_2_and_1_3_are_spoken_on_both_ports(lab):
    for port, _ in PORTS:
        assert offered(lab, port, "-tls1_3")[0] == "TLSv1.3"
        assert offered(lab, port, "-tls1_2")[0] == "TLSv1.2"


def test_older_versions_are_refused_with_an_alert(lab):
    for port, _ in PORTS:
        for version in ("-tls1", "-tls1_1"):
            status, out = s_client(lab, port, version, "-cipher", "ALL:@SECLEVEL=0")
            assert session(out) is None, out
            assert "alert protocol version" in out, out


def test_each_suite_is_spoken_with_either_kind_of_key(lab):
    for suite in SUITES_1_3:
        assert offered(lab, 465, "-ciphersuites", suite) == ("TLSv1.3", suite), suite
    for kind in ("ECDSA", "RSA"):
        for suite in SUITES_1_2:
            name = "ECDHE-%s-%s" % (kind, suite)
            assert offered(lab, 465, "-tls1_2", "-cipher", name) == ("TLSv1.2", name), name


def test_suites_without_forward_secrecy_or_aead_are_refused(lab):
    for suite in WEAK:
        status, out = s_client(lab, 465, "-tls1_2", "-cipher", suite + ":@SECLEVEL=0", "-psk", "00")
        assert session(out) is None, suite + "\n" + out


def test_the_certificate_follows_the_signatures_that_the_client_takes(lab):
    for algorithms, kind in (("ECDSA+SHA256", "ECDSA"), ("RSA-PSS+SHA256", "RSA-PSS")):
        out = s_client(lab, 465, "-sigalgs", algorithms)[1]
        assert "Peer signature type: " + kind in out, out


def test_groups_are_x25519_and_p_256(lab):
    for group, shown in (("X25519", "X25519"), ("P-256", "ECDH, prime256v1")):
        for version in ("-tls1_2", "-tls1_3"):
            out = s_client(lab, 465, version, "-groups", group)[1]
            assert session(out), out
            assert re.search("Server Temp Key: " + shown, out), out
    for group in ("P-384", "P-521", "X448", "ffdhe2048"):
        for version in ("-tls1_2", "-tls1_3"):
            assert session(s_client(lab, 465, version, "-groups", group)[1]) is None, group


def test_a_client_that_guesses_another_group_is_asked_again(lab):
    out = s_client(lab, 465, "-groups", "P-384:P-256", "-msg")[1]
    assert session(out) and "ECDH, prime256v1" in out, out


def test_there_is_no_compression_no_renegotiation_and_no_early_data(lab):
    out = s_client(lab, 465, "-tls1_2", "-comp")[1]
    assert "Compression: NONE" in out, out
    out = s_client(lab, 465, "-tls1_3")[1]
    assert "Max Early Data: 0" in out or "Early data was not sent" in out, out
    p = subprocess.run(["ip", "netns", "exec", lab.client_ns, "openssl", "s_client", "-connect",
                        HOST + ":465", "-tls1_2"], input="R\n", stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT, text=True, timeout=30)
    assert "no renegotiation" in p.stdout, p.stdout


def test_a_session_is_resumed_on_either_port_by_a_ticket_of_the_other(lab):
    for version, name in (("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")):
        saved = lab.path("session.pem")
        assert "New, " + name in s_client(lab, 465, version, "-sess_out", saved)[1]
        for port, _ in PORTS:
            out = s_client(lab, port, version, "-sess_in", saved)[1]
            assert "Reused, " + name in out and session(out), out


def test_alpn_is_tolerated(lab):
    assert offered(lab, 465, "-alpn", "smtp,h2") is not None


def test_the_certificate_verifies_for_its_name(lab):
    for port, _ in PORTS:
        status, out = s_client(lab, port, "-verify_return_error", "-verify_hostname",
                               "submit.example.net")
        assert status == 0 and "Verify return code: 0 (ok)" in out, out


def test_an_ocsp_response_is_stapled_when_asked_for(lab):
    out = s_client(lab, 465, "-status", "-sigalgs", "ECDSA+SHA256")[1]
    assert "OCSP Response Status: successful" in out, out
    out = s_client(lab, 465, "-status", "-sigalgs", "RSA-PSS+SHA256")[1]
    assert "OCSP response: no response sent" in out, out


def make_ocsp(lab):
    """A response of the self-signed certificate about itself."""
    serial = run("openssl", "x509", "-in", lab.ca, "-noout", "-serial").strip().split("=")[1]
    with open(lab.path("index.txt"), "w") as f:
        f.write("V\t351231235959Z\t\t%s\tunknown\t/CN=submit.example.net\n" % serial)
    run("openssl", "ocsp", "-index", lab.path("index.txt"), "-CA", lab.ca, "-rsigner", lab.ca,
        "-rkey", lab.path("key.pem"), "-issuer", lab.ca, "-cert", lab.ca, "-ndays", "2", "-respout",
        lab.path("ocsp.der"))


def make_rsa(lab):
    run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj",
        "/CN=submit.example.net", "-keyout", lab.path("rsa.key"), "-out", lab.path("rsa.pem"),
        "-addext", "subjectAltName=DNS:submit.example.net")


def prepare(lab):
    make_ocsp(lab)
    make_rsa(lab)
    lab.config["tls"]["certificates"][0]["ocsp"] = lab.path("ocsp.der")
    lab.config["tls"]["certificates"].append(
        {"chain": lab.path("rsa.pem"), "key": lab.path("rsa.key")})


if __name__ == "__main__":
    with Lab(workers=[min(1, os.cpu_count() - 1)]) as the_lab:
        prepare(the_lab)
        the_lab.write_config()
        the_lab.start()
        sys.exit(main(__name__, the_lab))
