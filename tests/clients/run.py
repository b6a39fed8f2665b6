#!/usr/bin/env python3
"""Starts a cluster, and has each script of this folder talk to it. See README.md."""

import importlib.util
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
NODES = 3
PATIENCE_SECS = 60


def free_port_base():
    """The first of three free ports in a row, thrice."""
    for base in range(20000 + os.getpid() % 10000, 60000, 10):
        sockets = []
        try:
            for port in range(base, base + 3 * NODES):
                sockets.append(socket.create_server(("127.0.0.1", port)))
            return base
        except OSError:
            continue
        finally:
            for opened in sockets:
                opened.close()
    raise SystemExit("no free ports")


def answers(port):
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.settimeout(5)
            connection.sendall(b"SET ready 1\r\n")
            return connection.recv(64).startswith(b"+OK")
    except OSError:
        return False


def packages_of(script):
    first = script.read_text().splitlines()[0]
    return first.partition("needs:")[2].split()


def is_node(script):
    return script.suffix == ".mjs"


def install_for_node(package, directory):
    """Whether npm has put the package into the directory, beside which the scripts are copied."""
    command = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", directory]
    try:
        return subprocess.run(command + [package], stderr=subprocess.DEVNULL).returncode == 0
    except FileNotFoundError:
        return False


def build(script, directory):
    """The program of a script in Rust, or nothing if cargo can't have its crates."""
    features = {"redis": '["cluster-async", "tokio-comp"]', "tokio": '["rt"]'}
    lines = ["[workspace]", "[package]", f'name = "{script.stem}"', 'edition = "2024"']
    lines += ["[[bin]]", f'name = "{script.stem}"', f'path = "{script}"', "[dependencies]"]
    for package in packages_of(script):
        lines.append(f'{package} = {{ version = "1", features = {features[package]} }}')
    manifest = pathlib.Path(directory, "Cargo.toml")
    manifest.write_text("\n".join(lines))
    options = ["--quiet", "--manifest-path", manifest]
    if subprocess.run(["cargo", "fetch", *options]).returncode != 0:
        return None
    target = pathlib.Path(directory, "target")
    subprocess.run(["cargo", "build", *options, "--target-dir", target], check=True)
    return target / "debug" / script.stem


def command_of(script, directory):
    if script.suffix == ".rs":
        return [build(script, directory)]
    if not is_node(script):
        return [sys.executable, script]
    # Modules are looked for from where a script is.
    return ["node", shutil.copy(script, directory)]


def install(package, directory):
    """Whether the package is there now: fresh in the directory, or that of the system."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", directory]
    command += ["--root-user-action=ignore", "--disable-pip-version-check", package]
    if subprocess.run(command, stderr=subprocess.DEVNULL).returncode == 0:
        return True
    return importlib.util.find_spec(package.replace("-", "_")) is not None


def run_all(scripts, port):
    failed, left_out = [], []
    with tempfile.TemporaryDirectory() as directory:
        missing = set()
        for node, has in ((False, install), (True, install_for_node)):
            others = [script for script in scripts if script.suffix != ".rs"]
            chosen = [script for script in others if is_node(script) == node]
            wanted = sorted({package for script in chosen for package in packages_of(script)})
            missing |= {(node, package) for package in wanted if not has(package, directory)}
        environment = {**os.environ, "PYTHONPATH": directory, "PORT": str(port)}
        for script in scripts:
            needs = {(is_node(script), package) for package in packages_of(script)}
            if lacks := sorted(package for _, package in missing & needs):
                left_out.append(f"{script.name}: {' '.join(lacks)} can't be had")
                continue
            command = command_of(script, directory)
            if command == [None]:
                left_out.append(f"{script.name}: its crates can't be had")
                continue
            done = subprocess.run(command, env=environment, timeout=300)
            print(script.name, "passed" if done.returncode == 0 else "FAILED", flush=True)
            if done.returncode != 0:
                failed.append(script.name)
    for line in left_out:
        print("left out:", line)
    return failed


def main():
    program = os.environ.get("LOGBOAT", ROOT / "target" / "debug" / "logboat")
    names = sys.argv[1:]
    scripts = sorted(script for kind in ("py", "mjs", "rs") for script in HERE.glob(f"*_*.{kind}"))
    scripts = [script for script in scripts if not names or script.name in names]
    base = free_port_base()
    command = [program, "demo", "--groups", "48", "--seconds", "1", "--nodes", str(NODES)]
    ports = zip(["client", "peer", "admin"], [base, base + NODES, base + 2 * NODES])
    for kind, port in ports:
        command += [f"--{kind}-port-base", str(port)]
    cluster = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + PATIENCE_SECS
        while not answers(base):
            if time.monotonic() > deadline or cluster.poll() is not None:
                raise SystemExit("the cluster did not start")
            time.sleep(0.2)
        failed = run_all(scripts, base)
    finally:
        cluster.terminate()
        cluster.wait()
    sys.exit(f"failed: {' '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
