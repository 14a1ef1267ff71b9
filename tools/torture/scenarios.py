"""What is done to daemons, server and network, and which requests are written meanwhile."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Callable, Optional

from .oracle import ELSEWHERE_CODE, FAIL, GROUPS, REFUSED_CODE, SCRIPT, Oracle, Request, Violation, expected_code, first
from .proxy import DOWN, ENTRY, MODIFY_RESPONSE, SEARCH_DONE, UP, Held, Lie, Proxy
from .stage import ACCOUNTS, CHECKOUT, Daemon, LDAPDown, Failure, Stage, TooLong, wait_for

DETAILS = """sstBackupIntervalHourly: 0
sstBackupIntervalDaily: 7
sstBackupIntervalWeekly: 4
sstBackupIntervalMonthly: 3
sstBackupIntervalYearly: 0
sstBackupWarningDays: 1
sstBackupWarningNumbers: 0
sstBackupWarningOn: TRUE
sstNotificationWarningLevel: 85
sstNotificationWarningMedium: mail
sstUseSelfcare: FALSE
sstUseSSH: FALSE"""
TEMPLATE = CHECKOUT / "etc/Provisioning/Backup/rsnapshot-account.conf.template"
CLASSES = ("account", "posixAccount", "sstBackup", "sstProvisioning", "sstRelationship", "provisioningClaimable")
QUIET = 120.0  # how long, at most, until everything is done once the faults have stopped

Doing = tuple[float, Callable[[], None]]  # in seconds from the start


@dataclass
class Sizes:
    """How much of everything, and after how many seconds nothing more is begun."""

    requests: int
    kills: int = 0
    server_kills: int = 0
    faults: int = 0
    accounts: int = 20
    daemons: int = 1
    seconds: float = 600


@dataclass
class Account:
    """An entry as the torture has made it; nobody else renames entries."""

    uuid: str
    dn: str
    uid: int
    home: str


class Scenario:
    """Accounts, requests, and an agenda of random times; the subclasses add the faults."""

    name = ""
    uses_proxy = False
    OPERATIONS: tuple[str, ...] = ("add", "modify", "delete")

    def __init__(self, program: Path, sizes: Sizes, seed: int, weaken: str = "") -> None:
        self.sizes, self.seed, self.weaken = sizes, seed, weaken
        self.random = random.Random(f"{self.name} {seed}")
        self.stage = Stage(program, self.name)
        self.proxy = Proxy(self.stage.port) if self.uses_proxy else None
        self.oracle = Oracle(self.stage.directory / "script.log")
        self.accounts: list[Account] = []
        self.figures: Counter[str] = Counter()
        self.notes: Counter[str] = Counter()
        self.is_cut_short = False
        self._serial = 0
        self._quiet = threading.Event()
        self._trouble: Optional[Exception] = None
        self._watch = threading.Thread(target=self._follow, daemon=True)
        script = self.stage.directory / "script.sh"
        script.write_text(SCRIPT.replace("DIRECTORY", str(self.stage.directory)).replace("GROUPS", str(GROUPS)))
        script.chmod(0o755)
        (self.stage.directory / "locks").mkdir()
        is_shared = sizes.daemons > 1 and weaken != "claim"
        claim = "[Attributes]\nCLAIM = provisioningClaim\n" if is_shared else ""
        for number in range(sizes.daemons):
            port = self.proxy.port if self.proxy else None
            self.stage.add_daemon(f"torture{number + 1}", self.settings(script) + claim, port)

    def settings(self, script: Path) -> str:
        """The rest of the daemons' settings, which goes on in [Service]."""
        return (
            f"SERVICE = Torture\nTYPE = Script\n[Script]\nADD = {script}\nMODIFY = {script}\nDELETE = {script}\n"
            "ATTRIBUTES = uid sstQuota entryUUID\nGRACE = 2s\n")

    # The course of it

    def run(self) -> list[Violation]:
        """Runs it, and returns what must not have happened."""
        self.stage.open()
        for daemon in self.stage.daemons:
            daemon.start()
        for number in range(self.sizes.accounts):
            self.add(3724300 + number)
        self._watch.start()
        self.prepare()
        self._carry_out_agenda()
        self.calm()
        self._wait_until_done()
        self.conclude()
        self._quiet.set()
        self._watch.join(60)
        if self._trouble is not None:
            raise self._trouble
        for daemon in self.stage.daemons:
            self._demand_running(daemon)
            if (status := daemon.stop()) != 0:
                self.blame("stuck", f"{daemon.name} was asked to stop: {status or 'it did not within 60 s'}")
            self.oracle.processes |= daemon.pids
        for number, words in self.stage.left_programs().items():
            self.blame("stuck", f"process {number} is left: {words[-300:]}")
        return self.oracle.judge()

    def prepare(self) -> None:
        """What is done before anything goes wrong."""

    def conclude(self) -> None:
        """What is done when all requests have their outcomes; the daemons still run."""

    def blame(self, kind: str, text: str, token: int = 0) -> None:
        self.oracle.violations.append(Violation(kind, text, token))

    def _demand_running(self, daemon: Daemon) -> None:
        if not daemon.runs:
            self.blame("wrong", f"{daemon.name} has ended by itself: {daemon.last_words()}")
            daemon.start()

    def agenda(self) -> list[Doing]:
        """What is to be done, and when, in seconds from the start."""
        # Disturbances at random times; most requests just before one, so that it meets with work.
        disturbances = self.disturbances()
        count = sum(count for count, _ in disturbances)
        length = max(self.sizes.requests * 0.1, count * 0.9)
        plan = [(self.random.uniform(0, length), action) for count, action in disturbances for _ in range(count)]
        moments = [moment for moment, _ in plan]
        for _ in range(self.sizes.requests):
            moment = self.random.uniform(0, length)
            if moments and self.random.random() < 0.8:
                moment = self.random.choice(moments) - self.random.uniform(0, 0.4)
            plan.append((moment, self.act))
        return sorted(plan, key=lambda doing: doing[0])

    def disturbances(self) -> list[tuple[int, Callable[[], None]]]:
        """What goes wrong, and how often."""
        return [(self.sizes.kills, self.kill_any), (self.sizes.server_kills, self.kill_server)]

    def calm(self) -> None:
        """No fault is in force after this."""

    def _carry_out_agenda(self) -> None:
        begin = time.monotonic()
        for moment, action in self.agenda():
            if time.monotonic() - begin > self.sizes.seconds:
                self.is_cut_short = True
                return
            time.sleep(max(0.0, begin + moment - time.monotonic()))
            try:
                action()
            except TooLong as late:
                self.blame("stuck", str(late))

    def _wait_until_done(self) -> None:
        end = time.monotonic() + QUIET
        while not all(self.oracle.is_settled(uuid) for uuid in list(self.oracle.last)):
            if time.monotonic() > end:
                return  # The oracle tells what is stuck.
            time.sleep(0.1)
        # Through one more relist everything must stay as it is, and no job may be left.
        time.sleep(4)
        for daemon in self.stage.daemons:
            try:
                wait_for(f"no job of {daemon.name} is open", 120, lambda: not self.stage.open_jobs(daemon))
            except TooLong as late:
                self.blame("stuck", f"{late}: {self.stage.open_jobs(daemon)[:3]}")

    def _follow(self) -> None:
        """Watches the entries until all is over."""
        attributes = ("*", "entryUUID", "entryCSN")
        while True:
            is_last = self._quiet.is_set()
            try:
                self.oracle.saw(self.stage.ldap.search(*attributes))
            except LDAPDown:
                is_last = False
            except Exception as trouble:
                self._trouble = trouble
                return
            if is_last:
                return
            time.sleep(0.1)

    # Requests

    def details(self, uid: int) -> str:
        """The attributes that the daemon needs besides those of the request."""
        return DETAILS

    def group(self, uid: int, operation: str, token: int) -> int:
        """The number of the account's group."""
        return GROUPS + token

    def new_token(self) -> int:
        """A number of its own, whose last digit is how its script shall behave."""
        self._serial += 1
        return self._serial * 10 + self.random.randrange(10)

    def add(self, uid: int, rdn: str = "", operation: str = "add", home: str = "") -> Account:
        """Makes an entry with a request in it."""
        token = self.new_token()
        home = home or f"{self.stage.directory}/sandbox/homes/{uid}"
        dn = f"{rdn or f'uid={uid}'},{ACCOUNTS}"
        written = time.time()
        name = rdn.partition("=")[2] or str(uid)
        classes = "\n".join(f"objectClass: {name}" for name in CLASSES)
        self.stage.ldap.change(
            f"dn: {dn}\nchangetype: add\n{classes}\nuid: {uid}\ncn: {name}\nuidNumber: {uid}\n"
            f"gidNumber: {self.group(uid, operation, token)}\nhomeDirectory: {home}\n{self.details(uid)}\n"
            f"sstIsActive: {active(operation)}\nsstQuota: {token}\nsstProvisioningMode: {operation}\nsstProvisioningState: 0\n"
            "sstProvisioningExecutionDate: 0\n")
        account = Account(self._read(dn, "entryuuid"), dn, uid, home)
        self.oracle.asked(Request(token, account.uuid, operation, written, {expected_code(token)}))
        self.accounts.append(account)
        self._asked = account
        self.figures["requests"] += 1
        return account

    def ask(
        self, account: Account, operation: str, codes: Optional[set[int]] = None, others: str = "", token: int = 0
    ) -> Request:
        """Writes a request, whatever the entry is at; also over a server that is killed meanwhile."""
        token = token or self.new_token()
        request = Request(token, account.uuid, operation, time.time(), codes or {expected_code(token)})
        self.figures["rewritten"] += not self.oracle.is_settled(account.uuid)
        self.oracle.asked(request)
        ldif = (
            f"dn: {account.dn}\nchangetype: modify\n"
            f"replace: sstProvisioningMode\nsstProvisioningMode: {operation}\n-\n"
            f"replace: sstProvisioningState\nsstProvisioningState: 0\n-\n"
            f"replace: sstQuota\nsstQuota: {token}\n-\n"
            f"replace: gidNumber\ngidNumber: {self.group(account.uid, operation, token)}\n-\n"
            f"replace: sstIsActive\nsstIsActive: {active(operation)}\n-\n{others}")
        while True:
            try:
                self.stage.ldap.change(ldif)
                break
            except LDAPDown:
                wait_for("the server answers", 120, self.stage.ldap.answers)
                if self._read(account.dn, "sstquota") == str(token):
                    break
        self.figures["requests"] += 1
        return request

    def acts(self) -> dict[Callable[[], None], int]:
        """What is done to accounts, and how often beside one another."""
        return {self.ask_one: 1}

    def act(self) -> None:
        acts = self.acts()
        self.random.choices(list(acts), list(acts.values()))[0]()

    def ask_one(self, account: Optional[Account] = None) -> None:
        """Half of the requests go to the account that was asked last: many are rewritten while work goes on."""
        account = account or (self._asked if self.random.random() < 0.5 else self.random.choice(self.accounts))
        self._asked = account
        self.ask(account, self.random.choice(self.OPERATIONS))

    def pair(self) -> tuple[Account, Account]:
        """Two accounts, which often have just been asked for something."""
        one, other = self.random.sample(self.accounts, 2)
        for account in (one, other):
            if self.random.random() < 0.7:
                self.ask_one(account)
        time.sleep(self.random.uniform(0, 0.2))
        return one, other

    def swap_names(self) -> None:
        """Two entries take each other's name."""
        one, other = self.pair()
        kind = one.dn.partition("=")[0]
        first_name, second_name = (account.dn.partition(",")[0] for account in (one, other))
        for account, name in ((one, f"{kind}=between"), (other, first_name), (one, second_name)):
            self.stage.ldap.change(f"dn: {account.dn}\nchangetype: modrdn\nnewrdn: {name}\ndeleteoldrdn: 1\n")
            account.dn = f"{name},{ACCOUNTS}"
            if self.random.random() < 0.3:
                self.ask_one(self.random.choice((one, other)))
        if kind == "uid":
            one.uid, other.uid = other.uid, one.uid
        self.figures["name swaps"] += 1

    def add_again(self) -> None:
        """An entry goes, often while work for it runs, and another with its name and uid comes."""
        account = self.random.choice(self.accounts)
        if self.random.random() < 0.7:
            self.ask(account, self.random.choice(("modify", "delete")))
            time.sleep(self.random.uniform(0, 0.3))
        self.stage.ldap.change(f"dn: {account.dn}\nchangetype: delete\n")
        self.accounts.remove(account)
        self._asked = self.accounts[0]
        del self.oracle.last[account.uuid]
        rdn, home = account.dn.partition(",")[0], account.home
        operation = self.random.choice(("add", "modify", "delete"))
        if operation == "add":
            home = f"{self.stage.directory}/sandbox/homes/again{self.figures['added again']}/{account.uid}"
        self.add(account.uid, rdn, operation, home)
        self.figures["added again"] += 1

    def wait_settled(self, account: Account, limit: float = 120) -> None:
        wait_for(f"{account.dn} has an outcome", limit, lambda: self.oracle.is_settled(account.uuid))

    def _read(self, dn: str, name: str) -> str:
        for entry in self.stage.ldap.search("entryUUID", "sstQuota"):
            if first(entry, "dn") == dn:
                return first(entry, name)
        raise Failure(f"{dn} is not there")

    # Crashes

    def kill_any(self) -> None:
        """Kills a daemon and starts it again, at once or a little later."""
        daemon = self.random.choice(self.stage.daemons)
        self._demand_running(daemon)
        daemon.kill()
        time.sleep(self.random.choice((0, 0, 0.1, 0.4)))
        daemon.start()
        self.figures["kills"] += 1

    def kill_server(self) -> None:
        self.stage.kill_server()
        time.sleep(self.random.uniform(0, 0.5))
        self.stage.start_server()
        self.figures["server_kills"] += 1


