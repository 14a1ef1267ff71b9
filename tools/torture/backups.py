"""Backups that are interrupted, while requests are written for the same accounts."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any, Callable, Optional

from .oracle import first
from .scenarios import DETAILS, TEMPLATE, Account, Scenario, backup_settings
from .stage import TooLong

Versions = dict[str, int]  # of the files in a tree, by name

FILES = [f"file{number}" for number in range(12)]
COPIERS = {"rsnapshot", "rsync", "bwrap"}
OWN_NAMES = {".state", ".copy.conf"}  # of the daemon, in the directory of the snapshots


def content(uid: int, name: str, version: int) -> bytes:
    """What the customer writes under a name: a half of it and a mixture can be told."""
    return f"{uid} {name} {version}\n".encode() * (200 + version * 37 % 9000)


class Backups(Scenario):
    """Daemon, server and copies are killed while backups run and requests are written.

    The accounts with an even uid are only modified and keep every daily snapshot: each backup that succeeded has made
    one. The others keep few, are deleted and made again.
    """

    name = "backups"
    MANY, FEW = 99, 3

    def settings(self, script: Path) -> str:
        self.directories = self.stage.directory / "sandbox"
        self.accepted: dict[int, str] = {}  # the levels of backups that the daemon has accepted, by job number
        self.uploads = 0
        self.deletes: list[tuple[Account, int, int]] = []  # account, token, and the last upload before it
        slow = self.stage.directory / "template"
        slow.write_text(TEMPLATE.read_text().replace("rsync_long_args\t", "rsync_long_args\t--bwlimit=2000 "))
        return backup_settings(self.stage, script, slow) + "SNAPSHOTS = hidden\n"

    def details(self, uid: int) -> str:
        daily, weekly = (self.FEW, 2) if uid % 2 else (self.MANY, 0)
        return re.sub("Weekly: .*", f"Weekly: {weekly}", re.sub("Daily: .*", f"Daily: {daily}", DETAILS))

    def group(self, uid: int, operation: str, token: int) -> int:
        # With another group all files would be given to it first.
        return super().group(uid, operation, token) if operation == "delete" else uid

    def prepare(self) -> None:
        for account in self.accounts:
            self.ask(account, "modify", token=self.new_token() // 10 * 10)  # its home is made now, if it was not yet
            self.wait_settled(account)
            self.upload(account)

    def disturbances(self) -> list[tuple[int, Callable[[], None]]]:
        return [*super().disturbances(), (self.sizes.faults, self.kill_copy)]

    def kill_copy(self) -> None:
        """Kills one of the programs that copy."""
        self.back_up()
        for _ in range(self.random.randrange(1, 40)):
            copiers = self.stage.daemons[0].descendants(COPIERS)
        if not copiers:
            return
        try:
            os.kill(self.random.choice(copiers), signal.SIGKILL)
        except ProcessLookupError:
            return
        self.figures["faults"] += 1

    def kill_any(self) -> None:
        super().kill_any()
        for account in self.accounts:
            self.snapshots(account)

    def acts(self) -> dict[Callable[[], None], int]:
        return {self.ask_one: 1, self.back_up: 2}

    def ask_one(self, account: Optional[Account] = None) -> None:
        account = account or self.random.choice(self.accounts)
        operation = self.random.choice(("modify", "modify", "delete")) if account.uid % 2 else "modify"
        before = self.uploads
        token = self.ask(account, operation).token
        if operation == "delete":
            self.deletes.append((account, token, before))

    # The customer

    def upload(self, account: Account) -> None:
        """Writes new versions of some files, or all files for the first time. Each appears whole."""
        data = Path(account.home) / "incoming/data"
        new = self.stage.directory / "new"
        new.mkdir()
        is_first = not data.exists()
        try:
            for name in FILES if is_first else self.random.sample(FILES, 3):
                self.uploads += 1
                (new / name).write_bytes(content(account.uid, name, self.uploads))
                os.chown(new / name, account.uid, account.uid)
                if not is_first:
                    (new / name).rename(data / name)
            if is_first:
                os.chown(new, account.uid, account.uid)
                new.rename(data)
        except FileNotFoundError:
            pass  # The account was just being deleted.
        finally:
            shutil.rmtree(new, ignore_errors=True)

    # Backups

    def back_up(self) -> None:
        """Uploads something, and asks for backups of some accounts, or of all."""
        some = self.random.sample(self.accounts, self.random.choice((1, 2, len(self.accounts))))
        for account in some:
            self.upload(account)
        level = "weekly" if self.random.random() < 0.15 else "daily"
        names = [word for account in some for word in ("--account", str(account.uid))]
        for line in self.stage.daemons[0].command("backup", level, "--force", "--no-wait", *names).stdout.splitlines():
            self.accepted[int(line)] = level
            self.figures["backups"] += 1

    def snapshots(self, account: Account) -> dict[str, Versions]:
        """The versions in each snapshot of an account, the newest first; blames what is not whole."""
        found = {}
        store = self.directories / "homes/.store" / str(account.uid)
        for level in ("daily", "weekly"):
            for number in range(self.MANY):
                snapshot = store / f"{level}.{number}"
                versions = self._versions(account, snapshot)
                if versions is not None:
                    found[snapshot.name] = versions
        return found

    def _versions(self, account: Account, tree: Path) -> Optional[Versions]:
        """The versions of the files in a tree; None where it is not there, or goes meanwhile."""
        try:
            before = tree.stat().st_ino
        except FileNotFoundError:
            return None
        versions, faults = {}, []
        try:
            for name in sorted(os.listdir(tree / "data")) if (tree / "data").exists() else []:
                data = (tree / "data" / name).read_bytes()
                words = data.partition(b"\n")[0].decode(errors="replace").split()
                versions[name] = int(words[2]) if len(words) == 3 and words[2].isdigit() else -1
                if data != content(account.uid, name, versions[name]):
                    faults.append(f"{name} is not as it was uploaded ({len(data)} bytes)")
            if versions and sorted(versions) != sorted(FILES):
                faults.append(f"holds only {sorted(versions)}")
            if tree.stat().st_ino != before:
                return None
        except FileNotFoundError:
            return None
        for fault in faults:
            self.blame("partial", f"{tree}: {fault}")
        return versions

    # The end

    def conclude(self) -> None:
        jobs = self._judge_jobs()
        if self.weaken == "snapshot":
            (self.directories / f"homes/.store/{self.accounts[0].uid}/daily.0/data/{FILES[0]}").unlink()
        kept = {account.uid: self.snapshots(account) for account in self.accounts}
        for account in self.accounts:
            self._judge_order(account, list(kept[account.uid].items()))
            if account.uid % 2 == 0:
                self._judge_number(account, len(kept[account.uid]), jobs)
        self._judge_last([account for account in self.accounts if self._is_there(account)])
        for account, token, _ in self.deletes:
            if self.oracle.last[account.uuid] == token and self._is_done(token):
                self._judge_deleted(account)

    def _is_done(self, token: int) -> bool:
        return token in self.oracle.outcomes and self.oracle.outcomes[token].code == "0"

    def _is_there(self, account: Account) -> bool:
        token = self.oracle.last[account.uuid]
        return account.uid % 2 == 0 or self._is_done(token) and self.oracle.requests[token].operation == "modify"

    def _judge_jobs(self) -> list[dict[str, Any]]:
        """Every backup that was accepted has a record and has ended."""
        jobs = [json.loads(line) for line in self.stage.jobs(self.stage.daemons[0])]
        jobs = [job for job in jobs if job["type"] == "Backup"]
        results = {job["id"]: job.get("result") for job in jobs}
        for number, level in self.accepted.items():
            if results.get(number) is None:
                self.blame("lost", f"the {level} backup with job number {number} was accepted and has no result")
        self.notes.update(Counter(f"backup {result}" for result in results.values()))
        return jobs

    def _judge_order(self, account: Account, snapshots: list[tuple[str, Versions]]) -> None:
        """A snapshot has nothing newer than the ones before it, and nothing of before a delete."""
        for (one, newer), (other, older) in zip(snapshots, snapshots[1:]):
            if any(older[name] > newer.get(name, 0) for name in older):
                self.blame("wrong", f"{account.uid}: {other} has files that are newer than those of {one}")
        borders = [before for deleted, token, before in self.deletes if deleted is account and self._is_done(token)]
        for name, versions in snapshots:
            if versions and min(versions.values()) <= max(borders, default=0):
                self.blame("wrong", f"{account.uid}: {name} has files of before a delete")

    def _judge_number(self, account: Account, count: int, jobs: list[dict[str, Any]]) -> None:
        """Each daily backup that succeeded has made a snapshot, and none has made two."""
        mine = [job for job in jobs if job["client"] == str(account.uid) and job["level"] == "daily"]
        done = sum(
            job.get("result") in ("success", "warnings") and "nothing to do:" not in job.get("message", "")
            for job in mine)
        if count < min(done, self.MANY):
            self.blame("lost", f"{account.uid} has {count} snapshots after {done} successful backups")
        if count > len(mine):
            self.blame("doubled", f"{account.uid} has {count} snapshots after {len(mine)} backups")
        self.figures["snapshots"] += count

    def _judge_last(self, accounts: list[Account]) -> None:
        """Now that nothing disturbs, a backup is whole, nothing unfinished is left, and the sizes are right."""
        for account in accounts:
            self.upload(account)
        names = [word for account in accounts for word in ("--account", str(account.uid))]
        try:
            done = self.stage.daemons[0].command("backup", "daily", "--force", *names, limit=300)
        except TooLong as late:
            return self.blame("stuck", str(late))
        if done.returncode != 0:
            self.blame("stuck", f"backups fail without a disturbance: {done.stdout}{done.stderr}")
        sizes = {first(entry, "uid"): first(entry, "sstbackupsize") for entry in self.stage.ldap.search("*")}
        for account in accounts:
            store = self.directories / "homes/.store" / str(account.uid)
            newest = self._versions(account, store / "daily.0")
            if not newest or newest != self._versions(account, Path(account.home) / "incoming"):
                self.blame("partial", f"{store}/daily.0 is not what was uploaded: {newest}")
            if not store.is_dir():
                self.blame("lost", f"{store}, with all snapshots, is gone")
                continue
            others = {path.name for path in store.iterdir()} - OWN_NAMES - set(self.snapshots(account))
            if others:
                self.blame("partial", f"{store}: {sorted(others)} are left")
            used = subprocess.run(
                ["du", "--summarize", "--block-size=1", store], capture_output=True, text=True, check=True
            ).stdout.split()[0]
            if sizes[str(account.uid)] != used:
                self.blame("wrong", f"{account.uid}: sstBackupSize is {sizes[str(account.uid)]}; du says {used}")

    def _judge_deleted(self, account: Account) -> None:
        """Nothing is left of an account that was deleted."""
        for path in (
            Path(account.home), self.directories / "homes/.store" / str(account.uid),
            self.directories / "rsnapshot.d" / f"{account.uid}.conf"):
            if path.exists():
                self.blame("partial", f"{path} is left of an account that was deleted")
