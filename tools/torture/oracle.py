"""Judges what was done: from what the scripts logged and from what stood in the entries.

Every request has a token of its own, which is written into the entry with it, handed to the script, and logged by it.
So it is known of every run which request it was for, and that it began after that was written. The token's last digit
says how the script behaves, and so what the outcome must be: outcomes of neighbouring requests differ.
"""

from __future__ import annotations

import calendar
import re
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

from .stage import LdapEntry

DONE = {"add": "added", "modify": "modified", "delete": "deleted"}
CLAIMED = {"add": "adding", "modify": "modifying", "delete": "deleting"}

FAIL = 8  # the last digit of a token whose script fails; see SCRIPT for the others
FAIL_CODE, REFUSED_CODE, ELSEWHERE_CODE = 5, 1, 4
# The token stands in sstQuota, and in gidNumber plus this: a home script that deletes is told no quota.
GROUPS = 10_000_000

# Holds a lock for its home (TYPE = Script: for its entry) from the first line to the last, and so does what it leaves
# running. Logs beginning and end.
SCRIPT = r"""#!/bin/bash
token=${PROV_ATTR_SSTQUOTA:-$PROV_QUOTA_BYTES}
[ "$token" != 0 ] || token=$((PROV_GID_NUMBER - GROUPS))
lock=${PROV_ATTR_ENTRYUUID:-$1}
daemon=${PROV_REPORT_SOCKET%/run/*}
run="$token $lock $PROV_ACTION $PROV_ATTEMPT ${daemon##*/} $PPID $$"
log() { echo "$1 $run $EPOCHREALTIME $2" >>"DIRECTORY/script.log"; }
exec 9>"DIRECTORY/locks/$lock"
flock -n 9 || log doubled -
log start -
[ -z "$PROV_HOME" ] || [ "$PROV_ACTION" = delete ] || { mkdir -p "$PROV_HOME" && echo "$token" >"$PROV_HOME/token"; }
RANDOM=$((token + PROV_ATTEMPT))
sleep "$(printf '0.%03d' $((RANDOM % 300)))"
code=0
case $((token % 10)) in
6) sleep 1.5 ;;
7) [ "$PROV_ATTEMPT" -gt 1 ] || code=75 ;;
8) code=5 ;;
9) sleep 60 >/dev/null 2>&1 & ;;
esac
log end $code
exit $code
"""


@dataclass
class Request:
    """A request that was written."""

    token: int
    uuid: str
    operation: str
    written: float
    codes: set[int]  # the ReturnValues that are right


@dataclass(frozen=True)
class Outcome:
    """An entry that asks for nothing any more, as it was seen."""

    mode: str
    state: str
    code: str
    claim: str
    seen: float


@dataclass
class Run:
    """One run of the script; without an end if it was ended from outside."""

    token: int
    lock: str
    operation: str
    daemon: str
    parent: int
    start: float
    end: Optional[float] = None
    code: Optional[int] = None


@dataclass(frozen=True)
class Violation:
    """Something that must not be. Token 0: it is not known of which request."""

    kind: str  # doubled, lost, stuck, partial, wrong
    text: str
    token: int


def expected_code(token: int) -> int:
    """The ReturnValue that the script's behaviour leads to."""
    return FAIL_CODE if token % 10 == FAIL else 0


def first(entry: LdapEntry, name: str) -> str:
    return entry.get(name, [""])[0]


