"""IPv6 beside IPv4: the Linux kernel's stack as the peer, two workers, relay over IPv6 too."""
import json
import os
import sys

from harness import (HERE, HOST, Lab, PASSWORD, TLS_NAME, USER, counter, main, mails, mails_about,
                     run, wait_until)
from lab import CLIENT6, HOST6


def swaks(lab, host, subject, *more):
    return lab.client("swaks", "--server", host, "--port", 587, "--tls", "--from",
                      "alice@example.net", "--to", "bob@example.org", "--auth", "PLAIN",
                      "--auth-user", USER, "--auth-password", PASSWORD, "--helo",
                      "client.example.net", "--header", "Subject: " + subject, *more)


def test_address_is_in_use_after_duplicate_detection(lab):
    wait_until(lambda: swaks_works(lab), 20, "the IPv6 address in use")


def swaks_works(lab):
    try:
        return swaks(lab, HOST6, "first six")
    except RuntimeError:
        return False


def test_mail_comes_in_over_ip6_and_goes_out_over_ip6(lab):
    mail = mails_about(lab.path("arrived"), "first six")[0]
    assert b"([IPv6:2001:db8::1])" in mail["content"], mail["content"][:300]
    status = json.loads(lab.ctl("--json", "status"))
    assert all(h["address"] == CLIENT6 for h in status["next_hops"]), status


def test_both_families_are_served_side_by_side(lab):
    swaks(lab, HOST, "by four")
    swaks(lab, HOST6, "by six")
    assert b"([192.0.2.1])" in mails_about(lab.path("arrived"), "by four")[0]["content"]
    assert b"([IPv6:" in mails_about(lab.path("arrived"), "by six")[0]["content"]


def test_load_over_ip6_on_two_workers(lab):
    out = lab.client(sys.executable, os.path.join(HERE, "load.py"), "--host", HOST6, "--ca",
                     lab.ca, "--name", TLS_NAME, "--user", USER, "--password", PASSWORD,
                     "--sessions", 60, "--messages", 2, "--tag", "six", timeout=120)
    result = json.loads(out.splitlines()[-1])
    assert not result["errors"], result["errors"][:3]
    wait_until(lambda: len([m for m in mails(lab.path("arrived")) if b"X-Tag: six-" in
                            m["content"]]) == 120, 60, "120 mails")


def test_ping6_is_answered_whole_and_in_fragments(lab):
    assert "reply" in lab.client(sys.executable, "-c", PING6, HOST6, 1400)
    before = counter(lab, "net_reassembled")
    mac = lab.client("ip", "neigh", "show", HOST6).split("lladdr ")[1].split()[0]
    for order in ("012", "120", "210"):
        assert "reply" in lab.client(sys.executable, "-c", FRAGMENTS6, mac, order)
    assert counter(lab, "net_reassembled") == before + 3


def test_fragmented_ip4_ping_is_answered(lab):
    """af_packet's fan-out puts IPv4 fragments together before the port sees them."""
    run("ip", "-n", lab.client_ns, "route", "replace", "192.0.2.0/24", "dev", "cl0", "mtu",
        "lock", "600")
    assert "reply" in lab.client(sys.executable, "-c", PING4, HOST, 1400)
    run("ip", "-n", lab.client_ns, "route", "replace", "192.0.2.0/24", "dev", "cl0")


def test_link_local_address_answers(lab):
    mac = lab.client("ip", "neigh", "show", HOST6).split("lladdr ")[1].split()[0]
    b = [int(x, 16) for x in mac.split(":")]
    address = "fe80::%02x%02x:%02xff:fe%02x:%02x%02x" % (b[0] ^ 2, *b[1:])
    out = lab.client(sys.executable, "-c", PING6, address + "%cl0", 56)
    assert "reply" in out, out


def test_duplicate_of_our_address_is_noticed_and_not_used(lab):
    assert lab.stop() == 0
    run("ip", "-n", lab.client_ns, "address", "add", HOST6 + "/64", "dev", "cl0", "nodad")
    lab.start()
    wait_until(lambda: "another host has our address " + HOST6 in lab.log(), 15, "the log line")
    run("ip", "-n", lab.client_ns, "address", "del", HOST6 + "/64", "dev", "cl0")
    swaks(lab, HOST, "still four")
    assert lab.stop() == 0


PING = """
import os, socket, struct, sys
host, size = sys.argv[1], int(sys.argv[2])
six = ":" in host
s = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_RAW,
                  socket.IPPROTO_ICMPV6 if six else socket.IPPROTO_ICMP)
s.settimeout(5)
body = bytes(i %% 251 for i in range(size))
def checksum(d):
    t = sum(struct.unpack("!%%dH" %% (len(d) // 2), d))
    t = (t >> 16) + (t & 0xffff)
    return ~(t + (t >> 16)) & 0xffff
kind, answer = %s
head = struct.pack("!BBHHH", kind, 0, 0, 77, 1)
total = 0 if six else checksum(head + body)
to = socket.getaddrinfo(host, None, type=socket.SOCK_RAW)[0][4]
s.sendto(struct.pack("!BBHHH", kind, 0, total, 77, 1) + body, to)
while True:
    p = s.recv(65536)
    if not six:
        p = p[(p[0] & 15) * 4:]
    if p[0] == answer and p[4:6] == struct.pack("!H", 77) and p[8:] == body:
        print("reply")
        break
"""
# An echo request in three fragments of 400, 400 and 208 octets, sent in the given order.
FRAGMENTS6 = """
import socket, struct, sys
mac, order = bytes(int(x, 16) for x in sys.argv[1].split(":")), sys.argv[2]
ours, host = (socket.inet_pton(socket.AF_INET6, a) for a in ("%s", "%s"))
link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
link.bind(("cl0", 0))
answers = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
answers.settimeout(5)
echo = struct.pack("!BBHHH", 128, 0, 0, 78, 9) + bytes(i %% 251 for i in range(1000))
pseudo = ours + host + struct.pack("!II", len(echo), 58)
total = sum(struct.unpack("!%%dH" %% (len(pseudo + echo) // 2), pseudo + echo))
while total >> 16:
    total = (total >> 16) + (total & 0xffff)
echo = echo[:2] + struct.pack("!H", ~total & 0xffff) + echo[4:]
for n in order:
    at = int(n) * 400
    part = echo[at:at + 400]
    fragment = struct.pack("!BBHI", 58, 0, at | (n != "2"), 0x77000000 + int(order))
    head = struct.pack("!IHBB", 6 << 28, len(part) + 8, 44, 64)
    eth = mac + link.getsockname()[4] + b"\\x86\\xdd"
    link.send(eth + head + ours + host + fragment + part)
while True:
    p = answers.recv(65536)
    if p[0] == 129 and p[4:6] == struct.pack("!H", 78) and p[8:] == echo[8:]:
        print("reply")
        break
""" % (CLIENT6, HOST6)
PING6, PING4 = PING % "128, 129", PING % "8, 0"


if __name__ == "__main__":
    hops = {"relay": {"pools": [{"name": "default", "connections": 8, "next_hops": [
        {"address": CLIENT6, "name": "mta1.example.net", "port": 2525, "protocol": "smtp",
         "tls": "opportunistic"}]}]}}
    with Lab(workers=[0, 1] if os.cpu_count() > 1 else [0], config=hops, ip6=True) as the_lab:
        the_lab.start_sink(the_lab.path("arrived"), address=CLIENT6)
        the_lab.start()
        sys.exit(main(__name__, the_lab))
