import LDAP
import Glibc
import JobCore
import Provisioning
import Synchronization
import SystemPackage
import TestSupport
import Testing

@testable import BackupService

/// The sizes of snapshots, compared with du.
@Suite struct SnapshotMeasureTests {
    /// With an empty record.
    private func measure(_ directory: FilePath) throws -> (total: UInt64, increment: UInt64) {
        var record = SizeRecord()
        let total = try record.verify(in: HeldDirectory(configured: directory), isCancelled: { false }).total
        return (total, record.increment)
    }

    @Test(
        "files of any kind are counted as du counts them, names of one file once, and the newest for what it alone has")
    func likeDu() async throws {
        let directory = try TestDirectory()
        let root = directory.homes
        for snapshot in ["daily.0", "daily.1", "weekly.0"] {
            try directory.makeDirectory(FilePath("homes/\(snapshot)/sub"))
        }
        try directory.write(String(repeating: "a", count: 123_456), to: "homes/daily.1/shared")
        #expect(link(root.pushing("daily.1/shared").string, root.pushing("daily.0/shared").string) == 0)
        #expect(link(root.pushing("daily.1/shared").string, root.pushing("daily.0/sub/again").string) == 0)
        try directory.write(String(repeating: "b", count: 65_000), to: "homes/daily.0/twice")
        #expect(link(root.pushing("daily.0/twice").string, root.pushing("daily.0/sub/twice").string) == 0)
        try directory.write(String(repeating: "c", count: 200_000), to: "homes/weekly.0/sub/old")
        let sparse = try directory.write("", to: "homes/daily.0/sparse")
        #expect(truncate(sparse.string, 1 << 40) == 0)
        try directory.link("homes/daily.0/link", to: "/usr")
        try directory.write("next to the snapshots", to: "homes/note")
        let sizes = try measure(root)
        #expect(try await du([root]) == [sizes.total])
        let each = try await du([root.appending("daily.1"), root.appending("weekly.0"), root.appending("daily.0")])
        #expect(each.last == sizes.increment)
    }

    @Test("a mount inside a snapshot is not counted as the account's", .enabled(if: isRoot, "needs root to mount"))
    func mounts() async throws {
        let directory = try TestDirectory()
        let inside = try directory.makeDirectory("homes/daily.0/mount")
        try directory.makeDirectory("homes/whole")
        try directory.write("text", to: "homes/daily.0/file")
        let before = try measure(directory.homes)
        let other = try TestMount(at: inside)
        let bound = try TestMount("/usr", at: directory.homes.appending("whole"))
        try directory.write(String(repeating: "x", count: 100_000), to: "homes/daily.0/mount/big")
        let after = try measure(directory.homes)
        // The directory under a mount cannot be seen.
        #expect(after.total <= before.total)
        withExtendedLifetime((other, bound)) {}
    }

    @Test(
        "subvolumes next to the snapshots, which all have the same inode number, are not counted as snapshots",
        .enabled(if: canMountBtrfs, "needs root, loop devices and btrfs-progs"))
    func subvolumes() async throws {
        let directory = try TestDirectory()
        try await mountBtrfs(in: directory)
        try directory.makeDirectory("homes/daily.0")
        let before = try measure(directory.homes)
        for name in ["one", "two"] {
            let path = directory.homes.appending(name).string
            try await runTool("/usr/bin/btrfs", "subvolume", "create", path)
            try directory.write(String(repeating: "x", count: 100_000), to: FilePath("homes/\(name)/file"))
        }
        #expect(try measure(directory.homes).total - before.total < 100_000)
    }

    @Test("a file is counted once, for all device and inode numbers")
    func inodes() {
        var generator = SeededGenerator(seed: 7)
        var inodes = InodeSet()
        var known: Set<[UInt64]> = []
        for _ in 0..<20_000 {
            let device = UInt64.random(in: 0...2, using: &generator)
            let number =
                Bool.random(using: &generator) ? UInt64.random(in: 0...500, using: &generator) : generator.next()
            #expect(inodes.insert(device: device, inode: number) == known.insert([device, number]).inserted)
        }
    }
}

/// The changes of the entry.
@Suite struct BackupRecordTests {
    private let time = Timestamp(secondsSince1970: 1_795_262_400)

    private func entry(_ values: [AttributeValue]) -> Entry {
        var entry = Entry(dn: .root)
        entry["sstBackupLastSuccessfulBackup"] = values
        return entry
    }

    @Test(
        "this host's time replaces its older ones and 0; those of other hosts stay",
        arguments: [
            ([], [], true), (["0"], ["0"], true), (["backup1:20200101T000000Z"], ["backup1:20200101T000000Z"], true),
            (["BACKUP1:20200101T000000Z", "0"], ["BACKUP1:20200101T000000Z", "0"], true),
            (["backup2:20200101T000000Z", "backup11:20200101T000000Z"], [], true),
            (["Backup1:20261121T120000Z"], [], false),
            (["backup1:20261121T120000Z", "backup1:20200101T000000Z"], ["backup1:20200101T000000Z"], false),
        ] as [([String], [String], Bool)])
    func times(values: [String], deleted: [String], isAdded: Bool) {
        let record = BackupRecord(lastSuccess: (host: "backup1", time: time))
        let modifications = record.modifications(of: entry(values.map { AttributeValue($0) }))
        let deletions = modifications.filter { $0.action == .delete }.flatMap(\.values).compactMap(\.text)
        #expect(deletions == deleted)
        let added = modifications.filter { $0.action == .add }.flatMap(\.values).compactMap(\.text)
        #expect(added == (isAdded ? ["backup1:20261121T120000Z"] : []))
        #expect(modifications.allSatisfy { $0.action != .replace })
    }

    @Test("sizes are replaced, and unchanged values are not written again")
    func sizes() {
        var there = Entry(dn: .root)
        there["sstBackupSize"] = ["5"]
        #expect(BackupRecord(size: 5).modifications(of: there) == [])
        #expect(
            BackupRecord(size: 5, increment: 0).modifications(of: there) == [.replace("sstIncrementSize", "0")])
        #expect(BackupRecord().modifications(of: there) == [])
    }
}
