"""What a torture runs on: a slapd of its own, daemons, and the LDAP tools.

Everything lies in one directory and is ended and removed with it. Processes are ended by their numbers, and only those
that were started here or carry this directory's name in their environment.
"""

from __future__ import annotations

import base64
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Optional

CHECKOUT = Path(__file__).resolve().parents[2]
ACCOUNTS = "ou=accounts,ou=backup,ou=services,dc=stoney-cloud,dc=org"
MANAGER = "cn=Manager,dc=stoney-cloud,dc=org"
DAEMON = "cn=prov-backup-rsnapshot,ou=programs,dc=stoney-cloud,dc=org"

LdapEntry = dict[str, list[str]]


class Failure(Exception):
    """The torture itself cannot go on: a wait was too long, or a tool failed."""


class TooLong(Failure):
    """Something did not come about in time."""


class LDAPDown(Exception):
    """The server did not answer; whether a write arrived is not known."""


def wait_for(what: str, limit: float, condition: Callable[[], object]) -> object:
    """Polls until the condition holds, and returns its value.

    Raises TooLong after `limit` seconds.
    """
    end = time.monotonic() + limit
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise TooLong(f"{what}: not within {limit:.0f} s")
        time.sleep(0.02)


class LDAPServer:
    """The server as the web page sees it: the tools of ldap-utils, one process for each operation."""

    # libldap's own codes (server down, time-out, connect error) end as 255; 51 and 52 are busy and unavailable.
    DOWN = (51, 52, 85, 255)

    def __init__(self, uri: str, password: str) -> None:
        self._bind = ["-x", "-H", uri, "-D", MANAGER, "-w", password, "-o", "nettimeout=5"]

    def _run(self, tool: str, *arguments: str, text: str = "") -> str:
        try:
            done = subprocess.run(
                [tool, *self._bind, *arguments], input=text, capture_output=True, text=True, timeout=30,
                env={**os.environ, "LDAPNOINIT": "1"})
        except subprocess.TimeoutExpired as late:
            raise LDAPDown(str(late)) from late
        if done.returncode in self.DOWN or "Can't contact" in done.stderr:
            raise LDAPDown(done.stderr)
        if done.returncode != 0:
            raise Failure(f"{tool}: {done.stderr.strip()}\n{text}")
        return done.stdout

    def change(self, ldif: str) -> None:
        """Carries out one LDIF change record."""
        self._run("ldapmodify", text=ldif)

    def search(self, *attributes: str, filter: str = "(objectClass=sstProvisioning)") -> list[LdapEntry]:
        """Every account; names of attributes in lower case."""
        found = self._run("ldapsearch", "-LLL", "-o", "ldif-wrap=no", "-b", ACCOUNTS, filter, *attributes)
        entries: list[LdapEntry] = []
        for record in found.strip().split("\n\n"):
            entry: LdapEntry = {}
            for line in record.splitlines():
                name, _, value = line.partition(":")
                text = base64.b64decode(value[1:]).decode(errors="replace") if value.startswith(":") else value.strip()
                entry.setdefault(name.lower(), []).append(text)
            if entry:
                entries.append(entry)
        return entries

    def answers(self) -> bool:
        """Whether the server can be asked."""
        try:
            self.search("1.1", filter="(uid=0)")
            return True
        except LDAPDown:
            return False


@dataclass
class Daemon:
    """One real daemon with settings, state and a host name of its own; it can be started and killed again and again."""

    name: str
    program: Path
    settings: Path
    log: Path
    pids: set[int] = field(default_factory=set)
    _process: Optional[subprocess.Popen[bytes]] = None

    def start(self) -> None:
        """Starts it, and does not wait until it works."""
        # The holder of a claim is known by its host name, so each daemon has one of its own.
        own_name = ["unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', self.name]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*own_name, str(self.program), "run", "-d", "-c", str(self.settings)],
                cwd=CHECKOUT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        self.pids.add(self._process.pid)

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """Ends it as a crash does (SIGKILL), if it runs."""
        if self._process is not None and self.runs:
            self._process.kill()
            self._process.wait()

    def stop(self) -> Optional[int]:
        """Ends it in order (SIGTERM). Returns its exit status; None where it does not end within a minute."""
        assert self._process is not None
        self._process.terminate()
        try:
            return self._process.wait(60)
        except subprocess.TimeoutExpired:
            return None

    def descendants(self, names: set[str]) -> list[int]:
        """The processes of these names that it has started, and those that they have."""
        parents, found = {}, []
        for process in Path("/proc").iterdir():
            try:
                if process.name.isdigit():
                    before, _, after = (process / "stat").read_text().rpartition(")")
                    parents[int(process.name)] = (int(after.split()[1]), before.partition("(")[2])
            except OSError:
                pass  # It has just ended.
        for number, (above, name) in parents.items():
            while above in parents and above not in self.pids:
                above = parents[above][0]
            if above in self.pids and name in names:
                found.append(number)
        return found

    def command(self, *words: str, limit: float = 60) -> subprocess.CompletedProcess[str]:
        """Runs a command of the program with its settings."""
        command = [str(self.program), *words, "-c", str(self.settings)]
        try:
            return subprocess.run(command, capture_output=True, text=True, timeout=limit)
        except subprocess.TimeoutExpired as late:
            raise TooLong(f"{' '.join(words)}: not within {limit:.0f} s") from late

    def last_words(self) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-20:])


