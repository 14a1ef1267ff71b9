import LDAP
import Glibc
import JobCore
import Provisioning
import Synchronization
import SystemPackage
import Testing

@testable import BackupService

/// Which accounts get a backup, and why others get none.
@Suite struct BackupSelectionTests {
    private let uid = "3723707"

    @Test(
        "all active, added accounts that keep the level get a backup; a missing configuration is reported, other accounts are skipped"
    )
    func all() async throws {
        try await BackupHarness.run(hosts: ["backup1"]) { harness in
            for (number, mode) in ["added", "modified", "modify", "modifying", "add", "adding", "delete", "deleted"]
                .enumerated()
            {
                let uid = "400000\(number)"
                try await harness.add(uid, mode: AttributeValue(mode), host: "backup1")
                try harness.directory.write("", to: FilePath("rsnapshot.d/\(uid).conf"))
            }
            for (uid, change) in Self.unfit {
                try await harness.add(uid, host: "backup1", change)
                try harness.directory.write("", to: FilePath("rsnapshot.d/\(uid).conf"))
            }
            try await harness.add("4000030", host: "backup1")

            var selected: [String] = []
            try await harness.jobs().all(of: .daily) { request in
                let request = try #require(request, "none has a snapshot")
                selected.append(request.client)
                #expect(request.type == .backup && request.name == "daily" && request.level == "daily")
                let entry = try #require(try await harness.entry(request.client))
                if request.client == "4000030" {
                    #expect(request.subject == JobSubject("backup of \(entry.dn)"))
                    let outcome = try await harness.attempt(request)
                    #expect(outcome.result == .wrongConfiguration && outcome.failureClass == .configuration)
                    #expect(outcome.message.contains("rsnapshot.d/4000030.conf does not exist"), "\(outcome)")
                } else {
                    #expect(request.subject == JobSubject(try #require(entry.text("entryUUID"))))
                }
            }
            #expect(selected.sorted() == ["4000000", "4000001", "4000002", "4000003", "4000030"])
        }
    }

    private static let unfit: [(String, @Sendable (inout Entry) -> Void)] = [
        ("4000020", { $0["sstIsActive"] = ["FALSE"] }), ("4000021", { $0["sstBackupIntervalDaily"] = ["0"] }),
        ("4000022", { $0["host"] = ["backup2"] }),
    ]

    @Test(
        "named accounts that get no backup are refused together, each with its reason; then none gets one"
    )
    func named() async throws {
        try await BackupHarness.run(hosts: ["backup1"]) { harness in
            for (uid, change) in Self.unfit { try await harness.add(uid, host: "backup1", change) }
            try await harness.add("4000023", mode: "deleting", host: "backup1")
            try await harness.add("4000030", host: "backup1")
            try await harness.add("4000031", host: "backup1")
            try harness.directory.write("", to: FilePath("rsnapshot.d/4000031.conf"))
            try await harness.add("4000032", host: "backup1") { $0["uidNumber"] = ["4000033"] }
            let jobs = harness.jobs()
            let good = try await jobs.requests(of: .daily, accounts: ["4000031", "4000031"]).jobs
            #expect(good.map(\.client) == ["4000031"])
            let expected = [
                ("4000020", "it is not active; set its sstIsActive to TRUE"),
                ("4000021", "it keeps no daily snapshots: sstBackupIntervalDaily is \"0\""),
                ("4000022", "it belongs to \"backup2\"; run the backup there"),
                ("4000023", "it is to be deleted (deleting)"), ("4000030", "4000030.conf does not exist"),
                ("4000032", ": uid is 4000032 and uidNumber is 4000033"),
                ("4999999", "LDAP has no such account"), ("*", "this is not a uid"),
                ("", "this is not a uid"),
            ]
            let (made, refusals) = try await jobs.requests(of: .daily, accounts: ["4000031"] + expected.map(\.0))
            #expect(made.isEmpty && refusals.count == expected.count)
            for (refusal, (uid, words)) in zip(refusals, expected) {
                #expect("\(refusal)".contains(words), "\(refusal)")
                #expect(refusal.account.contains(uid) || uid.isEmpty)
            }
        }
    }

