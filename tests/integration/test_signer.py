"""Private keys in a process of their own: the real postern asks the real postern-signer, never has a
key itself, and outlives the signer's death."""
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

from harness import BUILD, Lab, Raw, counter, expect, main, run, wait_until
from test_reload import new_certificate, on_disk, on_the_wire, reload
from test_tls_matrix import make_rsa, offered, s_client

SIGNER = os.path.join(BUILD, "tls", "signer", "postern-signer")
SIGNER_USER = "nobody"


def private_octets(key):
    """What is secret in a key file: the scalar, or both primes; each as it may lie in memory."""
    text = run("openssl", "pkey", "-in", key, "-noout", "-text")
    numbers = re.findall(r"^(?:priv|prime1|prime2):\n((?:    [0-9a-f:]+\n)+)", text, re.M)
    assert numbers, text
    found = []
    for number in numbers:
        octets = bytes.fromhex(re.sub(r"[\s:]", "", number)).lstrip(b"\0")
        found += [octets, octets[::-1]]
    return found


def holds(process, secrets):
    """Whether one of the secrets lies in memory that the process may write to."""
    with open("/proc/%d/maps" % process) as maps, open("/proc/%d/mem" % process, "rb") as memory:
        for line in maps:
            begin, end, flags = re.match(r"([0-9a-f]+)-([0-9a-f]+) (\S+)", line).groups()
            if flags[:2] != "rw" or "[vvar]" in line:
                continue
            memory.seek(int(begin, 16))
            try:
                octets = memory.read(int(end, 16) - int(begin, 16))
            except OSError:
                continue
            if any(s in octets for s in secrets):
                return True
    return False


def pid_of(process):
    """`ip netns exec` becomes the program that it starts."""
    return process.pid


def start_signer(lab):
    lab.signer = lab.spawn(lab.gw_ns, SIGNER, "-s", lab.path("signer.sock"), "-u", SIGNER_USER, "-p",
                           "root", lab.path("keys/ecdsa.key"), lab.path("keys/rsa.key"),
                           log=lab.path("signer.log"))
    wait_until(lambda: "keys\n" in open(lab.path("signer.log")).read(), 10, "the signer")


def kill_signer(lab):
    lab.signer.send_signal(signal.SIGKILL)
    lab.signer.wait(10)
    os.truncate(lab.path("signer.log"), 0)


def hide(lab, key, name):
    """Moves a key where only the signer's user may read it."""
    user = pwd.getpwnam(SIGNER_USER)
    place = lab.path("keys/" + name)
    os.makedirs(lab.path("keys"), exist_ok=True)
    shutil.move(lab.path(key), place)
    os.chown(place, user.pw_uid, user.pw_gid)
    os.chmod(place, 0o400)


def test_both_kinds_of_key_serve_under_both_versions(lab):
    for port in (465, 587):
        for kind, algorithms in (("ECDSA", "ECDSA+SHA256"), ("RSA", "RSA-PSS+SHA256")):
            out = s_client(lab, port, "-tls1_3", "-sigalgs", algorithms)[1]
            assert re.search("Peer signature type: " + kind, out), out
            suite = "ECDHE-%s-AES128-GCM-SHA256" % kind
            assert offered(lab, port, "-tls1_2", "-cipher", suite) == ("TLSv1.2", suite)
    assert "Peer signature type: RSA\n" in s_client(lab, 465, "-tls1_2", "-sigalgs", "RSA+SHA256")[1]
    assert counter(lab, "tls_signatures") >= 9
    assert counter(lab, "tls_signer_failed") == 0


def test_the_gateway_never_holds_a_private_key(lab):
    secrets = private_octets(lab.path("keys/ecdsa.key")) + private_octets(lab.path("keys/rsa.key"))
    # the search finds what is there
    assert holds(pid_of(lab.signer), private_octets(lab.path("keys/ecdsa.key")))
    assert holds(pid_of(lab.signer), private_octets(lab.path("keys/rsa.key")))
    assert not holds(pid_of(lab.gateway), secrets)


def test_the_signer_is_another_user_without_rights(lab):
    with open("/proc/%d/status" % pid_of(lab.signer)) as f:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)
    uid = str(pwd.getpwnam(SIGNER_USER).pw_uid)
    assert status["Uid"].split() == [uid] * 4, status["Uid"]
    log = open(lab.path("signer.log")).read()
    assert int(status["VmLck"].split()[0]) > 0 or "memory is not locked" in log, status["VmLck"]
    assert int(status["CapEff"], 16) == 0 and status["Groups"].strip() == "", status
    assert status["NoNewPrivs"] == "1" and status["Seccomp"] == "2", status
    with open("/proc/%d/limits" % pid_of(lab.signer)) as f:
        assert re.search(r"Max core file size +0 +0 ", f.read())