@dataclass
class Oracle:
    """Is told of every request and shown the entries again and again; reads the log of the scripts at the end."""

    log: Path
    processes: set[int] = field(default_factory=set)  # of daemons, all that ever ran
    requests: dict[int, Request] = field(default_factory=dict)
    last: dict[str, int] = field(default_factory=dict)  # the newest token of each living entry, by entryUUID
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    standing: dict[str, LdapEntry] = field(default_factory=dict)  # as last seen
    violations: list[Violation] = field(default_factory=list)
    course: Counter[str] = field(default_factory=Counter)  # how hard it was: what became of runs

    # While it goes on

    def asked(self, request: Request) -> None:
        """Takes a request; before it is written, or where its entry comes with it, right afterwards."""
        self.requests[request.token] = request
        self.last[request.uuid] = request.token

    def saw(self, entries: list[LdapEntry]) -> None:
        """Takes what LDAP holds now."""
        now = time.time()
        for entry in entries:
            self.standing[first(entry, "entryuuid")] = entry
            token = int(first(entry, "sstquota") or 0)
            if token not in self.requests:
                continue
            outcome = self._outcome(entry, now)
            before = self.outcomes.get(token)
            if outcome is not None and before is None:
                self.outcomes[token] = outcome
            elif before is not None and (outcome is None or not same(before, outcome)):
                text = f"its outcome {before} became {describe(entry)} without a new request"
                self.violations.append(Violation("wrong", text, token))
                self.outcomes[token] = outcome or before

    @staticmethod
    def _outcome(entry: LdapEntry, now: float) -> Optional[Outcome]:
        mode, state = first(entry, "sstprovisioningmode"), first(entry, "sstprovisioningstate")
        code = first(entry, "sstprovisioningreturnvalue")
        is_failed = mode in CLAIMED.values() and code != ""
        is_done = mode in DONE.values() and state != "0"
        return Outcome(mode, state, code, first(entry, "provisioningclaim"), now) if is_failed or is_done else None

    def is_settled(self, uuid: str) -> bool:
        """Whether the newest request of an entry has an outcome."""
        return self.last[uuid] in self.outcomes

    # Afterwards

    def judge(self) -> list[Violation]:
        """Everything that must not be; to be called once, when no daemon runs any more."""
        runs = self.runs()
        by_token: dict[int, list[Run]] = defaultdict(list)
        by_lock: dict[str, list[Run]] = defaultdict(list)
        for run in runs:
            by_token[run.token].append(run)
            by_lock[run.lock].append(run)
        self.course["runs"] = len(runs)
        self.course["runs cut off"] = sum(run.end is None for run in runs)
        for token, request in self.requests.items():
            self._judge_request(request, by_token[token])
        for those in by_lock.values():
            self._judge_order(those)
        for uuid, token in self.last.items():
            self._judge_end(uuid, token)
        return self.violations

    def runs(self) -> list[Run]:
        """What the scripts logged, in the order of their starts."""
        runs: list[Run] = []
        open_runs: dict[int, Run] = {}
        for line in self.log.read_text().splitlines() if self.log.exists() else []:
            what, token, lock, operation, _, daemon, parent, process, moment, code = line.split()
            if what == "doubled":
                text = f"a script of {daemon} began while another one for {lock} ran: {line}"
                self.violations.append(Violation("doubled", text, int(token)))
            elif what == "start":
                run = Run(int(token), lock, operation, daemon, int(parent), float(moment))
                open_runs[int(process)] = run
                runs.append(run)
            else:
                open_runs[int(process)].end = float(moment)
                open_runs[int(process)].code = int(code)
        return runs

    def _blame(self, kind: str, request: Request, text: str) -> None:
        self.violations.append(Violation(kind, f"{request.operation} {request.token}: {text}", request.token))

    def _judge_request(self, request: Request, runs: list[Run]) -> None:
        outcome = self.outcomes.get(request.token)
        for run in runs:
            if run.operation != request.operation:
                self._blame("wrong", request, f"it was carried out as {run.operation}")
            if outcome is not None and run.start > outcome.seen:
                self._blame("doubled", request, f"it was carried out again after {outcome}: {run}")
        for earlier, later in zip(runs, runs[1:]):
            # Only a crash of the daemon that worked on it, or a request that the script itself wrote, is a reason for another run.
            is_same_process = earlier.parent == later.parent and earlier.parent in self.processes
            self.course["retried" if earlier.code == 75 else "repeated after a crash"] += 1
            if earlier.code != 75 and (is_same_process or earlier.daemon != later.daemon):
                self._blame("doubled", request, f"it was carried out again without a crash: {earlier}, {later}")
        if outcome is None:
            return
        if outcome.claim:
            self._blame("stuck", request, f"its claim was left: {outcome}")
        if outcome.code not in map(str, request.codes):
            self._blame("wrong", request, f"the outcome is not one of {request.codes}: {outcome}")
        elif outcome.code in (str(REFUSED_CODE), str(ELSEWHERE_CODE)):
            if runs and request.codes == {REFUSED_CODE}:
                self._blame("wrong", request, f"it was refused, and carried out: {runs}")
        else:
            self._judge_outcome(request, outcome, runs)

    def _judge_outcome(self, request: Request, outcome: Outcome, runs: list[Run]) -> None:
        names = DONE if outcome.code == "0" else CLAIMED
        if outcome.mode != names[request.operation]:
            self._blame("wrong", request, f"another operation's outcome: {outcome}")
        if outcome.code != "0" and outcome.state != "0":
            self._blame("wrong", request, f"failed with a state: {outcome}")
        if outcome.code == "0" and not re.fullmatch(r"\d{8}T\d{6}Z", outcome.state):
            self._blame("wrong", request, f"the state is no time: {outcome}")
        elif outcome.code == "0":
            moment = calendar.timegm(time.strptime(outcome.state, "%Y%m%dT%H%M%SZ"))
            if not int(request.written) <= moment <= outcome.seen:
                self._blame("wrong", request, f"done before it was asked for: {outcome}")
        fitting = [run for run in runs if str(run.code) == outcome.code]
        if not any(run.end is not None and run.end <= outcome.seen for run in fitting):
            self._blame("lost", request, f"{outcome}, and no run of the script did that: {runs}")

    def _judge_order(self, runs: list[Run]) -> None:
        for earlier, later in zip(runs, runs[1:]):
            if earlier.end is not None and earlier.end > later.start:
                text = f"two scripts at once: {earlier}, {later}"
                self.violations.append(Violation("doubled", text, later.token))
            one, other = self.requests.get(earlier.token), self.requests.get(later.token)
            if one and other and one.uuid == other.uuid and one.token > other.token:
                self._blame("wrong", other, f"carried out after a later request: {earlier}, {later}")

    def _judge_end(self, uuid: str, token: int) -> None:
        request = self.requests[token]
        entry = self.standing.get(uuid)
        if entry is None:
            self._blame("lost", request, f"the entry {uuid} is gone")
        elif first(entry, "sstquota") != str(token):
            self._blame("lost", request, f"the entry holds another token: {describe(entry)}")
        elif token not in self.outcomes:
            self._blame("stuck", request, f"no outcome: {describe(entry)}")
        if entry is not None and first(entry, "provisioningclaim"):
            self._blame("stuck", request, f"a claim is left: {describe(entry)}")


def same(one: Outcome, other: Outcome) -> bool:
    return (one.mode, one.state, one.code) == (other.mode, other.state, other.code)


def describe(entry: LdapEntry) -> str:
    """The attributes of the protocol, in one line."""
    names = {
        "mode": "sstprovisioningmode", "state": "sstprovisioningstate", "returned": "sstprovisioningreturnvalue",
        "claim": "provisioningclaim", "token": "sstquota"}
    return " ".join([first(entry, "dn"), *(f"{word}={first(entry, name)}" for word, name in names.items())])