    @Test(
        "a level that succeeded less than half a period ago is refused with the time and --force, and skipped for all accounts; --force makes another"
    )
    func recent() async throws {
        try await BackupHarness.run { harness in
            for uid in [uid, "3723708"] { try await harness.addProvisioned(uid) }
            let success = SystemWallClock().now + .seconds(-11 * 3_600)
            var state = SnapshotState()
            state.record(success: .daily, at: success)
            try await harness.record(state, of: uid)
            let jobs = harness.jobs()
            let (made, refusals) = try await jobs.requests(of: .daily, accounts: [uid])
            let refusal = try #require(refusals.first)
            #expect(made.isEmpty)
            #expect(refusal.account == uid && refusal.reason.contains("\(success.text)"))
            #expect(refusal.hint.contains("--force"))
            #expect(try await jobs.requests(of: .daily, accounts: [uid], isForced: true).jobs.count == 1)
            #expect(try await jobs.requests(of: .weekly, accounts: [uid]).jobs.count == 1)
            for (isForced, expected) in [(false, ["3723708"]), (true, [uid, "3723708"])] {
                var selected: [String] = []
                var recent = 0
                try await jobs.all(of: .daily, isForced: isForced) { request in
                    if let request { selected.append(request.client) } else { recent += 1 }
                }
                #expect(selected.sorted() == expected && recent == 2 - expected.count)
            }
            // Times recorded with a wrong clock delay no account.
            state.record(success: .daily, at: SystemWallClock().now + .seconds(86_400))
            try await harness.record(state, of: uid)
            #expect(try await jobs.requests(of: .daily, accounts: [uid]).jobs.count == 1)
        }
    }

    @Test("until a modify is done, an account keeps the levels that it has, and not those of the request")
    func datedModify() async throws {
        try await BackupHarness.run { harness in
            try await harness.addProvisioned(uid)
            try await harness.manager.modify(
                BackupHarness.dn(uid),
                [
                    .replace("sstBackupIntervalDaily", "0"), .replace("sstBackupIntervalHourly", "24"),
                    .replace("sstProvisioningMode", "modify"), .replace("sstProvisioningState", "0"),
                    .replace("sstProvisioningExecutionDate", "20991231"),
                ])
            let jobs = harness.jobs()
            var levels: [SnapshotLevel] = []
            try await jobs.accounts(of: [.daily, .hourly]) { account, _ in levels += BackupJobs.levels(of: account) }
            #expect(levels == [.daily, .weekly, .monthly])
            let refusals = try await jobs.requests(of: .hourly, accounts: [uid]).refusals
            #expect(refusals.first?.reason.contains("until its modify is done") == true, "\(refusals)")
            #expect(try await harness.backup(.daily, uid) == .success)
            #expect(try harness.snapshots(of: uid).count == 1)
            let found = try await harness.inspection(of: uid, snapshots: harness.configuration.snapshots)
            #expect(found.obstacles.isEmpty, "\(found.obstacles)")
        }
    }

    @Test("until a modify is done, the home is backed up that was made, not that of homeDirectory")
    func datedMove() async throws {
        try await BackupHarness.run { harness in
            try await harness.addProvisioned(uid)
            for home in ["\(harness.home(uid).removingLastComponent())/later/\(uid)", "nowhere"] {
                try await harness.manager.modify(
                    BackupHarness.dn(uid),
                    [
                        .replace("homeDirectory", AttributeValue(home)),
                        .replace("sstProvisioningMode", "modify"), .replace("sstProvisioningState", "0"),
                        .replace("sstProvisioningExecutionDate", "20991231"),
                    ])
                #expect(try await harness.backup(.daily, uid) == .success)
                let found = try await harness.inspection(of: uid, snapshots: harness.configuration.snapshots)
                #expect(found.obstacles.isEmpty, "\(found.obstacles)")
            }
            #expect(try harness.snapshots(of: uid).count == 2)
        }
    }

