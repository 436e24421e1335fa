"""Passwords judged by Dovecot and OpenLDAP as Debian ships them, each an instance of its own.

The servers are unpacked into the build folder and run in the gateway's namespace, Dovecot with its
files laid over /usr in a mount namespace of its own."""
import base64
import os
import signal
import sys
import time

from harness import PASSWORD, USER, Lab, Raw, counter, expect, main, run, unpacked, wait_until

URL, SECURE = "ldap://127.0.0.1:3890", "ldaps://127.0.0.1:3891"
SUFFIX = "dc=example,dc=net"

LDIF = """dn: dc=example,dc=net
objectClass: dcObject
objectClass: organization
dc: example
o: example

dn: ou=people,dc=example,dc=net
objectClass: organizationalUnit
ou: people

dn: cn=postern,dc=example,dc=net
objectClass: person
cn: postern
sn: postern
userPassword: service-pw
"""

PERSON = """
dn: {rdn},ou=people,dc=example,dc=net
objectClass: inetOrgPerson
{uid}
cn: {name}
sn: {name}
o: acme
mail: {name}@example.net
mail: {name}.sales@example.net
userPassword: {password}
"""


def people():
    yield PERSON.format(rdn="uid=carol", uid="uid: carol", name="carol", password="looking-glass")
    yield PERSON.format(rdn="uid=two-a", uid="uid: two", name="two-a", password="twins")
    yield PERSON.format(rdn="uid=two-b", uid="uid: two", name="two-b", password="twins")
    # a name that needs escapes in the DN and in the filter
    yield PERSON.format(rdn="uid=a\\2cb*(c)", uid="uid: a,b*(c)", name="odd", password="escaped")


def write(lab, name, text):
    with open(lab.path(name), "w") as f:
        f.write(text)
    os.chmod(lab.path(name), 0o600)
    return lab.path(name)


def slapd():
    return os.path.join(unpacked("slapd"), "usr", "sbin", "slapd")


def make_directory(lab):
    os.mkdir(lab.path("ldap"), 0o700)
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
        "-days", "30", "-subj", "/CN=127.0.0.1", "-keyout", lab.path("ldap.key"), "-out",
        lab.path("ldap.crt"), "-addext", "subjectAltName=IP:127.0.0.1")
    schema = os.path.join(unpacked("slapd"), "etc", "ldap", "schema")
    write(lab, "slapd.conf", """
include {s}/core.schema
include {s}/cosine.schema
include {s}/inetorgperson.schema
modulepath {m}
moduleload back_mdb
pidfile {d}/slapd.pid
argsfile {d}/slapd.args
TLSCertificateFile {d}/ldap.crt
TLSCertificateKeyFile {d}/ldap.key
access to attrs=userPassword by anonymous auth by * none
access to * by users read by * none
database mdb
suffix "{b}"
rootdn "cn=admin,{b}"
rootpw adminpw
directory {d}/ldap
""".format(s=schema, m=os.path.join(unpacked("slapd"), "usr", "lib", "ldap"), d=lab.dir, b=SUFFIX))
    write(lab, "all.ldif", LDIF + "".join(people()))
    run(slapd(), "-T", "add", "-f", lab.path("slapd.conf"),
        "-l", lab.path("all.ldif"), env=slapd_env())


def slapd_env():
    return dict(os.environ, LD_LIBRARY_PATH=os.path.join(
        unpacked("slapd"), "usr", "lib", "x86_64-linux-gnu"))


def start_slapd(lab):
    p = lab.spawn(lab.gw_ns, slapd(), "-d", "0", "-f",
                  lab.path("slapd.conf"), "-h", URL + " " + SECURE, log=lab.path("slapd.log"),
                  env=slapd_env())
    wait_until(lambda: ":3891 " in run("ip", "netns", "exec", lab.gw_ns, "ss", "-Hltn"),
               what="slapd")
    return p


def stop_slapd(lab):
    lab.slapd.terminate()
    lab.slapd.wait(10)


def start_dovecot(lab):
    write(lab, "passwd", "carol:{PLAIN}looking-glass::::::tenant=acme "
          "addresses=carol@example.net,@sales.example.net\n"
          "locked:{PLAIN}looking-glass::::::nologin\n"
          "away:{PLAIN}looking-glass::::::allow_nets=198.51.100.0/24\n")
    os.chmod(lab.path("passwd"), 0o644)
    write(lab, "dovecot.conf", """
base_dir = {d}/dovecot
state_dir = {d}/dovecot-state
log_path = {d}/dovecot.log
protocols =
ssl = no
default_internal_user = nobody
default_internal_group = nogroup
default_login_user = daemon
auth_mechanisms = plain
auth_failure_delay = 0
auth_cache_size = 0
passdb {{
  driver = passwd-file
  args = scheme=PLAIN username_format=%Lu {d}/passwd
}}
userdb {{
  driver = static
  args = uid=nobody gid=nogroup home=/nonexistent
}}
service auth {{
  unix_listener auth-client {{
    mode = 0666
  }}
}}
""".format(d=lab.dir))
    command = ("mount -t overlay overlay -o lowerdir=%s/usr:/usr /usr && "
               "exec /usr/sbin/dovecot -F -c %s" % (unpacked("dovecot-core"), lab.path("dovecot.conf")))
    p = lab.spawn(lab.gw_ns, "unshare", "-m", "sh", "-c", command, log=lab.path("dovecot.out"))
    wait_until(lambda: os.path.exists(lab.path("dovecot/auth-client")), what="Dovecot")
    return p


