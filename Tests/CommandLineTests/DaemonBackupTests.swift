import BackupService
import LDAP
import Sandbox
import Foundation
import Glibc
import JobCore
import SystemPackage
import TestSupport
import Testing

@testable import prov_backup_rsnapshot

/// Backups that are asked for by the command, made by the real daemon with the rsnapshot of this machine.
@Suite(
    .enabled(
        if: FileManager.default.isExecutableFile(atPath: "/usr/bin/rsnapshot"),
        "rsnapshot is not installed: apt install rsnapshot"))
struct DaemonBackupTests {
    private static func status(_ file: URL) -> stat {
        var status = stat()
        lstat(file.path, &status)
        return status
    }

    @Test(
        "a real backup: two accounts, daily twice with a change in between; what did not change is shared, and the entries have the sizes"
    )
    func twoAccounts() async throws {
        try await DaemonHarness.run { harness in
            try harness.settings()
            let daemon = try await harness.running()
            let uids = ["3724300", "3724301"]
            for uid in uids {
                try await harness.add(uid)
                try await harness.reached("added", uid)
                try harness.upload(String(repeating: "same", count: 20_000), as: "same", of: uid)
                try harness.upload("old", as: "changing", of: uid)
            }
            let first = try await harness.command("backup", "daily")
            #expect(first.status == 0 && first.output.contains("2 jobs: 2 success"), "\(first.output)")
            let recent = try await harness.command("backup", "daily")
            #expect(recent.status == 0 && recent.output.contains("skipped 2 accounts: "), "\(recent.output)")
            try harness.upload("newer", as: "changing", of: uids[0])
            let second = try await harness.command("backup", "daily", "--force")
            #expect(second.status == 0 && second.output.contains("2 jobs: 2 success"), "\(second.output)")

            for uid in uids {
                let snapshots = harness.home(uid).appending(path: ".snapshots")
                let (newest, older) = (snapshots.appending(path: "daily.0"), snapshots.appending(path: "daily.1"))
                func inode(_ directory: URL, _ name: String) -> ino_t {
                    Self.status(directory.appending(path: name)).st_ino
                }
                #expect(inode(newest, "same") != 0 && inode(newest, "same") == inode(older, "same"))
                #expect((inode(newest, "changing") == inode(older, "changing")) == (uid == uids[1]))
                #expect(try String(contentsOf: older.appending(path: "changing"), encoding: .utf8) == "old")
                let text = try String(contentsOf: newest.appending(path: "changing"), encoding: .utf8)
                #expect(text == (uid == uids[0] ? "newer" : "old"))
                // As du counts.
                var seen: Set<ino_t> = [Self.status(snapshots).st_ino]
                var size = Int(Self.status(snapshots).st_blocks) * 512
                for path in try FileManager.default.subpathsOfDirectory(atPath: snapshots.path) {
                    let status = Self.status(snapshots.appending(path: path))
                    if seen.insert(status.st_ino).inserted { size += Int(status.st_blocks) * 512 }
                }
                #expect(try await harness.text(uid, "sstBackupSize") == "\(size)")
                let increment = try #require(Int(try await harness.text(uid, "sstIncrementSize") ?? ""))
                #expect(increment > 0 && increment < size)
                let success = try await harness.text(uid, "sstBackupLastSuccessfulBackup") ?? ""
                #expect(success.wholeMatch(of: /.+:20[0-9]{6}T[0-9]{6}Z/) != nil, "\(success)")
            }
            let listed = try await harness.jobs("--type", "Backup")
            #expect(listed.map(\.result) == Array(repeating: .success, count: 4))
            #expect(Set(listed.map(\.client)) == Set(uids) && Set(listed.map(\.level)) == ["daily"])
            await harness.stop(daemon)
        }
    }