    @Test("an interrupted job is resumed for its entry, not for another one that has the uid now")
    func resumed() async throws {
        try await BackupHarness.run { harness in
            try await harness.addProvisioned(uid)
            let entry = try #require(try await harness.entry(uid))
            let text = try #require(entry.text("entryUUID"))
            let uuid = try #require(EntryUUID(text: text))
            let jobs = harness.jobs()
            #expect(try await jobs.request(of: .daily, resuming: uuid)?.subject == JobSubject(uuid))
            try await harness.manager.delete(BackupHarness.dn(uid))
            try await harness.add(uid)
            #expect(try await jobs.request(of: .daily, resuming: uuid) == nil)
        }
    }

    @Test("an invalid home or configuration is refused before rsnapshot runs, and nothing is made")
    func notInOrder() async throws {
        try await BackupHarness.run { harness in
            try await harness.addProvisioned(uid)
            let file = harness.configuration.configurationDirectory.appending("\(uid).conf")
            let whole = try text(file)
            let request = try await harness.request(.daily, uid)
            func outcome(_ text: String, mode: mode_t = 0o640) async throws -> JobOutcome {
                try harness.directory.write(text, to: FilePath("rsnapshot.d/\(uid).conf"), mode: mode)
                return try await harness.attempt(request)
            }
            let other = try await outcome(whole.replacing("/\(uid)/.snapshots", with: "/3723708/.snapshots"))
            #expect(other.result == .failed && other.message.contains("has the snapshot_root"), "\(other)")
            let noLevel = try await outcome(whole.replacing("retain\tdaily\t7\n", with: ""))
            #expect(noLevel.result == .failed && noLevel.message.contains("has no line retain daily"), "\(noLevel)")
            if isRoot {
                let writable = try await outcome(whole, mode: 0o666)
                #expect(writable.message.contains("can be written by others (mode 0666)"), "\(writable)")
            }
            _ = unlink(file.string)
            let missing = try await harness.attempt(request)
            #expect(missing.result == .failed && missing.message.contains("\(file) does not exist"), "\(missing)")
            #expect(missing.message.contains("sstProvisioningMode: modify"))

            try harness.directory.write(whole, to: FilePath("rsnapshot.d/\(uid).conf"), mode: 0o640)
            #expect(rename(harness.home(uid).string, harness.directory.path.appending("away").string) == 0)
            let homeless = try await harness.attempt(request)
            #expect(homeless.result == .failed && homeless.message.contains("there is no home at"), "\(homeless)")
            #expect(homeless.message.contains("mount its volume"))
            #expect(homeless.message.contains("rm \(file), and then provision the account again"), "\(homeless)")
            #expect(!exists(harness.home(uid)))
            #expect(!harness.steps.contains { $0.name == "rsnapshot" })
            for name: AttributeName in ["sstBackupSize", "sstBackupLastSuccessfulBackup"] {
                #expect(try await harness.values(name, of: uid) == [])
            }
        }
    }

    @Test("an account that stops getting backups while its job waits is not backed up, and that is no failure")
    func ceased() async throws {
        try await BackupHarness.run { harness in
            try await harness.addProvisioned(uid)
            let request = try await harness.request(.daily, uid)
            try await harness.manager.modify(BackupHarness.dn(uid), [.replace("sstIsActive", "FALSE")])
            let outcome = try await harness.attempt(request)
            #expect(outcome.result == .aborted && outcome.message.contains("is not active"), "\(outcome)")
            #expect(!harness.steps.contains { $0.name == "rsnapshot" })
        }
    }
}