def test_another_user_may_not_ask(lab):
    ask = "import socket; socket.socket(socket.AF_UNIX).connect('%s')" % lab.path("signer.sock")
    p = subprocess.run(["setpriv", "--reuid", SIGNER_USER, "--clear-groups", sys.executable, "-c", ask],
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=30)
    assert "PermissionError" in p.stdout, p.stdout
    # the file's mode is one bar, the peer's user another
    os.chmod(lab.path("signer.sock"), 0o666)
    ask += "; s = socket.socket(socket.AF_UNIX); s.connect('%s'); print(s.recv(1))" % (
        lab.path("signer.sock"))
    p = subprocess.run(["setpriv", "--reuid", SIGNER_USER, "--clear-groups", sys.executable, "-c", ask],
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=30)
    os.chmod(lab.path("signer.sock"), 0o600)
    assert p.stdout == "b''\n", p.stdout


def test_what_is_no_request_ends_the_connection_only(lab):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(10)
    s.connect(lab.path("signer.sock"))
    s.send(b"\xff" * 64)
    assert s.recv(1) == b""
    assert offered(lab, 465) is not None


def test_a_signer_that_dies_fails_new_sessions_only_and_is_found_again(lab):
    with Raw(lab, login=True, port=465) as old:
        kill_signer(lab)
        status, out = s_client(lab, 465)
        assert "alert internal error" in out, out
        assert counter(lab, "tls_signer_failed") >= 1
        expect(old.cmd("NOOP"), 250)
        old.envelope()
        start_signer(lab)
        wait_until(lambda: offered(lab, 465), 10, "a session")
        expect(old.cmd("RSET"), 250)
    wait_until(lambda: "postern-signer is there again" in lab.log(), 10, "a line in the log")
    failed = counter(lab, "tls_signer_failed")
    kill_signer(lab)
    start_signer(lab)
    time.sleep(0.2)
    assert offered(lab, 465) is not None
    assert counter(lab, "tls_signer_failed") == failed


def test_new_certificates_follow_a_hangup_of_the_signer_and_a_reload(lab):
    before = on_the_wire(lab, "submit.example.net")
    new_certificate(lab, "submit.example.net", "cert.pem", "new.key")
    hide(lab, "new.key", "ecdsa.key")
    lab.signer.send_signal(signal.SIGHUP)
    wait_until(lambda: open(lab.path("signer.log")).read().count("keys\n") == 2, 10, "the new keys")
    assert reload(lab)["certificates_read"] == 1
    assert on_the_wire(lab, "submit.example.net") == on_disk(lab, "cert.pem") != before
    # a bad file changes nothing
    os.rename(lab.path("keys/rsa.key"), lab.path("keys/gone"))
    lab.signer.send_signal(signal.SIGHUP)
    wait_until(lambda: "rsa.key" in open(lab.path("signer.log")).read(), 10, "the complaint")
    os.rename(lab.path("keys/gone"), lab.path("keys/rsa.key"))
    for algorithms in ("ECDSA+SHA256", "RSA-PSS+SHA256"):
        assert "Peer signature type" in s_client(lab, 465, "-sigalgs", algorithms)[1]


def test_the_check_of_the_configuration_needs_neither_key_nor_signer(lab):
    kill_signer(lab)
    out = run(os.path.join(BUILD, "control", "postern"), "-t", "-c", lab.config_path)
    assert out.endswith(": ok\n"), out


if __name__ == "__main__":
    with Lab(workers=[min(1, os.cpu_count() - 1)]) as the_lab:
        make_rsa(the_lab)
        hide(the_lab, "key.pem", "ecdsa.key")
        hide(the_lab, "rsa.key", "rsa.key")
        the_lab.config["tls"]["certificates"] = [
            {"chain": the_lab.ca, "key": the_lab.path("keys/not-here")},
            {"chain": the_lab.path("rsa.pem"), "key": the_lab.path("keys/not-here")}]
        the_lab.config["tls"]["signer"] = {"socket": the_lab.path("signer.sock")}
        the_lab.write_config()
        start_signer(the_lab)
        the_lab.start()
        sys.exit(main(__name__, the_lab))