    @Test(
        "what a boot unmounted is mounted when the daemon starts, SNAPSHOTS = hidden takes effect with a reload, and a deletion leaves nothing mounted",
        .enabled(if: geteuid() == 0, "needs root to mount"))
    func snapshotViews() async throws {
        try await DaemonHarness.run { harness in
            let uid = "3724300"
            let point = harness.home(uid).appending(path: ".snapshots")
            func isMounted() -> Bool { harness.showsSnapshots(of: uid) }
            defer { umount2(point.path, Int32(MNT_DETACH)) }
            try harness.settings(backup: "HOME_SCRIPT =\nON_DELETE = archive\nSNAPSHOTS = readonly")
            let first = try await harness.running()
            try await harness.add(uid)
            try await harness.reached("added", uid)
            #expect(isMounted())
            #expect(try await harness.command("backup", "daily").status == 0)
            await harness.stop(first)
            #expect(isMounted(), "a daemon that stops leaves customers what they see")

            #expect(umount2(point.path, Int32(MNT_DETACH)) == 0)
            let checked = try await harness.command("check").output
            #expect(
                checked.contains("NOT   SNAPSHOTS: snapshots are not mounted as SNAPSHOTS says in 1 of 1 home"),
                "\(checked)")
            let second = try await harness.running()
            try await eventually("the snapshots are shown again") { isMounted() }
            #expect(FileManager.default.fileExists(atPath: point.appending(path: "daily.0").path))

            try harness.settings(backup: "HOME_SCRIPT =\nON_DELETE = archive\nSNAPSHOTS = hidden")
            second.kill(SIGHUP)
            try await eventually("the snapshots are hidden") { !isMounted() }
            try harness.settings(backup: "HOME_SCRIPT =\nON_DELETE = archive\nSNAPSHOTS = readonly")
            second.kill(SIGHUP)
            try await eventually("the snapshots are shown once more") { isMounted() }

            try await harness.request(uid, "delete", ["sstIsActive": "FALSE"])
            try await harness.reached("deleted", uid)
            #expect(!isMounted())
            let archive = harness.homes.appending(path: ".deleted")
            let name = try #require(try FileManager.default.contentsOfDirectory(atPath: archive.path).first)
            let snapshot = archive.appending(path: "\(name)/.snapshots/daily.0")
            #expect(FileManager.default.fileExists(atPath: snapshot.path))
            await harness.stop(second)
        }
    }

    private static let seesFirstProcess = FileManager.default.contents(atPath: "/proc/1/mountinfo") != nil

    @Test(
        "a daemon in a mount namespace of its own, as with PrivateMounts, is told so",
        .enabled(if: geteuid() == 0 && seesFirstProcess, "needs root, and to see the mounts of process 1"))
    func ownMounts() async throws {
        try await DaemonHarness.run { harness in
            try harness.settings(backup: "HOME_SCRIPT =\nSNAPSHOTS = readonly")
            // As under the shipped unit, which does not allow to trace process 1.
            let apart = try RunningProgram(
                URL(filePath: "/usr/bin/unshare"),
                [
                    "--mount", "setpriv", "--bounding-set=-sys_ptrace", DaemonHarness.program.path, "check", "-c",
                    harness.settingsFile.path,
                ])
            #expect(await apart.end() == 1)
            #expect(
                apart.output.contains("NOT   SNAPSHOTS: readonly needs the system's mount namespace"), "\(apart.output)"
            )
        }
    }

    /// Runs a test with an LDAP server that gives the daemon two entries of a search and then refuses the rest.
    private static func limited(_ body: (DaemonHarness) async throws -> Void) async throws {
        var options = SandboxOptions.testing
        options.databaseLines = ["limits dn.exact=\"\(SandboxTree.daemonDN)\" size=2"]
        let pieces = FileManager.default.temporaryDirectory.appending(
            path: "prov-pieces-\(UUID().uuidString.prefix(8))")
        defer { try? FileManager.default.removeItem(at: pieces) }
        try FileManager.default.copyItem(at: DaemonHarness.checkout.appending(path: "etc/openldap"), to: pieces)
        try "# empty\n".write(to: pieces.appending(path: "limits.conf"), atomically: true, encoding: .utf8)
        options.pieces = FilePath(pieces.path)
        try await DaemonHarness.run(options: options, body)
    }

    @Test(
        "run --once that cannot list all requests does not say that nothing was changed: it has begun with the others")
    func unlistedOnce() async throws {
        try await Self.limited { harness in
            try harness.settings()
            for uid in ["3724300", "3724301", "3724302"] { try await harness.add(uid) }
            let once = try await harness.command("run", "--once")
            #expect(once.status == 1 && once.output.contains("sizeLimitExceeded"), "\(once.output)")
            #expect(once.output.contains("requests that were found before this had begun"), "\(once.output)")
            #expect(!once.output.contains("nothing was changed"), "\(once.output)")
        }
    }

    @Test("a backup run that cannot list the accounts is a failed job that says why")
    func unlisted() async throws {
        try await Self.limited { harness in
            try harness.settings()
            let daemon = try await harness.running()
            for uid in ["3724300", "3724301", "3724302"] {
                try await harness.add(
                    uid, ["sstProvisioningMode": "added", "sstProvisioningState": "20260101T000000Z"])
            }
            let asked = try await harness.command("backup", "daily")
            #expect(asked.status == 1, "\(asked.output)")
            let jobs = try await harness.jobs("--type", "Backup")
            #expect(jobs.map(\.result) == [.failed])
            #expect(jobs.first?.level == "daily")
            #expect(jobs.first?.message.contains("sizeLimitExceeded") == true, "\(jobs)")
            await harness.stop(daemon)
        }
    }

    @Test("while the LDAP server is away the command fails at once with 69", arguments: ["auto", "poll"])
    func away(detection: String) async throws {
        try await DaemonHarness.run { harness in
            try harness.settings(database: "DETECTION = \(detection)")
            let daemon = try await harness.running()
            try await harness.sandbox.kill()
            for arguments in [["backup", "daily"], ["backup", "daily", "--account", "3724300"]] {
                let program = try RunningProgram(DaemonHarness.program, arguments + ["-c", harness.settingsFile.path])
                // It is the daemon that answers, and not the command that waits in vain.
                #expect(await program.end(within: .seconds(60)) == 69, "\(program.output)")
            }
            #expect(try await harness.jobs("--type", "Backup") == [])
            await harness.stop(daemon)
        }
    }

    @Test("levels of [Backup Jobs] run at their time, and for each account the larger one first")
    func schedules() async throws {
        try await DaemonHarness.run { harness in
            // Asking for the monthly backup of the first takes its time: the daily ones are not to overtake those of the others.
            let handlers = try harness.handlers(
                """
                import bacula, time
                class Events:
                    def JobStart(self, job):
                        if job.Client == "3724309" and job.Type == "Backup": time.sleep(1)
                bacula.set_events(Events())

                """)
            let settings = "HOME_SCRIPT =\n\(handlers)\n[Backup Jobs]\nSLOTS = 2\n"
            try harness.settings(backup: settings)
            try await harness.add("3724309", ["sstBackupIntervalDaily": "0"])
            let uids = ["3724300", "3724301"]
            for uid in uids { try await harness.add(uid) }
            let daemon = try await harness.running()
            for uid in uids + ["3724309"] { try await harness.reached("added", uid) }
            // A schedule has no finer time than the next minute.
            try harness.settings(backup: settings + "DAILY = * * * * *\nMONTHLY = * * * * *\n")
            daemon.kill(SIGHUP)
            try await daemon.says("have been reloaded")
            var ended: [Job] = []
            try await eventually("each account has its two jobs of a minute") {
                ended = try await harness.jobs("--type", "Backup").filter { !$0.isOpen }
                return uids.allSatisfy { uid in ended.count { $0.client == uid } >= 2 }
            }
            for uid in uids {
                let ofAccount = ended.filter { $0.client == uid }
                #expect(ofAccount.prefix(2).map(\.level) == ["monthly", "daily"], "\(ofAccount)")
                #expect(ofAccount.allSatisfy { $0.isGood }, "\(ofAccount)")
                let snapshot = harness.home(uid).appending(path: ".snapshots/daily.0")
                #expect(FileManager.default.fileExists(atPath: snapshot.path))
            }
            await harness.stop(daemon)
        }
    }

    @Test("a backup that waits begins with the settings of a reload")
    func reloadOfWaitingBackup() async throws {
        try await DaemonHarness.run { harness in
            let uid = "3724300"
            let (old, new) = (harness.path("rsnapshot.d"), harness.path("moved.d"))
            try harness.settings(backup: "HOME_SCRIPT =\n[Hooks Backup]\nWINDOW = \(DaemonHarness.closedWindow)")
            let daemon = try await harness.running()
            try await harness.add(uid)
            try await harness.reached("added", uid)
            #expect(try await harness.command("backup", "daily", "--no-wait").status == 0)
            try FileManager.default.moveItem(atPath: old, toPath: new)
            try harness.settings(backup: "HOME_SCRIPT =")
            let settings = try String(contentsOf: harness.settingsFile, encoding: .utf8)
            try settings.replacing("= \(old)", with: "= \(new)")
                .write(to: harness.settingsFile, atomically: true, encoding: .utf8)
            #expect(try await harness.command("reload").status == 0)
            let job = try #require(try await harness.newest("Backup"))
            let ended = try await harness.ended(job.id)
            #expect(ended.isGood, "\(ended)")
            await harness.stop(daemon)
        }
    }

    @Test("of the waiting levels of one account the larger one begins first, regardless of the order of submission")
    func levelOrder() async throws {
        try await DaemonHarness.run { harness in
            _ = try harness.script(
                "hooks/pre_script.sh",
                """
                echo $1 >> \(harness.path("order"))
                while [ ! -e \(harness.path("go")) ] && [ -e "$0" ]; do sleep 0.05; done
                """)
            try harness.settings(
                backup: """
                    HOME_SCRIPT =
                    [Hooks Backup]
                    ENABLED = yes
                    DIRECTORY = \(harness.path("hooks"))
                    [Backup Jobs]
                    SLOTS = 1
                    """)
            let daemon = try await harness.running()
            for uid in ["3724300", "3724301"] {
                try await harness.add(uid)
                try await harness.reached("added", uid)
            }
            func ask(_ level: String, _ uid: String) async throws -> UInt64 {
                let asked = try await harness.command("backup", level, "--account", uid, "--no-wait")
                return try #require(
                    asked.output.split(separator: "\n").compactMap { UInt64($0) }.first, "\(asked.output)")
            }
            func order() -> [UInt64] {
                let text = (try? String(contentsOfFile: harness.path("order"), encoding: .utf8)) ?? ""
                return text.split(separator: "\n").compactMap { UInt64($0) }
            }
            let holder = try await ask("daily", "3724301")
            try await eventually("the one slot is taken") { order() == [holder] }
            let daily = try await ask("daily", "3724300")
            let monthly = try await ask("monthly", "3724300")
            let weekly = try await ask("weekly", "3724300")
            try harness.touch("go")
            for id in [daily, monthly, weekly] { try await harness.ended(id) }
            #expect(order() == [holder, monthly, weekly, daily])
            await harness.stop(daemon)
        }
    }

    @Test(
        "an account that is provisioned is not backed up meanwhile; a request interrupts its running backup, which is repeated afterwards"
    )
    func oneJobEach() async throws {
        try await DaemonHarness.run { harness in
            let home = try harness.waiting("home.sh", for: "go")
            _ = try harness.script(
                "hooks/pre_script.sh",
                "touch \(harness.path("pre")); while [ ! -e \(harness.path("goon")) ] && [ -e \"$0\" ]; do sleep 0.05; done"
            )
            let plain = "[Hooks Backup]\nENABLED = yes\nDIRECTORY = \(harness.path("hooks"))"
            try harness.settings(backup: "HOME_SCRIPT =\n\(plain)")
            var daemon = try await harness.running()
            try await harness.add("3724300")
            try await harness.reached("added", "3724300")
            await harness.stop(daemon)

            try harness.settings(backup: "HOME_SCRIPT = \(home)\n\(plain)")
            daemon = try await harness.running()
            try await harness.request("3724300", "modify", ["sstBackupIntervalDaily": "3"])
            try await eventually("it is provisioned") { harness.numbers("home.sh").count == 1 }
            let backup = try RunningProgram(
                DaemonHarness.program,
                ["backup", "daily", "--account", "3724300", "-c", harness.settingsFile.path])
            try await eventually("the backup waits for the account") {
                try await harness.newest("Backup")?.meaning.contains("client resource") ?? false
            }
            #expect(!FileManager.default.fileExists(atPath: harness.path("pre")))
            try harness.touch("go")
            try await eventually("the backup begins") { FileManager.default.fileExists(atPath: harness.path("pre")) }
            #expect(try await harness.text("3724300", "sstProvisioningMode") == "modified")

            // The pre script of the backup waits still; the request does not wait for it.
            try await harness.request("3724300", "modify", ["sstBackupIntervalDaily": "4"])
            try await eventually("it is provisioned again") { harness.numbers("home.sh").count == 2 }
            try await harness.reached("modified", "3724300")
            try harness.touch("goon")
            #expect(await backup.end() == 0, "\(backup.output)")
            let job = try #require(try await harness.newest("Backup"))
            #expect(try await harness.details(job.id).attempts.map(\.fate) == [.cutOff, .ended])
            await harness.stop(daemon)
        }
    }

    @Test("backup LEVEL --account of one that does not qualify submits no job and prints the hint")
    func unqualified() async throws {
        try await DaemonHarness.run { harness in
            try harness.settings()
            let daemon = try await harness.running()
            try await harness.add("3724300", ["sstIsActive": "FALSE"])
            try await harness.add("3724301", ["sstBackupIntervalWeekly": "0"])
            try await harness.add("3724302", ["sstProvisioningMode": "modifed"])
            for uid in ["3724300", "3724301"] { try await harness.reached("added", uid) }
            for (level, uid, hint) in [
                ("daily", "3724300", "sstIsActive"), ("weekly", "3724301", "sstBackupIntervalWeekly"),
                ("daily", "3724302", "modifed"), ("daily", "3724399", "accounts list"),
                ("daily", "../x", "seven digits"),
                ("fortnightly", "3724300", "daily"),
            ] {
                let refused = try await harness.command("backup", level, "--account", uid)
                #expect(refused.status != 0 && refused.output.contains(hint), "\(level) \(uid): \(refused.output)")
            }
            #expect(try await harness.jobs("--type", "Backup").isEmpty)
            await harness.stop(daemon)
        }
    }
}
