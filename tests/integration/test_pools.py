"""Several pools of next hops: mail goes where its recipients' domains say, a pool that is down
holds up nobody else, and a reload moves what waits."""
import copy
import json
import os
import sys

from harness import CLIENT, HERE, Lab, Raw, expect, main, mails, wait_mails, wait_until

PARTNER, MOVED = 2526, 2527


def hop(port, **more):
    return dict({"address": CLIENT, "name": "mta1.example.net", "port": port, "protocol": "smtp",
                 "tls": "opportunistic"}, **more)


def submit(lab, subject, *recipients):
    with Raw(lab, 465, login=True) as c:
        c.envelope("alice@example.net", *recipients)
        expect(c.cmd("DATA"), 354)
        expect(c.cmd("Subject: %s\r\n\r\nhello\r\n." % subject), 250)


def reload(lab):
    return json.loads(lab.ctl("--json", "reload"))


def queue(lab):
    return [json.loads(line) for line in lab.ctl("--json", "queue").splitlines()]


def test_a_message_for_two_pools_arrives_at_both(lab):
    submit(lab, "both", "bob@example.org", "carol@partner.example", "dave@in.partner.example")
    first = wait_mails(lab.path("arrived"), 1)[0]
    second = wait_mails(lab.path("partner"), 1)[0]
    assert first["to"] == ["bob@example.org"], first
    assert second["to"] == ["carol@partner.example", "dave@in.partner.example"], second
    wait_until(lambda: not queue(lab), 10, "an empty queue")


def test_a_pool_that_is_down_holds_up_nobody_else(lab):
    lab.partner.terminate()
    lab.partner.wait(10)
    submit(lab, "down", "carol@partner.example", "bob@example.org")
    assert wait_mails(lab.path("arrived"), 2)[1]["to"] == ["bob@example.org"]
    left = wait_until(lambda: len(queue(lab)) == 1 and queue(lab), 10, "one entry")[0]
    assert left["pool"] == "partner", left


def test_a_restart_keeps_what_is_left_for_its_pool(lab):
    lab.stop()
    lab.start()
    left = wait_until(lambda: [m for m in queue(lab) if m["pool"] == "partner"], 10,
                      "the entry after the restart")
    assert len(left) == 1, left
    assert len(mails(lab.path("arrived"))) == 2


def test_a_reload_moves_what_waits_to_another_hop(lab):
    lab.start_sink(lab.path("moved"), MOVED)
    lab.config["relay"]["pools"][1]["next_hops"] = [hop(MOVED, priority=1), hop(PARTNER)]
    lab.write_config()
    answer = reload(lab)
    assert answer["reloaded"] and answer["needs_restart"] == [], answer
    assert wait_mails(lab.path("moved"), 1)[0]["to"] == ["carol@partner.example"]
    assert len(mails(lab.path("arrived"))) == 2, "nobody twice"
    wait_until(lambda: not queue(lab), 10, "an empty queue")


def zone(lab, addresses):
    temporary = lab.path("zone.part")
    with open(temporary, "w") as f:
        json.dump({"mta.partner.example": addresses}, f)
    os.rename(temporary, lab.path("zone"))


def test_a_hop_by_name_is_resolved_and_its_last_addresses_stay(lab):
    server = lab.spawn(lab.gw_ns, sys.executable, os.path.join(HERE, "name_server.py"),
                       lab.path("zone"))
    by_name = hop(MOVED)
    del by_name["address"], by_name["name"]
    lab.config["relay"]["pools"][1]["next_hops"] = [dict(by_name, host="mta.partner.example")]
    lab.write_config()
    assert reload(lab)["reloaded"]
    submit(lab, "named", "carol@partner.example")
    wait_until(lambda: "next hop mta.partner.example: " in lab.log(), 20, "a name without answer")
    assert len(mails(lab.path("moved"))) == 1
    zone(lab, [CLIENT])
    wait_mails(lab.path("moved"), 2)
    # an address that is none of the hop's, beside the good one
    zone(lab, [CLIENT, "192.0.2.77"])
    wait_until(lambda: len([h for h in json.loads(lab.ctl("--json", "status"))["next_hops"]
                            if h["pool"] == "partner"]) == 2, 20, "two addresses")
    zone(lab, [CLIENT])
    server.kill()
    server.wait(10)
    submit(lab, "stale", "carol@partner.example")
    wait_mails(lab.path("moved"), 3)


if __name__ == "__main__":
    with Lab(workers=[min(1, os.cpu_count() - 1)]) as the_lab:
        relay = the_lab.config["relay"]
        relay["pools"].append(dict(copy.deepcopy(relay["pools"][0]), name="partner",
                                   next_hops=[hop(PARTNER)]))
        relay["routes"] = [{"match": "partner.example", "pool": "partner"},
                           {"match": "*.partner.example", "pool": "partner"},
                           {"match": "*", "pool": "default"}]
        relay["resolvers"] = ["127.0.0.1"]
        the_lab.write_config()
        the_lab.start_sink(the_lab.path("arrived"))
        the_lab.partner = the_lab.start_sink(the_lab.path("partner"), PARTNER)
        the_lab.start()
        sys.exit(main(__name__, the_lab))