def free_port() -> int:
    """A port for the server, outside of the range from which the kernel takes the ports of outgoing connections."""
    while True:
        with socket.socket() as probe:
            port = random.randrange(15000, 32000)
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


class Stage:
    """The directory, the server in it, and the daemons."""

    def __init__(self, program: Path, name: str) -> None:
        self.program = program
        # The daemon takes no script from below a directory that others can write to.
        self.directory = Path(tempfile.mkdtemp(prefix=f"prov-torture-{name}.", dir="/var/lib"))
        self.directory.chmod(0o755)
        self.daemons: list[Daemon] = []
        self.port = free_port()
        self._sandbox = self.directory / "sandbox"

    # The server

    def open(self) -> None:
        """Starts the server for the first time."""
        self.start_server()
        password = (self._sandbox / "slapd/manager.password").read_text().strip()
        self.ldap = LDAPServer(f"ldap://127.0.0.1:{self.port}", password)

    def start_server(self) -> None:
        """Starts slapd, on its database if there is one; returns when it answers."""
        done = subprocess.run(
            [str(self.program), "sandbox", "start", "--directory", str(self._sandbox), "--port", str(self.port)],
            cwd=CHECKOUT, capture_output=True, text=True, timeout=60, start_new_session=True)
        if done.returncode != 0:
            raise Failure(f"slapd does not start: {done.stdout}{done.stderr}")

    def kill_server(self) -> None:
        """Ends slapd as a crash does; its database stays."""
        file = self._sandbox / "slapd/slapd.pid"
        number = int(file.read_text() or 0) if file.exists() else 0
        command = Path(f"/proc/{number}/cmdline")
        if number and command.exists() and str(self.directory).encode() in command.read_bytes():
            os.kill(number, signal.SIGKILL)
            wait_for("slapd is gone", 120, lambda: not command.exists() or not command.read_bytes())

    # The daemons

    def add_daemon(self, name: str, settings: str, port: Optional[int] = None) -> Daemon:
        """Makes a daemon of these settings, which reaches the server at `port`; it is not started yet."""
        place = self.directory / name
        place.mkdir()
        file = place / "settings.conf"
        file.write_text(
            f"[Global]\nSLEEP = 1s\nLOG_DEBUG = 1\n[Operation Mode]\nSLEEP = 1s\n"
            f"[Database]\nSERVER = ldap://127.0.0.1:{port or self.port}\nADMIN_USER = {DAEMON}\n"
            f"ADMIN_PASSWORD_FILE = {self._sandbox}/slapd/daemon.password\nSERVICE_SUBTREE = {ACCOUNTS}\n"
            f"DETECTION = persist\nRELIST_INTERVAL = 3s\nCONNECT_TIMEOUT = 3s\nOPERATION_TIMEOUT = 3s\n"
            f"[Scripts]\nEVENTS_DIRECTORY = {place}/none\n"
            f"[Service]\nSTATE_DIRECTORY = {place}/state\nRUNTIME_DIRECTORY = {place}/run\n"
            f"RETRY_DELAY = 1s\nRETRY_MAX_DELAY = 2s\nSTOP_GRACE = 5s\nMAX_DELETES_PER_HOUR = 0\n{settings}")
        file.chmod(0o600)
        daemon = Daemon(name, self.program, file, self.directory / f"{name}.log")
        self.daemons.append(daemon)
        return daemon

    def open_jobs(self, daemon: Daemon) -> list[str]:
        """The jobs that are not over, as lines of JSON."""
        return [line for line in self.jobs(daemon) if re.search(r'"isOpen":\s*true', line)]

    @staticmethod
    def jobs(daemon: Daemon) -> list[str]:
        """All jobs, as lines of JSON."""
        listed = daemon.command("jobs", "list", "--json", "--limit", "100000")
        if listed.returncode != 0:
            raise Failure(f"jobs list: {listed.stderr}")
        return listed.stdout.splitlines()

    # The end

    def close(self, remove: bool) -> None:
        """Ends everything that was started here."""
        for daemon in self.daemons:
            daemon.kill()
        self.kill_server()
        for process in self.left_programs():
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                pass
        if remove:
            shutil.rmtree(self.directory)

    def left_programs(self) -> dict[int, str]:
        """What killed daemons have left, by number: programs with this directory in their arguments or environment, except the server."""
        mark = f"{self.directory}/".encode()
        found = {}
        for process in Path("/proc").iterdir():
            try:
                if not process.name.isdigit():
                    continue
                words = (process / "cmdline").read_bytes()
                is_server = words.partition(b"\0")[0].endswith(b"slapd")
                if not is_server and (mark in words or mark in (process / "environ").read_bytes()):
                    found[int(process.name)] = words.replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                pass  # It has just ended.
        return found
