"""postern-bench against the running gateway: over the kernel's sockets and over our own stack."""
import json
import os
import subprocess

from harness import BUILD, HOST, Lab, PASSWORD, TLS_NAME, USER, counter, mails, main, run, \
    wait_until

BENCH = os.path.join(BUILD, "perf", "bench", "postern-bench")
OUR_STACK = ["--via", "net_af_packet0,iface=cl0", "--address", "192.0.2.60/24", "--address",
             "192.0.2.61/24", "--cores", "0"]


def claim(holds, what):
    if not holds:
        raise AssertionError(what)


def bench(lab, *args, status=0, name="result"):
    """Runs it in the clients' namespace; its JSON and what it printed."""
    password, result = lab.path("password"), lab.path(name + ".json")
    with open(password, "w") as f:
        f.write(PASSWORD + "\n")
    p = subprocess.run(["ip", "netns", "exec", lab.client_ns, BENCH, "--quiet", "--user", USER,
                        "--password-file", password, "--json", result, "--name", TLS_NAME, "--ca",
                        lab.ca] + [str(a) for a in args], stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT, text=True, timeout=60)
    claim(p.returncode == status, "exit %d:\n%s" % (p.returncode, p.stdout))
    with open(result) as f:
        return json.load(f), p.stdout


def numbers(sink):
    return [line.split(b": ")[1].decode() for m in mails(sink)
            for line in m["content"].split(b"\r\n") if line.startswith(b"X-Bench-Number: ")]


def submits(lab, sink, *args):
    """What was accepted is what arrives, by number."""
    ids, arrived, before = lab.path("ids"), lab.path("arrived"), len(numbers(sink))
    r, _ = bench(lab, "--ids", ids, "--total", 60, "--duration", "30s", "--size", "1K-30K", *args)
    claim(r["counters"]["bench_accepted"] == 60 and r["counters"]["bench_done"] == 60, r["counters"])
    claim(r["counters"]["bench_failed"] == 0 and not r["errors"], r)
    claim(r["counters"]["bench_ids_repeated"] == 0, "the gateway's ids are unique")
    wait_until(lambda: len(numbers(sink)) == before + 60, 30, "mail at the next hop")
    with open(arrived, "w") as f:
        f.write("\n".join(numbers(sink)[before:]) + "\n")
    out = run(BENCH, "--check-ids", ids, arrived)
    claim("60 accepted, 60 arrived: 0 lost, 0 extra copies" in out, out)
    with open(arrived, "w") as f:
        f.write("\n".join(numbers(sink)[before + 1:]) + "\n")
    p = subprocess.run([BENCH, "--check-ids", ids, arrived], stdout=subprocess.PIPE, text=True)
    claim(p.returncode == 1 and "1 lost" in p.stdout, p.stdout)
    return r


def test_kernel_sockets_submit_and_all_arrives(lab, sink):
    r = submits(lab, sink, "--sessions", 5, "--messages", 3, "smtp://%s:587" % HOST)
    claim(r["times"]["latency"]["n"] == 60 and 20 <= r["counters"]["bench_secured"] <= 25, r)


def test_our_own_stack_submits_and_all_arrives(lab, sink):
    submits(lab, sink, *OUR_STACK, "--sessions", 6, "--messages", 5, "--bdat", "on",
            "--records", "native", "smtps://%s:465" % HOST)
    submits(lab, sink, *OUR_STACK, "--sessions", 6, "--messages", 5, "--pipelining", "off",
            "--auth", "scram", "smtps://%s:465" % HOST)


def test_sessions_are_resumed_by_both_ways_out(lab, sink):
    for way in ([], OUR_STACK):
        for version in ("1.2", "1.3"):
            before = counter(lab, "tls_handshakes_resumed")
            r, _ = bench(lab, *way, "--mode", "handshake", "--resume", "1", "--tls", version,
                         "--total", 30, "--sessions", 2, "smtps://%s:465" % HOST)
            offered = r["counters"]["bench_offered_ticket"]
            claim(offered >= 20 and not r["errors"], r)
            got = counter(lab, "tls_handshakes_resumed") - before
            claim(got == offered, "%d resumed, %d offered" % (got, offered))


def test_open_loop_keeps_its_rate_and_reports_it(lab, sink):
    first, _ = bench(lab, "--rate", 100, "--arrivals", "even", "--messages", 0, "--sessions", 8,
                     "--warmup", "500ms", "--duration", "2s", "--label", "<first>",
                     "smtps://%s:465" % HOST, name="first")
    claim(first["measured"]["bench_arrived"] in range(150, 251), first["measured"])
    html = lab.path("report.html")
    bench(lab, "--mode", "noop", "--duration", "500ms", "--warmup", "100ms", "--html", html,
          "--compare", lab.path("first.json"), "--label", "second", "smtp://%s:587" % HOST)
    with open(html) as f:
        page = f.read()
    data = page.split('type="application/json">')[1].split("</script>")[0]
    claim([r["label"] for r in json.loads(data)] == ["second", "<first>"], data[:200])
    claim("<first>" not in page and "http://" not in page.replace("http://www.w3.org", ""), "self-contained")


def test_search_ends_with_a_rate(lab, sink):
    r, out = bench(lab, "--slo", "noop:p90<2s", "--mode", "noop", "--messages", 0, "--rate", 20,
                   "--sessions", 4, "--warmup", "50ms", "--duration", "250ms",
                   "smtp://%s:587" % HOST)
    claim(r["search"][0]["good"] and r["slo_rate"] >= 20, r["search"])
    claim("is the highest rate" in out, out)


def test_refused_login_is_said(lab, sink):
    with open(lab.path("wrong"), "w") as f:
        f.write("not-it\n")
    r, out = bench(lab, "--password-file", lab.path("wrong"), "--total", 1, "--duration", "1s",
                   "--ramp", 2, "--sessions", 1, "smtps://%s:465" % HOST, status=2)
    claim(r["counters"]["bench_login_failed"] > 0, r["counters"])
    claim("535" in out or "454" in out, out)


def test_wrong_certificate_is_refused(lab, sink):
    for way in ([], OUR_STACK):
        r, _ = bench(lab, *way, "--name", "other.example", "--mode", "handshake", "--total", 3,
                     "--duration", "3s", "smtps://%s:465" % HOST, status=2)
        claim(r["counters"]["bench_tls_failed"] > 0 and r["counters"].get("bench_secured") == 0,
               r["counters"])


if __name__ == "__main__":
    with Lab() as the_lab:
        sink_dir = the_lab.path("mail")
        the_lab.start_sink(sink_dir)
        the_lab.start()
        raise SystemExit(main(__name__, the_lab, sink_dir))
