import BackupService
import LDAP
import Foundation
import Glibc
import JobCore
@testable import Provisioning
import TestSupport
import Testing

@testable import prov_backup_rsnapshot

/// The line for monitoring.
@Suite struct HealthTests {
    private static func health(_ change: (inout DaemonHealth) -> Void = { _ in }) -> DaemonHealth {
        let status = DaemonStatus(
            pid: 1, version: "", since: Timestamp(secondsSince1970: 0), isDirectoryAvailable: true, running: [],
            retrying: [], shortages: [], jobs: [], openJobs: 3, waiting: 0, behind: [], behindCount: 0, succeeded: 0,
            failed: 0, backups: BackupHealth.Summary())
        var health = DaemonHealth(status: status, failedAccounts: 0)
        change(&health)
        return health
    }

    private static func problem(_ account: String, isOverdue: Bool = false) -> BackupHealth.Problem {
        let time = Timestamp(secondsSince1970: 1_800_000_000)
        return BackupHealth.Problem(
            account: account, level: "daily",
            failure: isOverdue ? nil : BackupHealth.Failure(job: 1, time: time, result: "failed", message: "a|b"),
            overdue: isOverdue ? time : nil)
    }

    @Test("0, 1, 2: in order, accounts with problems, LDAP or the daemon down; each as one line with figures")
    func states() throws {
        let uuid = try #require(EntryUUID(text: "6d4f2a9e-1c3b-4c8d-9a57-0b1c2d3e4f50"))
        let dn = try DN(parsing: "uid=7")
        let rows: [(DaemonHealth?, HealthReport.State, [String])] = [
            (Self.health(), .ok, ["BACKUP OK - ", " | failed_accounts=0;0;;0 ", "open_jobs=3;;;0"]),
            (nil, .critical, ["BACKUP CRITICAL - ", "start it"]),
            (Self.health { $0.status.isDirectoryAvailable = false }, .critical, ["LDAP", "failed_accounts=0"]),
            (
                Self.health {
                    $0.status.isDirectoryAvailable = false
                    $0.status.ldapError = "connect at ldaps://a: connectError (-11)"
                }, .critical, ["the LDAP server cannot be used: connect at ldaps://a: connectError (-11)"]
            ),
            (
                Self.health {
                    $0.status.delayedJobs = [
                        JobDelay(
                            work: "backup daily", since: Timestamp(secondsSince1970: 0), reason: "no room; df /var")
                    ]
                }, .critical, ["backup daily is delayed: no room; df /var"]
            ),
            (
                Self.health {
                    $0.othersClaims = [UnfinishedAccounts.OthersClaim(uid: "7", holder: "hosta 17")]
                }, .warning, ["1 account waits for other daemons (7 for hosta 17)", "explain 7"]
            ),
            (
                Self.health {
                    $0.status.lockWaits = [
                        LockWait(uuid: uuid, dn: dn, since: Timestamp(secondsSince1970: 0), reason: "locked")
                    ]
                }, .warning,
                ["1 account waits for other daemons (uid=7 for a lock)", "run: prov-backup-rsnapshot status"]
            ),
            (
                Self.health {
                    $0.status.isDirectoryAvailable = false
                    $0.status.refusedCredentials = "the LDAP server refuses the daemon's credentials"
                    $0.failedAccounts = nil
                }, .critical, ["CRITICAL - the LDAP server refuses the daemon's credentials | failed_accounts=U"]
            ),
            (
                Self.health {
                    $0.searchError = "the search timed out"
                    $0.failedAccounts = nil
                }, .critical, ["the search timed out", "failed_accounts=U"]
            ),
            (
                Self.health {
                    $0.status.shortages = [
                        ProvisioningDelay(
                            accounts: 2, since: Timestamp(secondsSince1970: 0), reason: "no room; df /srv")
                    ]
                }, .critical, ["provisioning of 2 accounts is delayed: no room; df /srv"]
            ),
            (
                Self.health { $0.status.historyError = "/srv/history.sqlite: there is no room" }, .warning,
                ["the history of jobs is not recorded: /srv/history.sqlite: there is no room"]
            ),
            (
                Self.health { $0.status.scriptingError = "DirStartUp.py: line 3" }, .warning,
                ["no event handlers are called: DirStartUp.py: line 3"]
            ),
            (
                Self.health { $0.status.behindCount = 2 }, .warning,
                ["outdated entries of 2 accounts", "run: prov-backup-rsnapshot status"]
            ),
            (
                Self.health {
                    $0.failedAccounts = 4
                    $0.failedUIDs = ["1", "2", "3", "4"]
                }, .warning, ["provisioning failed for 4 accounts (1, 2, 3, ...)", "explain 1", "failed_accounts=4"]
            ),
            (
                Self.health {
                    $0.invalidAccounts = 2
                    $0.invalidUIDs = ["1", "2"]
                }, .warning, ["mode or state is invalid for 2 accounts (1, 2)", "explain 1", "invalid_accounts=2;0;;0"]
            ),
            (
                Self.health { $0.status.backups = BackupHealth.Summary(failed: 1, problems: [Self.problem("7")]) },
                .warning,
                ["backups failed for 1 account (7 daily)", "explain 7", "failed_backups=1;0;;0"]
            ),
            (
                Self.health {
                    $0.status.backups = BackupHealth.Summary(
                        overdue: 1, problems: [Self.problem("8|\n", isOverdue: true)])
                }, .warning, ["backups overdue for 1 account (8/\\n daily)", "overdue_backups=1"]
            ),
            (
                Self.health {
                    $0.status.backups = BackupHealth.Summary(failed: 1, problems: [Self.problem("all accounts")])
                }, .warning, ["backups failed for 1 account (all accounts daily)", "jobs show 1"]
            ),
        ]
        for (health, state, parts) in rows {
            let report = HealthReport(health, noDaemon: "no daemon runs here; start it")
            #expect(report.state == state)
            for part in parts { #expect(report.line.contains(part), "\(part): \(report.line)") }
            #expect(report.line.count(where: { $0 == "|" }) <= 1 && !report.line.contains("\n"))
        }
    }

    @Test(
        "a request that another daemon has claimed is old after a quarter of an hour by its entryCSN; of an unknown age it is not"
    )
    func oldClaims() {
        func claim(_ csn: String) -> UnfinishedAccounts.OthersClaim {
            UnfinishedAccounts.OthersClaim(uid: "7", holder: "hosta 17", since: Timestamp(ofCSN: csn))
        }
        let claimed = claim("20261128120000.123456Z#000000#001#000000")
        #expect(claimed.since?.text == "20261128T120000Z")
        for (seconds, isOld) in [(0, false), (900, false), (901, true)] {
            #expect(claimed.isOld(at: Timestamp(secondsSince1970: 1_795_867_200) + .seconds(seconds)) == isOld)
        }
        #expect(!claim("none").isOld(at: .distantFuture))
    }

    private static func job(_ id: UInt64, _ status: JobStatus, began: Int64?, type: JobType = .backup)
        -> Job
    {
        var job = Job(
            id: JobID(id), type: type, name: "daily", level: "daily", subject: JobSubject("\(id)"),
            client: "\(id)",
            created: Timestamp(secondsSince1970: 0))
        (job.status, job.started) = (status, began.map { Timestamp(secondsSince1970: $0) })
        return job
    }

    @Test("the account that holds a backup slot longest is the running backup whose attempt began first")
    func longest() {
        let jobs = [
            Self.job(1, .waitingForStartTime, began: 1), Self.job(2, .running, began: 30),
            Self.job(3, .running, began: 20), Self.job(4, .running, began: 10, type: .admin),
            Self.job(5, .waitingForMaximumJobs, began: nil),
        ]
        #expect(Overview.longestBackup(jobs)?.id == JobID(3))
        #expect(Overview.longestBackup([]) == nil)
    }

    @Test(
        "status calls a job between two attempts waiting, for each reason to wait, and one that waits for its volume running"
    )
    func betweenAttempts() {
        for status in [
            JobStatus.waitingForStartTime, .waitingForClientResource, .waitingForMaximumJobs, .waitingForPriority,
        ] { #expect(Overview.row(Self.job(1, status, began: 1)).0 == "waiting", "\(status)") }
        for status in [JobStatus.running, .waitingForNewMedia, .canceled] {
            #expect(Overview.row(Self.job(1, status, began: 1)).0 == "running", "\(status)")
        }
        #expect(Overview.row(Self.job(1, .created, began: nil)).0 == "waiting")
    }

    @Test(
        "accounts whose mode or state is invalid are listed with the failed ones, and counted by status and health, until a request is written; none is written again as a failed one"
    )
    func invalid() async throws {
        try await DaemonHarness.run { harness in
            try harness.settings()
            try await harness.add("3724300", ["sstProvisioningMode": "modifed"])
            try await harness.add("3724301", ["sstProvisioningState": "00"])
            func check() async throws {
                let listed = try await harness.json("accounts", "list", "--failed")
                #expect(listed.map { $0["uid"].string } == ["3724300", "3724301"])
                #expect(listed.map { $0["mode"].string } == ["modifed", "add"])
                #expect(listed.allSatisfy { $0["phase"] == .string("idle") })
                #expect(try await harness.json("accounts", "list") == listed)
                let status = try #require(try await harness.json("status").first)
                #expect(status["directory"]["invalid"] == .number(2) && status["directory"]["failed"] == .number(0))
                #expect(status["invalidUIDs"] == .array([.string("3724300"), .string("3724301")]))
                let text = try await harness.command("status").output
                #expect(text.contains("accounts explain 3724300"), "\(text)")
            }
            try await check()
            let daemon = try await harness.serving()
            try await check()
            let bad = try await harness.command("health")
            #expect(bad.status == 1 && bad.output.contains("(3724300, 3724301)"), "\(bad.output)")
            #expect(bad.output.contains("accounts explain 3724300 |"), "\(bad.output)")
            #expect(bad.output.contains("failed_accounts=0;") && bad.output.contains("invalid_accounts=2;"))
            let retried = try await harness.command("accounts", "retry", "--all")
            #expect(retried.status == 0, "\(retried.output)")
            for uid in ["3724300", "3724301"] {
                #expect(try await harness.text(uid, "sstProvisioningReturnValue") == nil)
                try await harness.request(uid, "add")
                try await harness.reached("added", uid)
            }
            let good = try await harness.command("health")
            #expect(good.status == 0 && good.output.contains("invalid_accounts=0;"), "\(good.output)")
            await harness.stop(daemon)
        }
    }

    @Test(
        "the real daemon: commands that ask it need no password and no other setting; down is critical, a failed backup and a failed account are warnings that a success ends, and a restart forgets none"
    )
    func real() async throws {
        try await DaemonHarness.run { harness in
            try harness.settings()
            let down = try await harness.command("health")
            #expect(down.status == 2 && down.output.hasPrefix("BACKUP CRITICAL - "), "\(down.output)")
            let unreadable = try await RunningProgram(DaemonHarness.program, ["health", "-c", harness.path("none")])
                .result
            #expect(unreadable.status == 3 && unreadable.output.hasPrefix("BACKUP UNKNOWN - "), "\(unreadable)")

            var daemon = try await harness.running()
            for uid in ["3724300", "3724301"] {
                try await harness.add(uid)
                try await harness.reached("added", uid)
            }
            #expect(try await harness.command("health").status == 0)

            // A configuration that names another home is refused, and so is a deletion of an active account.
            let file = harness.configuration("3724300")
            let good = try String(contentsOf: file, encoding: .utf8)
            try good.replacing("3724300", with: "3724309").write(to: file, atomically: true, encoding: .utf8)
            #expect(try await harness.command("backup", "daily", "--account", "3724300").status == 1)
            try await harness.request("3724301", "delete")
            try await eventually("the deletion is refused") {
                try await harness.text("3724301", "sstProvisioningReturnValue") ?? "0" != "0"
            }
            func check(_ daemon: RunningProgram) async throws {
                let bad = try await harness.command("health")
                #expect(bad.status == 1, "\(bad.output)")
                for part in [
                    "BACKUP WARNING - ", "backups failed for 1 account (3724300 daily)",
                    "provisioning failed for 1 account (3724301)",
                    "failed_backups=1", "failed_accounts=1", "overdue_backups=0",
                ] { #expect(bad.output.contains(part), "\(part): \(bad.output)") }
                let status = try await harness.command("status")
                #expect(
                    status.status == 0 && status.output.contains("failed for 1 account, overdue for 0"),
                    "\(status.output)")
            }
            try await check(daemon)
            // Without the password, as with systemd's credentials, and with nonsense elsewhere.
            let settings = try String(contentsOf: harness.settingsFile, encoding: .utf8)
            try settings.replacing("ADMIN_PASSWORD_FILE", with: "NOT_KNOWN")
                .write(to: harness.settingsFile, atomically: true, encoding: .utf8)
            #expect(try await harness.command("health").status == 1)
            let job = try #require(try await harness.newest("Backup")).id
            for arguments in [
                ["status"], ["status", "--json"], ["jobs", "list"], ["jobs", "show", "\(job)"], ["scripts", "list"],
                ["scripts", "restart"],
            ] {
                let asked = try await RunningProgram(
                    DaemonHarness.program, arguments + ["-c", harness.settingsFile.path]
                ).result
                #expect(asked.status == 0 && !asked.output.contains("ADMIN_PASSWORD"), "\(arguments): \(asked)")
            }
            let status = try await harness.command("status").output
            #expect(status.contains("0 requested, 0 claimed, 1 failed") && status.contains("3724301"), "\(status)")
            let backup = try await harness.command("backup", "daily", "--account", "3724300")
            #expect(backup.status == 1 && backup.output.contains("3724300"), "\(backup.output)")
            try settings.write(to: harness.settingsFile, atomically: true, encoding: .utf8)
            chmod(harness.settingsFile.path, 0o600)

            daemon.kill(SIGKILL)
            _ = await daemon.end()
            daemon = try await harness.running()
            try await check(daemon)

            try good.write(to: file, atomically: true, encoding: .utf8)
            #expect(try await harness.command("backup", "daily", "--account", "3724300").status == 0)
            try await harness.request("3724301", "modify")
            try await harness.reached("modified", "3724301")
            let fixed = try await harness.command("health")
            #expect(fixed.status == 0, "\(fixed.output)")
            await harness.stop(daemon)
        }
    }
}

extension RunningProgram {
    /// Waits for the end.
    fileprivate var result: (status: Int32, output: String) {
        get async { (await end(), output) }
    }
}
