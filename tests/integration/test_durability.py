"""A 250 means durable: the page cache survives a kill, so a shim stands in for the disk.

Every fdatasync is late, fails once, or the machine loses power: whatever was not synced is gone.
"""
import errno
import json
import os
import shutil
import subprocess
import sys
import time

from harness import BUILD, FAULTFS, Lab, Raw, expect, main, mails_about, wait_until
from test_crash import check_all, start_load

DELAY_MS = 300


def shim(lab, **more):
    env = {"LD_PRELOAD": FAULTFS, "FAULTFS_DIR": lab.spool, "FAULTFS_LOG": lab.path("sync.log")}
    env.update({"FAULTFS_" + k: str(v) for k, v in more.items()})
    return env


def syncs(lab):
    try:
        with open(lab.path("sync.log")) as f:
            return [tuple(line.split()[1:]) for line in f]
    except FileNotFoundError:
        return []


def submit(lab, subject, body="x\r\n"):
    with Raw(lab, 465, login=True) as c:
        c.envelope()
        expect(c.cmd("DATA"), 354)
        began = time.monotonic()
        c.send("Subject: %s\r\n\r\n%s.\r\n" % (subject, body))
        reply = c.reply(60)
        return reply, time.monotonic() - began


def test_no_250_leaves_before_its_late_fdatasync_is_over():
    with Lab(workers=[min(1, os.cpu_count() - 1)]) as lab:
        lab.start_sink(lab.path("arrived"))
        lab.start(shim(lab, DELAY_MS=DELAY_MS))
        submit(lab, "warm")
        for body in ("x\r\n", "line of a large body\r\n" * 8000):
            before = len(syncs(lab))
            reply, seconds = submit(lab, "late", body)
            expect(reply, 250)
            assert seconds >= DELAY_MS / 1000, "250 after %.0f ms" % (seconds * 1000)
            assert len(syncs(lab)) > before
        assert lab.stop() == 0


def test_a_failed_fdatasync_is_451_and_its_file_is_never_synced_again():
    with Lab(workers=[min(1, os.cpu_count() - 1)]) as lab:
        lab.start_sink(lab.path("arrived"))
        trigger = lab.path("fail-next")
        lab.start(shim(lab, EIO=trigger))
        expect(submit(lab, "before")[0], 250)
        mails_about(lab.path("arrived"), "before")
        time.sleep(0.5)
        open(trigger, "w").close()
        expect(submit(lab, "failed")[0], 451, "4.3.0")
        assert not os.path.exists(trigger)
        expect(submit(lab, "after")[0], 250, "2.0.0")
        log = syncs(lab)
        bad = [i for i, (_, result) in enumerate(log) if result == "failed"]
        assert len(bad) == 1, log
        name = log[bad[0]][0]
        assert name.endswith(".log"), name
        assert all(n != name for n, _ in log[bad[0] + 1:]), "synced again: %s" % name
        mails_about(lab.path("arrived"), "after")
        lab.kill()
        lab.start()
        status = json.loads(lab.ctl("--json", "status"))
        assert status["state"] == "running"


def restore(lab, shadow):
    """The spool as a power cut leaves it: synced names, and of each file its synced bytes."""
    shutil.rmtree(lab.spool)
    os.mkdir(lab.spool, 0o700)
    with open(os.path.join(shadow, "entries")) as f:
        for line in f:
            name, number = line.split()
            source = os.path.join(shadow, number)
            target = os.path.join(lab.spool, name)
            if os.path.exists(source):
                subprocess.run(["cp", "--sparse=always", source, target], check=True)
            else:
                open(target, "w").close()


def test_power_cut_loses_no_acknowledged_message():
    with Lab(workers=[min(1, os.cpu_count() - 1)]) as lab:
        sink = lab.start_sink(lab.path("arrived"))
        sink.terminate()
        sink.wait(10)
        shadow = lab.path("shadow")
        os.mkdir(shadow)
        # the next hop is down: what was acknowledged must come out of the spool
        lab.start(shim(lab, SHADOW=shadow))
        load = start_load(lab, "power", 20, 8)
        time.sleep(2.5)
        lab.kill()
        out, _ = load.communicate(timeout=60)
        acknowledged = json.loads(out.splitlines()[-1])["acknowledged"]
        assert len(acknowledged) > 10, out
        restore(lab, shadow)
        lab.start()
        lab.start_sink(lab.path("arrived"))
        print("# %d acknowledged before the cut" % len(acknowledged))
        check_all(lab, acknowledged)


