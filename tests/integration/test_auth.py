"""Mechanisms of AUTH by real clients: msmtp (GNU SASL) and curl, against keys made here."""
import base64
import json
import os
import subprocess
import sys
import time

from harness import (HOST, Lab, PASSWORD, TLS_NAME, USER, Raw, counter, expect, mails_about, main,
                     run, wait_until)


def b64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def make_keys(directory):
    """An RSA key and its public half as a JSON Web Key Set."""
    key, jwks = os.path.join(directory, "issuer.pem"), os.path.join(directory, "jwks.json")
    run("openssl", "genrsa", "-out", key, "2048")
    modulus = run("openssl", "rsa", "-in", key, "-noout", "-modulus").strip().partition("=")[2]
    with open(jwks, "w") as f:
        json.dump({"keys": [{"kty": "RSA", "kid": "one", "use": "sig", "e": "AQAB",
                             "n": b64url(bytes.fromhex(modulus))}]}, f)
    return key, jwks


def token(key, user=USER, expires=600, **claims):
    head = {"alg": "RS256", "typ": "JWT", "kid": "one"}
    body = dict({"iss": "https://id.example.net/", "aud": "smtp", "email": user,
                 "exp": int(time.time()) + expires}, **claims)
    text = b64url(json.dumps(head).encode()) + "." + b64url(json.dumps(body).encode())
    sign = subprocess.run(["openssl", "dgst", "-sha256", "-sign", key], input=text.encode(),
                          stdout=subprocess.PIPE, check=True).stdout
    return text + "." + b64url(sign)


def msmtp(lab, mechanism, password, subject):
    config, secret = lab.path("msmtprc"), lab.path("secret")
    with open(secret, "w") as f:  # longer than a line of its configuration may be
        f.write(password + "\n")
    with open(config, "w") as f:
        f.write("account default\nhost %s\nport 465\ntls on\ntls_starttls off\n"
                "tls_trust_file %s\ntls_host_override %s\nauth %s\nuser %s\npasswordeval cat %s\n"
                "from %s@example.net\ndomain client.example.net\n"
                % (HOST, lab.ca, TLS_NAME, mechanism, USER, secret, USER))
    os.chmod(config, 0o600)
    return lab.client("msmtp", "-C", config, "bob@example.org",
                      input="From: %s@example.net\nSubject: %s\n\nhello\n" % (USER, subject))


def fails(action):
    try:
        action()
    except RuntimeError:
        return
    raise AssertionError("it was accepted")


def test_msmtp_logs_in_by_scram_sha_256(lab):
    msmtp(lab, "scram-sha-256", PASSWORD, "scram")
    assert len(mails_about(lab.path("arrived"), "scram")) == 1


def test_msmtp_is_refused_by_scram_with_a_wrong_password(lab):
    before = counter(lab, "smtp_auth_failed")
    fails(lambda: msmtp(lab, "scram-sha-256", "wrong", "never"))
    assert counter(lab, "smtp_auth_failed") == before + 1


def test_msmtp_logs_in_by_oauthbearer_and_xoauth2(lab):
    for mechanism in ("oauthbearer", "xoauth2"):
        msmtp(lab, mechanism, token(lab.issuer_key), "token " + mechanism)
        assert len(mails_about(lab.path("arrived"), "token " + mechanism)) == 1


def test_curl_logs_in_by_a_bearer_token(lab):
    text = lab.path("oauth.txt")
    with open(text, "wb") as f:
        f.write(b"From: alice@example.net\r\nSubject: curl token\r\n\r\nhello\r\n")
    lab.client("curl", "-sS", "--cacert", lab.ca, "--resolve", "%s:465:%s" % (TLS_NAME, HOST),
               "smtps://%s:465/client.example.net" % TLS_NAME, "--user", USER,
               "--oauth2-bearer", token(lab.issuer_key), "--mail-from", "alice@example.net",
               "--mail-rcpt", "bob@example.org", "-T", text)
    assert len(mails_about(lab.path("arrived"), "curl token")) == 1


def test_tokens_that_prove_nothing_are_refused_and_counted(lab):
    other, _ = make_keys(lab.path("."))
    for bad, name in ((token(lab.issuer_key, expires=-600), "time"),
                      (token(lab.issuer_key, aud="imap"), "claims"),
                      (token(other), "signature"),
                      (token(lab.issuer_key)[:-40] + "A" * 40, "signature")):
        before = counter(lab, "auth_token_" + name)
        fails(lambda: msmtp(lab, "xoauth2", bad, "never"))
        assert counter(lab, "auth_token_" + name) == before + 1, name


def test_new_keys_are_read_when_the_file_changes(lab):
    """The issuer rotates its keys: tokens of the new one work, without a restart."""
    fresh, jwks = make_keys(lab.path("."))
    before = counter(lab, "auth_reloads")
    os.rename(jwks, lab.jwks + ".new")
    os.rename(lab.jwks + ".new", lab.jwks)
    wait_until(lambda: counter(lab, "auth_reloads") > before, 10, "the key set is read again")
    msmtp(lab, "oauthbearer", token(fresh), "rotated")
    assert len(mails_about(lab.path("arrived"), "rotated")) == 1


def test_a_token_longer_than_a_command_line_is_taken(lab):
    """4 KiB and 8 KiB: clients send them as initial responses far beyond 512 octets."""
    key = lab.path("issuer.pem")
    for extra in (4000, 5500):
        c = Raw(lab, 465)
        c.send("EHLO x\r\n")
        expect(c.reply(), 250)
        text = "n,a=%s,\x01auth=Bearer %s\x01\x01" % (USER, token(key, padding="x" * extra))
        c.send("AUTH OAUTHBEARER %s\r\n" % base64.b64encode(text.encode()).decode())
        expect(c.reply(), 235)
        c.send("QUIT\r\n")


def test_no_secret_is_in_the_log(lab):
    log = lab.log()
    assert PASSWORD not in log and "eyJ" not in log


if __name__ == "__main__":
    the_lab = Lab(workers=[min(1, os.cpu_count() - 1)])
    with the_lab:
        the_lab.issuer_key, keys = make_keys(the_lab.path("."))
        the_lab.jwks = the_lab.path("keys.json")
        os.rename(keys, the_lab.jwks)
        os.rename(the_lab.issuer_key, the_lab.path("first.pem"))
        the_lab.issuer_key = the_lab.path("first.pem")
        the_lab.config["auth"].update({
            "mechanisms": ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS", "OAUTHBEARER",
                           "XOAUTH2"],
            "failures": {"delay": "100ms", "per_address": "1000/m", "per_user": "1000/m"},
            "oauth": {"jwks": the_lab.jwks, "issuer": "https://id.example.net/",
                      "audience": "smtp", "user_claim": "email"}})
        the_lab.write_config()
        the_lab.start_sink(the_lab.path("arrived"))
        the_lab.start()
        sys.exit(main(__name__, the_lab))