def active(operation: str) -> str:
    return "FALSE" if operation == "delete" else "TRUE"


def backup_settings(stage: Stage, script: Path, template: Path) -> str:
    """The settings of backup accounts, which goes on in [Service]; `[Backup]` is the last section."""
    sandbox = f"{stage.directory}/sandbox"
    return (
        f"[Backup]\nHOME_SCRIPT = {script}\nSCRIPT_GRACE = 2s\nHOME_ROOTS = {sandbox}/homes\nON_DELETE = remove\n"
        f"RSNAPSHOT_CONFIG_DIRECTORY = {sandbox}/rsnapshot.d\nRSNAPSHOT_CONFIGTEST = never\n"
        f"RSNAPSHOT_TEMPLATE = {template}\n")


class Claims(Scenario):
    """Several daemons share all accounts by the CLAIM attribute; entries are renamed, and added again."""

    name = "claims"

    def acts(self) -> dict[Callable[[], None], int]:
        return {self.ask_one: 20, self.swap_names: 1, self.add_again: 1}


class Kills(Scenario):
    """One daemon and its server are killed again and again."""

    name = "kills"


class Network(Scenario):
    """Between daemon and server lies a network that holds back, loses, cuts, and answers wrongly."""

    name = "network"
    uses_proxy = True
    MOMENTS = ("at once", "rewritten", "running", "settled")
    # Wrong answers: entries are left out; a search ends with an error; a modify that was carried out is answered by one.
    LIES = [
        Lie(ENTRY, None), *(Lie(SEARCH_DONE, code) for code in (3, 4, 11, 32, 50, 51, 52, 80)),
        *(Lie(MODIFY_RESPONSE, code) for code in (1, 16, 19, 32, 50, 51, 52, 53, 80, 122))]

    def disturbances(self) -> list[tuple[int, Callable[[], None]]]:
        return [*super().disturbances(), (self.sizes.faults, self.fault)]

    def calm(self) -> None:
        assert self.proxy is not None
        self.proxy.disarm()
        self.proxy.cut()

    def fault(self) -> None:
        assert self.proxy is not None
        kind = self.random.choice(("late", "late", "late", "deaf", "cut", "freeze", "swallow", "refuse", "lie", "lie"))
        seconds = self.random.uniform(0.1, 4.0)  # the daemon waits 3 s for an answer
        if kind == "late":
            if not self.late(b"", self.random.choice(self.MOMENTS)):
                return
        elif kind == "deaf":
            trap = self.proxy.trap(b"", holds=False)
            self.ask_one()
            caught = trap.wait(5)
            self.proxy.disarm()
            if caught is None:
                return
            time.sleep(self.random.uniform(0, 0.3))
            caught.link.cut()
        elif kind == "cut":
            self.proxy.cut()
        elif kind == "lie":
            self.proxy.tell(self.random.choice(self.LIES), seconds)
            self.ask_one()
            time.sleep(seconds)
        elif kind == "freeze":
            self.proxy.freeze(self.random.choice((UP, DOWN)), seconds)
        elif kind == "swallow":
            self.proxy.swallow(seconds)
            self.ask_one()
            time.sleep(seconds)
            self.proxy.cut()
        else:
            self.proxy.refuse(seconds)
        self.figures["faults"] += 1
        self.notes[kind] += 1

    def late(self, mark: bytes, moment: str) -> bool:
        """Holds back a modify that contains the mark, cuts its connection, and lets it through at a certain moment.

        The moments: at once; when another request has been written; when that one runs; when the account is done; when
        the daemon has been killed and has resumed the request. Returns False where the daemon wrote nothing.
        """
        assert self.proxy is not None
        is_crash = moment == "resumed"
        trap = self.proxy.trap(mark, holds=True, refuses=is_crash)
        self.ask(self.random.choice(self.accounts), "modify", token=self.new_token() // 10 * 10)
        held = trap.wait(10)
        self.proxy.disarm()
        if held is None:
            return False
        account = next(account for account in self.accounts if account.dn == held.dn)
        if moment in ("rewritten", "running"):
            # It must fail: a success that stands there can only be the other request's.
            request = self.ask(account, "modify", token=self.new_token() // 10 * 10 + FAIL)
            if moment == "running":
                # The request may have been carried out before this is noticed: then it is late after all.
                wait_for(f"{request.token} runs", 120, lambda: self._runs_begun(account) > 0)
        elif moment == "settled":
            self.wait_settled(account)
        elif is_crash:
            token, runs = self.oracle.last[account.uuid], self._runs_begun(account)
            self.stage.daemons[0].kill()
            self.proxy.refuse(0)
            self.stage.daemons[0].start()
            wait_for(f"{token} runs after the crash", 120, lambda: self._runs_begun(account) > runs)
        self._release(held, account, moment)
        return True

    def _runs_begun(self, account: Account) -> int:
        """How often the script has begun for an account's newest request."""
        log = self.oracle.log.read_text() if self.oracle.log.exists() else ""
        return log.count(f"start {self.oracle.last[account.uuid]} ")

    def _release(self, held: Held, account: Account, moment: str) -> None:
        token = self.oracle.last[account.uuid]
        if self.weaken == "late":
            self._finish_by_mode(account)
        result = held.release()
        self.notes[f"{moment}={result}"] += 1
        # At once it may be the first of two writes of the same. Later the entry has been changed, and no write may fit.
        if result == 0 and moment != "at once":
            self.blame("wrong", f"a write that was held back until {moment} counted: {held.message.data!r}", token)

    def _finish_by_mode(self, account: Account) -> None:
        """What a late finish would do that asserted nothing: the oracle must find it."""
        now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        try:
            self.stage.ldap.change(
                f"dn: {account.dn}\nchangetype: modify\n"
                "delete: sstProvisioningMode\nsstProvisioningMode: modifying\n-\n"
                "add: sstProvisioningMode\nsstProvisioningMode: modified\n-\n"
                f"replace: sstProvisioningState\nsstProvisioningState: {now}\n-\n"
                "replace: sstProvisioningReturnValue\nsstProvisioningReturnValue: 0\n")
        except Failure:
            pass  # It is not modified just now.


class Late(Network):
    """Each kind of write, let through late at each moment, one after the other."""

    name = "late"

    def agenda(self) -> list[Doing]:
        marks, moments = (b"modifying", b"modified"), (*self.MOMENTS, "resumed")
        return [(0.0, partial(self._case, mark, moment)) for mark in marks for moment in moments]

    def _case(self, mark: bytes, moment: str) -> None:
        for account in self.accounts:
            self.wait_settled(account)
        if not self.late(mark, moment):
            raise Failure(f"the daemon wrote no {mark.decode()}")
        self.figures["faults"] += 1


class Identities(Scenario):
    """Entries change names and uids, go and come again, and share a uid, while jobs run."""

    name = "identities"
    OPERATIONS = ("modify", "modify", "delete")  # `add` runs no script where the home is there already

    def acts(self) -> dict[Callable[[], None], int]:
        return {self.ask_one: 8, self.swap_names: 2, self.add_again: 2, self.swap_uids: 2, self.twin: 1}

    def settings(self, script: Path) -> str:
        return backup_settings(self.stage, script, TEMPLATE)

    def run(self) -> list[Violation]:
        super().run()
        for account in self.accounts:
            self._check_home(account)
        return self.oracle.violations

    def _check_home(self, account: Account) -> None:
        """The home is the work of its entry's own last request."""
        request = self.oracle.requests[self.oracle.last[account.uuid]]
        outcome = self.oracle.outcomes.get(request.token)
        if outcome is None or outcome.code != "0":
            return
        mark = Path(account.home) / "token"
        found = mark.read_text().strip() if mark.exists() else ""
        if found != ("" if request.operation == "delete" else str(request.token)):
            self.blame("wrong", f"{account.home} holds the work of {found or 'nobody'} after {request}", request.token)

    def add(self, uid: int, rdn: str = "", operation: str = "add", home: str = "") -> Account:
        # The name is not the uid, so that either can change without the other.
        account = super().add(uid, rdn or f"cn=account{uid}", operation, home)
        self._permit_elsewhere(account, account.home)
        return account

    def ask(
        self, account: Account, operation: str, codes: Optional[set[int]] = None, others: str = "", token: int = 0
    ) -> Request:
        request = super().ask(account, operation, codes, others, token)
        self._permit_elsewhere(account, account.home + others)
        return request

    def _permit_elsewhere(self, account: Account, home: str) -> None:
        """An entry that was added again with another home is refused where the home of the former entry was made."""
        if "/again" in home:
            self.oracle.requests[self.oracle.last[account.uuid]].codes.add(ELSEWHERE_CODE)

    def swap_uids(self) -> None:
        """Two entries exchange uid and home, by way of a uid that nobody has."""
        one, other = self.pair()
        for account, uid, home in ((one, 3999999, ""), (other, one.uid, one.home), (one, other.uid, other.home)):
            home = home or f"{self.stage.directory}/sandbox/homes/{uid}"
            changes = {"uid": uid, "uidNumber": uid, "homeDirectory": home}
            others = "".join(f"replace: {name}\n{name}: {value}\n-\n" for name, value in changes.items())
            self.ask(account, "modify", others=others)
            if account is one and uid == 3999999:
                continue  # Its old uid is handed on first.
            account.uid, account.home = uid, home
        self.figures["uid swaps"] += 1

    def twin(self) -> None:
        """While two entries have one uid, nothing is done for either."""
        account = self.random.choice(self.accounts)
        self.oracle.requests[self.oracle.last[account.uuid]].codes.add(REFUSED_CODE)
        twin = f"cn=twin,{ACCOUNTS}"
        classes = "\n".join(f"objectClass: {name}" for name in CLASSES)
        self.stage.ldap.change(
            f"dn: {twin}\nchangetype: add\n{classes}\nuid: {account.uid}\ncn: twin\nuidNumber: {account.uid}\n"
            f"gidNumber: {GROUPS}\nhomeDirectory: {account.home}\n{DETAILS}\nsstIsActive: TRUE\nsstQuota: 1\n"
            "sstProvisioningMode: added\nsstProvisioningState: 20260101T000000Z\nsstProvisioningExecutionDate: 0\n")
        self.ask(account, "modify", codes={REFUSED_CODE})
        self.wait_settled(account)
        self.stage.ldap.change(f"dn: {twin}\nchangetype: delete\n")
        self.ask_one(account)
        self.figures["twins"] += 1