def use(lab, **backend):
    """This back end behind the users file, from now on."""
    lab.config["auth"]["backends"] = [{"type": "users"}, dict({"cache": "0s"}, **backend)]
    lab.write_config()
    lab.ctl("reload")


def search(lab, url=URL, **keys):
    use(lab, **dict({"type": "ldap", "url": url, "tls": "none", "bind_dn": "cn=postern," + SUFFIX,
                     "password_file": lab.path("service"), "base": "ou=people," + SUFFIX,
                     "filter": "(&(objectClass=inetOrgPerson)(uid=%u))", "tenant_field": "o",
                     "addresses_field": "mail"}, **keys))


def by_name(lab, url=URL, **keys):
    use(lab, **dict({"type": "ldap", "url": url, "tls": "none",
                     "dn": "uid=%u,ou=people," + SUFFIX, "tenant_field": "o",
                     "addresses_field": "mail"}, **keys))


def dovecot(lab, **keys):
    use(lab, **dict({"type": "dovecot", "socket": lab.path("dovecot/auth-client"),
                     "tenant_field": "tenant", "addresses_field": "addresses"}, **keys))


def auth(c, user, password):
    expect(c.cmd("EHLO raw.example.net"), 250)
    return c.cmd("AUTH PLAIN " + base64.b64encode(
        ("\0%s\0%s" % (user, password)).encode()).decode())


def login(lab, user, password):
    with Raw(lab, 465) as c:
        return auth(c, user, password)


def right_wrong_unknown(lab):
    expect(login(lab, "carol", "looking-glass"), 235)
    expect(login(lab, "carol", "wrong"), 535, "5.7.8")
    expect(login(lab, "nobody", "wrong"), 535, "5.7.8")
    expect(login(lab, USER, PASSWORD), 235)


def owns(lab, good, bad):
    with Raw(lab, 465) as c:
        expect(auth(c, "carol", "looking-glass"), 235)
        for address in good:
            expect(c.cmd("MAIL FROM:<%s>" % address), 250)
            expect(c.cmd("RSET"), 250)
        expect(c.cmd("MAIL FROM:<%s>" % bad), 550)
    assert "acme" in lab.ctl("limits", "carol")


def test_dovecot_right_wrong_unknown(lab):
    dovecot(lab)
    right_wrong_unknown(lab)


def test_dovecot_tells_tenant_and_addresses(lab):
    owns(lab, ["carol@example.net", "any@sales.example.net"], "dave@example.net")


def test_dovecot_refuses_locked_users_and_other_networks(lab):
    expect(login(lab, "locked", "looking-glass"), 535)
    expect(login(lab, "away", "looking-glass"), 535)


def test_dovecot_takes_tabs_and_line_ends_for_what_they_are(lab):
    expect(login(lab, "carol\tservice=x", "looking-glass"), 535)
    expect(login(lab, "carol\nFAIL\t1", "looking-glass"), 535)
    right_wrong_unknown(lab)


def test_dovecot_stopped_is_454_and_back_it_is_235(lab):
    # all its processes: that of auth would serve what is open until it is closed
    os.killpg(lab.dovecot.pid, signal.SIGKILL)
    lab.dovecot.wait(10)
    os.remove(lab.path("dovecot/auth-client"))
    expect(login(lab, "carol", "looking-glass"), 454, "4.7.0")
    expect(login(lab, USER, PASSWORD), 235)
    lab.dovecot = start_dovecot(lab)
    wait_until(lambda: login(lab, "carol", "looking-glass").startswith("235"), 10, "its return")


def test_ldap_by_search_right_wrong_unknown(lab):
    search(lab)
    right_wrong_unknown(lab)
    # two entries are nobody's password
    expect(login(lab, "two", "twins"), 454)


def test_ldap_by_search_tells_tenant_and_addresses(lab):
    owns(lab, ["carol@example.net", "carol.sales@example.net"], "dave@example.net")


def test_ldap_names_are_the_directorys(lab):
    with Raw(lab, 465) as c:
        expect(auth(c, "CAROL", "looking-glass"), 235)
        assert "carol" in lab.ctl("sessions") and "CAROL" not in lab.ctl("sessions")


def test_ldap_filters_and_names_are_escaped(lab):
    for how in (search, by_name):
        how(lab)
        expect(login(lab, "*", "looking-glass"), 535)
        expect(login(lab, "carol)(uid=*", "looking-glass"), 535)
        expect(login(lab, "carol,ou=people", "looking-glass"), 535)
        expect(login(lab, "a,b*(c)", "escaped"), 235)


