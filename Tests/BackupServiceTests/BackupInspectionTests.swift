import LDAP
import Foundation
import Glibc
import JobCore
import Provisioning
import SystemPackage
import TestSupport
import Testing

@testable import BackupService

/// The state of an account's backups by its entry, configuration and disk.
@Suite struct BackupInspectionTests {
    private let directory: TestDirectory
    private let configuration: BackupConfiguration
    private static let uid = "3723707"
    private static let host = "backup1"
    private static let time = Timestamp(secondsSince1970: 1_800_000_000)

    init() throws {
        directory = try TestDirectory()
        configuration = try directory.configuration()
    }

    private func inspect(_ change: (inout Entry) -> Void = { _ in }) throws -> BackupInspection {
        var entry = directory.entry(uid: Self.uid)
        let values: [(AttributeName, AttributeValue)] = [
            ("sstProvisioningMode", "added"), ("sstProvisioningState", "20261121T120000Z"),
            ("sstProvisioningExecutionDate", "0"), ("sstIsActive", "TRUE"),
            ("entryUUID", "6d9b3c1e-5b0a-4a39-9a39-1d2f0f0a0b0c"),
            ("entryCSN", "20261121120000.000000Z#000000#000#000000"),
        ]
        for (name, value) in values { entry[name] = [value] }
        change(&entry)
        let account = try #require(Account(entry, names: AttributeNames()))
        return BackupJobs.inspection(of: account, configuration: configuration, host: Self.host)
    }

    private func provision() async throws {
        try await BackupRsnapshotService(configuration: configuration).carryOut(.add, directory.entry(uid: Self.uid))
    }

    private var snapshots: FilePath { directory.homes.appending(Self.uid).appending(".snapshots") }

    private func write(_ state: SnapshotState) throws {
        try Data(state.encoded()).write(to: URL(filePath: snapshots.appending(".state").string))
    }

    @Test("an invalid interval counts as 0", arguments: ["18446744073709551615", "-1", "x"])
    func interval(text: String) throws {
        let found = try inspect { $0["sstBackupIntervalDaily"] = [AttributeValue(text)] }
        #expect(!found.levels.contains { $0.level == .daily } && !found.obstacles.isEmpty)
    }

    @Test("snapshots on the disk, successes and the last attempt as they are recorded, and sizes from the entry")
    func good() async throws {
        try await provision()
        for name in ["daily.0", "daily.1", "weekly.0", "hourly.3", "daily.x", "fortnightly.0", ".sync"] {
            #expect(mkdir(snapshots.appending(name).string, 0o755) == 0)
        }
        _ = try directory.write("", to: FilePath("homes/\(Self.uid)/.snapshots/daily.2"))
        var state = SnapshotState()
        let job = Job(
            id: JobID(7), type: .backup, name: "daily", level: "daily", subject: JobSubject("s"), client: Self.uid,
            created: Self.time)
        state.complete(.init(job), level: "daily", .init(isWhole: true), at: Self.time)
        state.lastAttempt = .init(job: 8, level: "weekly", began: 1, ended: 2, result: "failed", message: "why")
        try write(state)
        let found = try inspect { entry in
            entry["sstBackupSize"] = ["1000"]
            entry["sstIncrementSize"] = ["10"]
            entry["sstBackupLastSuccessfulBackup"] = [
                "0", "other:20271121T120000Z", "BACKUP1:20261121T120000Z", "backup1:20261122T120000Z", "backup1:soon",
            ]
        }
        #expect(found.levels.map(\.level) == [.hourly, .daily, .weekly, .monthly])
        #expect(found.levels.map(\.retain) == [0, 7, 4, 3])
        #expect(found.levels.map { $0.snapshots.map(\.index) } == [[3], [0, 1], [0], []])
        #expect(found.levels.map(\.lastSuccess) == [nil, Self.time, nil, nil])
        #expect(found.lastAttempt?.job == 8 && found.lastAttempt?.message == "why" && found.isStateKnown)
        #expect(found.size == 1_000 && found.increment == 10)
        #expect(found.lastCopy == Timestamp(text: "20261122T120000Z"))
        #expect(found.obstacles.isEmpty && found.unknown.isEmpty, "\(found.obstacles) \(found.unknown)")
    }

    @Test("obstacles are reported: the entry, a missing home, a missing or foreign configuration, a lock")
    func obstacles() async throws {
        #expect(try inspect().obstacles.contains { $0.contains("there is no home at") })
        try await provision()
        #expect(try inspect { $0["sstIsActive"] = ["FALSE"] }.obstacles.contains { $0.contains("sstIsActive") })
        #expect(try inspect { $0["sstProvisioningMode"] = ["deleted"] }.obstacles.contains { $0.contains("deleted") })

        let file = directory.configurations.appending("\(Self.uid).conf")
        let good = try text(file)
        // A process whose command line has the name; other locks are stale.
        let number = directory.path.appending("number")
        let rsnapshot = try directory.write(
            "#!/bin/sh\necho $$ > \(number).new; mv \(number).new \(number)\nsleep 1000\n",
            to: "scripts/rsnapshot", mode: 0o755)
        let lock = try #require(ConfiguredSnapshots(parsing: good).lockFile)
        let holder = Task {
            try await ScriptRunner().run(
                ScriptInvocation(
                    executable: rsnapshot, environment: ["PATH": "/usr/bin:/bin"], timeLimit: .seconds(600),
                    grace: .seconds(1)))
        }
        try await eventually("it runs") { FileManager.default.fileExists(atPath: number.string) }
        let written = try text(number)
        try Data(written.utf8).write(to: URL(filePath: lock.string))
        let isHeld = "process \(written.trimmingCharacters(in: .whitespacesAndNewlines)) "
        try await eventually("it is called so") { try inspect().obstacles.contains { $0.contains(isHeld) } }
        holder.cancel()
        _ = try? await holder.value
        #expect(try inspect().obstacles.isEmpty)

        try Data(good.replacing("/\(Self.uid)/", with: "/3723709/").utf8).write(to: URL(filePath: file.string))
        #expect(try inspect().obstacles.contains { $0.contains("snapshot_root") })
        try FileManager.default.removeItem(atPath: file.string)
        #expect(try inspect().obstacles.contains { $0.contains(file.string) })
    }

    @Test("a state file of a later version prevents a backup, and the message has the path of the file on the disk")
    func laterVersion() async throws {
        try await provision()
        try directory.makeDirectory("homes/.store", mode: 0o700)
        try directory.makeDirectory(FilePath("homes/.store/\(Self.uid)"))
        let file = try directory.write(#"{"version": 99}"#, to: FilePath("homes/.store/\(Self.uid)/.state"))
        let found = try inspect()
        #expect(found.obstacles.count == 1 && found.obstacles.first?.contains("rm \(file)") == true, "\(found)")
        #expect(found.unknown == [] && !found.isStateKnown)
    }

    @Test("a damaged state file is reported and does not hide the rest")
    func damaged() async throws {
        try await provision()
        #expect(mkdir(snapshots.appending("daily.0").string, 0o755) == 0)
        _ = try directory.write("{", to: FilePath("homes/\(Self.uid)/.snapshots/.state"))
        let found = try inspect()
        #expect(found.levels.first?.snapshots.count == 1 && !found.isStateKnown)
        #expect(found.unknown.count == 1 && found.obstacles.isEmpty)
    }
}
