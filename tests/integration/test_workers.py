"""Two workers on one port: whoever receives a packet, the owner of its flow gets it."""
import hashlib
import json
import os
import re
import sys

from harness import (HERE, HOST, Lab, PASSWORD, TLS_NAME, USER, body_of, main, mails, wait_until,
                     worker_counters)

SESSIONS = 200


def load(lab, name, sessions, messages, aborts=0, seconds=120):
    """Submits from many threads at once; what was acknowledged."""
    out = lab.client(sys.executable, os.path.join(HERE, "load.py"), "--host", HOST, "--ca", lab.ca,
                     "--name", TLS_NAME, "--user", USER, "--password", PASSWORD, "--sessions",
                     sessions, "--messages", messages, "--aborts", aborts, "--tag", name,
                     timeout=seconds)
    return json.loads(out.splitlines()[-1])


def arrived(lab):
    """message tag -> digest of its body, for everything at the next hop."""
    found = {}
    for m in mails(lab.path("arrived")):
        tag = re.search(rb"^X-Tag: (\S+)\r$", m["content"], re.M).group(1).decode()
        found.setdefault(tag, []).append(hashlib.sha256(body_of(m["content"])).hexdigest())
    return found


def test_200_concurrent_sessions_deliver_every_body_unmixed(lab):
    result = load(lab, "mix", SESSIONS, 1, aborts=20)
    assert not result["errors"], result["errors"][:5]
    assert len(result["acknowledged"]) == SESSIONS
    wait_until(lambda: len(arrived(lab)) >= SESSIONS, 60, "all mails at the next hop")
    found = arrived(lab)
    for tag, digest in result["acknowledged"].items():
        assert found.get(tag) == [digest], "%s: %s" % (tag, found.get(tag))
    assert set(found) == set(result["acknowledged"])


def test_both_workers_had_sessions(lab):
    opened = worker_counters(lab, "smtp_sessions_opened")
    assert len(opened) == 2 and min(opened) > SESSIONS / 10, opened


def test_packets_that_arrive_elsewhere_are_handed_over(lab):
    assert sum(worker_counters(lab, "net_handed_over")) > 0
    assert sum(worker_counters(lab, "net_handover_full")) == 0


def test_several_messages_a_session(lab):
    before = len(arrived(lab))
    result = load(lab, "many", 40, 5)
    assert not result["errors"], result["errors"][:5]
    assert len(result["acknowledged"]) == 200
    wait_until(lambda: len(arrived(lab)) >= before + 200, 60, "all mails at the next hop")
    found = arrived(lab)
    assert all(found[t] == [d] for t, d in result["acknowledged"].items())


def test_nothing_is_left_behind(lab):
    wait_until(lambda: json.loads(lab.ctl("--json", "status"))["sessions"] == 0, 30, "no session")
    status = json.loads(lab.ctl("--json", "status"))
    assert status["queued"] == 0 and status["spool"]["messages"] == 0, status
    assert status["spool"]["large_files"] == 0, status
    assert lab.stop() == 0


if __name__ == "__main__":
    cpus = os.cpu_count()
    with Lab(workers=[0, 1] if cpus > 1 else [0]) as the_lab:
        the_lab.start_sink(the_lab.path("arrived"))
        the_lab.start()
        sys.exit(main(__name__, the_lab))