def test_ldap_by_name_right_wrong_unknown(lab):
    by_name(lab)
    right_wrong_unknown(lab)
    owns(lab, ["carol@example.net", "carol.sales@example.net"], "dave@example.net")


def test_ldaps_and_starttls_verify_the_server(lab):
    for url in (SECURE, URL):
        for how in (search, by_name):
            how(lab, url, tls="required", ca=lab.path("ldap.crt"))
            right_wrong_unknown(lab)
            how(lab, url, tls="required", ca=lab.ca)  # another CA
            expect(login(lab, "carol", "looking-glass"), 454)


def test_ldap_service_account_refused_is_454(lab):
    search(lab, password_file=lab.path("wrong-service"))
    expect(login(lab, "carol", "looking-glass"), 454)
    expect(login(lab, "nobody", "looking-glass"), 454)
    wait_until(lambda: "Invalid credentials" in lab.log(), 5, "its line in the log")


def test_slapd_stopped_is_454_and_back_it_is_235(lab):
    for how in (search, by_name):
        how(lab)
        expect(login(lab, "carol", "looking-glass"), 235)
        stop_slapd(lab)
        expect(login(lab, "carol", "looking-glass"), 454, "4.7.0")
        expect(login(lab, USER, PASSWORD), 235)
        lab.slapd = start_slapd(lab)
        wait_until(lambda: login(lab, "carol", "looking-glass").startswith("235"), 10, "return")


def test_a_changed_ldap_password_counts_after_the_cache(lab):
    search(lab, cache="2s")
    expect(login(lab, "carol", "looking-glass"), 235)
    stop_slapd(lab)
    expect(login(lab, "carol", "looking-glass"), 235)  # known
    run("rm", "-r", lab.path("ldap"), lab.path("all.ldif"))
    global_people = "".join(people()).replace("userPassword: looking-glass",
                                              "userPassword: changed")
    os.mkdir(lab.path("ldap"), 0o700)
    write(lab, "all.ldif", LDIF + global_people)
    run(slapd(), "-T", "add", "-f", lab.path("slapd.conf"),
        "-l", lab.path("all.ldif"), env=slapd_env())
    lab.slapd = start_slapd(lab)
    wait_until(lambda: login(lab, "carol", "looking-glass").startswith("535"), 10, "its end")
    expect(login(lab, "carol", "changed"), 235)


def test_a_stopped_directory_process_holds_up_nobody_else(lab):
    search(lab, timeout="1s", connections=1)
    expect(login(lab, "carol", "changed"), 235)
    lab.slapd.send_signal(signal.SIGSTOP)
    try:
        with Raw(lab, 465) as c:
            expect(c.cmd("EHLO raw.example.net"), 250)
            c.send("AUTH PLAIN %s\r\n" % base64.b64encode(b"\0carol\0changed").decode())
            began = time.monotonic()
            expect(login(lab, USER, PASSWORD), 235)
            assert time.monotonic() - began < 0.9
            expect(c.reply(), 454, "4.7.0")
            assert time.monotonic() - began < 4
    finally:
        lab.slapd.send_signal(signal.SIGCONT)
    wait_until(lambda: login(lab, "carol", "changed").startswith("235"), 10, "its return")
    assert counter(lab, "auth_backend_outages") > 0


def test_several_back_ends_are_asked_in_their_order(lab):
    expect(login(lab, "locked", "looking-glass"), 535)
    lab.config["auth"]["backends"] = [
        {"type": "dovecot", "socket": lab.path("dovecot/auth-client"), "cache": "0s"},
        lab.config["auth"]["backends"][1], {"type": "users"}]
    lab.write_config()
    lab.ctl("reload")
    expect(login(lab, "carol", "looking-glass"), 235)  # Dovecot's
    expect(login(lab, "carol", "changed"), 235)  # Dovecot does not tell wrong from unknown
    expect(login(lab, "carol", "neither"), 535)
    expect(login(lab, "locked", "looking-glass"), 535)
    expect(login(lab, "a,b*(c)", "escaped"), 235)
    expect(login(lab, USER, PASSWORD), 235)
    expect(login(lab, USER, "wrong"), 535)
    expect(login(lab, "nobody", "wrong"), 535)


if __name__ == "__main__":
    settings = {"auth": {"mechanisms": ["PLAIN", "LOGIN"], "failures": {
        "delay": "0s", "per_address": "off", "per_user": "off"}},
        "limits": [{"name": "acme", "tenants": ["acme"], "tenant": {"sessions": 100}}],
        "submission": {"senders": "own"}}
    with Lab(config=settings) as the_lab:
        write(the_lab, "service", "service-pw\n")
        write(the_lab, "wrong-service", "nonsense\n")
        make_directory(the_lab)
        the_lab.slapd = start_slapd(the_lab)
        the_lab.dovecot = start_dovecot(the_lab)
        the_lab.start()
        sys.exit(main(__name__, the_lab))
