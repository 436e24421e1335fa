"""A name server of a few lines: answers A from a JSON file {name: [address, ...]}, read anew for each
question; SERVFAIL while the file is missing, NXDOMAIN for what is not in it, no AAAA."""
import json
import socket
import struct
import sys

TTL = 1


def name_of(packet):
    labels, at = [], 12
    while packet[at]:
        labels.append(packet[at + 1:at + 1 + packet[at]].decode().lower())
        at += 1 + packet[at]
    return ".".join(labels), at + 1


def reply(packet, zone):
    name, end = name_of(packet)
    kind = struct.unpack(">H", packet[end:end + 2])[0]
    code = 2 if zone is None else 0 if name in zone else 3
    found = zone[name] if code == 0 and kind == 1 else []
    out = packet[:2] + struct.pack(">HHHHH", 0x8180 | code, 1, len(found), 0, 0)
    out += packet[12:end + 4]
    for address in found:
        out += struct.pack(">HHHIH", 0xc00c, 1, 1, TTL, 4) + socket.inet_aton(address)
    return out


def main():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind(("127.0.0.1", 53))
        while True:
            packet, peer = s.recvfrom(1500)
            try:
                with open(sys.argv[1]) as f:
                    zone = json.load(f)
            except FileNotFoundError:
                zone = None
            s.sendto(reply(packet, zone), peer)


if __name__ == "__main__":
    main()
