"""Configuration faults: told at the place, before anything happens."""

from mmhalab.sh import ensure


def unknown_config_key(lab):
    """A misspelt key and a bad value are both reported, each at file:line:col with the line and a caret; the service does not start with them."""
    first, _ = lab.fresh()
    lab.configure()
    config = first.root / "etc/mmha/mmha.toml"
    lines = config.read_text().splitlines()
    at = lines.index("[heartbeat]") + 1
    lines[at:at] = ['keepaliv = "250ms"', 'deadtime_ms = 3']
    config.write_text("\n".join(lines) + "\n")
    check = first.mmha("check")
    said = check.out + check.err
    ensure(check.rc == 3, f"check ended with {check.rc}:\n{said}")
    for line, key in ((at + 1, "keepaliv"), (at + 2, "deadtime_ms")):
        ensure(f"/etc/mmha/mmha.toml:{line}:1" in said and key in said, f"'{key}' at line {line} is not reported:\n{said}")
    ensure("^" in said, f"no caret:\n{said}")
    first.run(["systemctl", "start", "mmha"], 20)
    ensure(first.run("systemctl is-active mmha").out.strip() != "active", "the service runs with a broken configuration")
    first.sh(["systemctl", "stop", "mmha"])


def authkeys_world_readable(lab):
    """Secrets that group or other can read are refused by every command that needs them, with the remedy."""
    first, _ = lab.fresh()
    lab.configure()
    for name in ("authkeys", "replication.password"):
        path = first.root / "etc/mmha" / name
        path.chmod(0o644)
        for command in ("check", "run"):
            answer = first.mmha(command)
            said = answer.out + answer.err
            ensure(answer.rc == 3 and name in said and "chmod" in said, f"mmha {command} with a readable {name} ended with {answer.rc}:\n{said}")
            ensure(path.read_text().strip() not in said, f"mmha {command} shows the secret of {name}")
        path.chmod(0o600)
    ensure(first.mmha("init", "--node", "a=192.0.2.1", "--node", "b=192.0.2.2", "--vip", "192.0.2.3/24").rc != 0, "init overwrote a configuration")