OLD = 100000
DUE_EVERY = 5000  # of perf-recovery: the others wait an hour


def spool_status(lab):
    return json.loads(lab.ctl("--json", "status"))["spool"]


def test_mail_is_accepted_before_the_spool_has_been_read_and_nothing_in_it_is_lost():
    with Lab(workers=[min(1, os.cpu_count() - 1)]) as lab:
        lab.start_sink(lab.path("arrived"))
        gate = lab.path("gate")
        open(gate, "w").close()
        fill = [os.path.join(BUILD, "perf", "perf-recovery"), "fill", lab.spool, OLD, 500]
        subprocess.run([str(a) for a in fill], check=True)
        # none of the old segments can be read
        began = time.monotonic()
        lab.start(shim(lab, GATE=gate))
        ready = time.monotonic()
        expect(submit(lab, "new")[0], 250)
        accepted = time.monotonic()
        recovery = spool_status(lab)["recovery"]
        assert not recovery["done"] and recovery["stage"] == "scanning", recovery
        assert recovery["segments"] > 0 and recovery["segments_done"] == 0, recovery
        mails_about(lab.path("arrived"), "new")
        print("# a spool of %d messages, %.0f MB: ready after %.2f s, a message accepted %.2f s later"
              % (OLD, recovery["bytes"] / 1e6, ready - began, accepted - ready))
        os.unlink(gate)
        wait_until(lambda: spool_status(lab)["recovery"]["done"], 60, "end of recovery")
        due = OLD // DUE_EVERY
        assert len(mails_about(lab.path("arrived"), "old", due)) == due
        left = OLD - due
        wait_until(lambda: spool_status(lab)["messages"] == left, 30, "what is due is done")
        status = json.loads(lab.ctl("--json", "status"))
        assert status["queued"] == left, status
        assert status["spool"]["recovered"] == status["spool"]["recovery"]["found"] == OLD, status
        text = lab.log()
        assert " recovery begun: " in text and " recovery ended: %d messages " % OLD in text
        # and as it is, without a gate
        lab.kill()
        began = time.monotonic()
        lab.start()
        ready = time.monotonic()
        expect(submit(lab, "newer")[0], 250)
        print("# without a gate: ready after %.2f s, a message accepted %.2f s later" %
              (ready - began, time.monotonic() - ready))
        wait_until(lambda: spool_status(lab)["recovery"]["done"], 60, "end of recovery")
        wait_until(lambda: json.loads(lab.ctl("--json", "status"))["queued"] == left, 30,
                   "all others in the queue")
        print("# %.2f s of recovery" % spool_status(lab)["recovery"]["seconds"])
        assert len(mails_about(lab.path("arrived"), "new")) == 1
        assert lab.stop() == 0


def test_a_full_spool_is_452_and_mail_is_taken_again_when_there_is_room():
    # a file system of its own, too small for the message that comes
    with Lab(workers=[min(1, os.cpu_count() - 1)],
             config={"spool": {"max_size": "64M"}}) as lab:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m,mode=0700", "tmpfs", lab.spool],
                       check=True)
        try:
            lab.start_sink(lab.path("arrived"))
            lab.start()
            expect(submit(lab, "small")[0], 250)
            filler = os.path.join(lab.spool, "filler")
            fd = os.open(filler, os.O_WRONLY | os.O_CREAT)
            try:
                while os.write(fd, b"x" * 4096):
                    pass
            except OSError as e:
                assert e.errno == errno.ENOSPC, e
            os.close(fd)
            reply, _ = submit(lab, "large", ("y" * 900 + "\r\n") * 12000)
            expect(reply, 452, "4.3.1")
            os.unlink(filler)
            wait_until(lambda: submit(lab, "again", "z\r\n")[0].startswith("250"), 15,
                       "mail accepted again")
            mails_about(lab.path("arrived"), "again")
            assert lab.stop() == 0
        finally:
            if lab.gateway.poll() is None:
                lab.kill()
            subprocess.run(["umount", lab.spool], check=True)


if __name__ == "__main__":
    sys.exit(main(__name__))
