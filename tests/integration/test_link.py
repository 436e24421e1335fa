"""The link layer by hand-made frames: VLAN tags, foreign frames, ARP that must not be believed."""
import os
import sys

from harness import CLIENT, HOST, Lab, Raw, counter, expect, mails_about, main, run

FRAMES = r"""
import socket, struct, sys, time
host, ours, tag = socket.inet_aton(sys.argv[1]), socket.inet_aton(sys.argv[2]), int(sys.argv[3])
mode = sys.argv[4]
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
s.bind(("cl0", 3))
s.setsockopt(263, 8, 1)  # SOL_PACKET, PACKET_AUXDATA: the tag that the kernel takes off
s.settimeout(0.2)
mac = s.getsockname()[4]

def frame(to, kind, payload, vlan):
    tagged = struct.pack("!HH", 0x8100, vlan) if vlan else b""
    s.send(to + mac + tagged + struct.pack("!H", kind) + payload)

def arp(op, sender_ip, target_ip, sender_mac=mac):
    return struct.pack("!HHBBH", 1, 0x800, 6, 4, op) + sender_mac + sender_ip + b"\0" * 6 + target_ip

def receive(seconds, want):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            data, aux, _, address = s.recvmsg(2048, 256)
        except socket.timeout:
            continue
        if address[2] == 4:  # our own
            continue
        tci = 0
        for level, kind, value in aux:
            if (level, kind) == (263, 8):
                tci = struct.unpack("IIIHHHH", value[:20])[5]
        if want(data, tci):
            return data, tci
    return None

def arp_reply(data, tci):
    return data[12:14] == b"\x08\x06" and data[20:22] == b"\0\2" and data[28:32] == host

if mode == "arp":
    frame(b"\xff" * 6, 0x806, arp(1, ours, host), tag)
    got = receive(3, arp_reply)
    print("none" if got is None else "reply tag %d" % (got[1] & 0xfff))
elif mode == "steal":
    # a reply nobody asked for must not move the next hop's address
    evil = b"\2\xee\xee\xee\xee\xee"
    frame(b"\xff" * 6, 0x806, arp(2, ours, host, evil), tag)
    frame(b"\xff" * 6, 0x806, arp(2, socket.inet_aton("192.0.2.77"), host, evil), tag)
    print("sent")
elif mode == "garbage":
    import random
    rng = random.Random(int(sys.argv[5]))
    frame(b"\xff" * 6, 0x806, arp(1, ours, host), tag)
    gateway = receive(3, arp_reply)[0][6:12]
    for i in range(3000):
        kind = rng.choice([0x800, 0x800, 0x806, 0x86dd, 0x8100, rng.randrange(65536)])
        body = bytearray(rng.randbytes(rng.randrange(0, 120)))
        if kind == 0x800 and len(body) > 20:
            body[0] = rng.choice([0x45, 0x46, 0x4f, rng.randrange(256)])
            body[9] = rng.choice([1, 6, rng.randrange(256)])
            body[12:20] = ours + host
        frame(gateway, kind, bytes(body), rng.choice([0, 0, tag, rng.randrange(4096)]))
    print("sent")
"""


def frames(lab, mode, tag=0, seed=0):
    return lab.client(sys.executable, "-c", FRAMES, HOST, CLIENT, tag, mode, seed).strip()


def test_tagged_frames_are_answered_with_the_tag_and_others_are_not(lab):
    assert frames(lab, "arp", 100) == "reply tag 100"
    before = counter(lab, "net_not_ours")
    assert frames(lab, "arp", 0) == "none"
    assert frames(lab, "arp", 101) == "none"
    assert counter(lab, "net_not_ours") >= before + 2


def test_unsolicited_arp_reply_for_a_stranger_is_dropped(lab):
    before = counter(lab, "net_arp_unsolicited")
    frames(lab, "steal", 100)
    assert counter(lab, "net_arp_unsolicited") > before


def test_garbage_frames_are_counted_and_survived(lab):
    for seed in range(3):
        assert frames(lab, "garbage", 100, seed) == "sent"
    assert frames(lab, "arp", 100) == "reply tag 100"
    assert counter(lab, "net_ip4_bad_checksum") + counter(lab, "net_ip4_bad_header") > 0
    assert lab.stop() == 0


def test_next_hop_behind_a_static_route_is_reached(_):
    far = "198.51.100.7"
    port = {"device": "net_af_packet0,iface=gw0", "addresses": [HOST + "/24"], "mtu": 1500,
            "routes": [{"to": "198.51.0.0/16", "via": "192.0.2.200"},
                       {"to": "198.51.100.0/24", "via": CLIENT}]}
    config = {"dataplane": {"ports": [port]}, "relay": {"pools": [{
        "name": "default", "next_hops": [{"address": far, "port": 2525, "protocol": "smtp",
                                          "tls": "none"}]}]}}
    with Lab(workers=[0], config=config) as lab:
        run("ip", "-n", lab.client_ns, "address", "add", far + "/32", "dev", "lo")
        lab.start_sink(lab.path("arrived"), address=far)
        lab.start()
        with Raw(lab, 465, login=True) as c:
            c.envelope()
            expect(c.cmd("DATA"), 354)
            c.send("Subject: far\r\n\r\nx\r\n.\r\n")
            expect(c.reply(), 250)
        mails_about(lab.path("arrived"), "far")
        assert lab.stop() == 0


if __name__ == "__main__":
    with Lab(workers=[0, 1] if os.cpu_count() > 1 else [0]) as the_lab:
        the_lab.config["dataplane"]["ports"][0]["vlan"] = 100
        the_lab.write_config()
        the_lab.start()
        sys.exit(main(__name__, the_lab))
