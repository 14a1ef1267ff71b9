import Foundation
import Glibc
import JobCore
import SystemPackage
import TestSupport
import Testing

@testable import BackupService

/// An account's uploads and snapshots, copied by the real rsnapshot, and rotated and recorded like by the daemon.
private final class Nights {
    let files: TestDirectory
    let root: HeldDirectory
    var record = SizeRecord()
    var generator: SeededGenerator
    private(set) var number = 0
    private var made = 0

    var incoming: FilePath { files.path.appending("incoming") }
    var snapshots: FilePath { files.homes }
    let daily: Int
    let weekly: Int

    /// - Parameters:
    ///   - daily, weekly: snapshots that are kept; a week has as many nights as daily ones are kept.
    init(seed: UInt64, daily: Int = 7, weekly: Int = 4) throws {
        (self.daily, self.weekly) = (daily, weekly)
        files = try TestDirectory()
        root = try HeldDirectory(configured: files.homes)
        generator = SeededGenerator(seed: seed)
        for directory in 0..<5 {
            try files.makeDirectory(FilePath("incoming/\(directory)/sub"))
            for _ in 0..<8 { try create(in: FilePath("\(directory)/sub")) }
        }
    }

    func random(_ range: Range<Int>) -> Int { Int.random(in: range, using: &generator) }

    // MARK: Changes by the customer

    @discardableResult
    func create(in directory: FilePath) throws -> FilePath {
        made += 1
        let file = incoming.pushing(directory).appending("file\(made)")
        try write(random(1..<9_000), to: file)
        return file
    }

    /// No zeros: rsync would make holes of them.
    func write(_ count: Int, to file: FilePath) throws {
        try Data(repeating: 0x61, count: count).write(to: URL(fileURLWithPath: file.string))
    }

    /// Names of any kind in the uploads.
    func uploads() throws -> [FilePath] {
        try FileManager.default.subpathsOfDirectory(atPath: incoming.string).sorted()
            .map { incoming.pushing(FilePath($0)) }
    }

    func change() throws {
        for _ in 0..<random(1..<12) {
            let all = try uploads()
            let files = all.filter { kind($0) == S_IFREG }
            let directories = all.filter { kind($0) == S_IFDIR }
            guard files.count > 5, let directory = directories.randomElement(using: &generator) else {
                try create(in: "0")
                continue
            }
            let file = files[random(0..<files.count)]
            made += 1
            let new = directory.appending("new\(made)")
            switch random(0..<9) {
            case 0, 1: try write(random(0..<9_000), to: file)
            case 2: link(file.string, new.string)
            case 3: unlink(file.string)
            case 4: rename(file.string, new.string)
            case 5:
                #expect(FileManager.default.createFile(atPath: new.string, contents: Data("x".utf8)))
                #expect(truncate(new.string, off_t(random(1..<100_000_000))) == 0)
            case 6: #expect(mkdir(new.string, 0o755) == 0)
            case 7: symlink("/usr", new.string)
            default:
                rename(directory.string, incoming.appending("moved\(made)").string)
            }
        }
    }

    // MARK: Work of the daemon

    func name(_ level: String, _ index: Int) -> FilePath.Component { .named("\(level).\(index)") }

    func inode(_ name: FilePath.Component) -> UInt64? {
        status(snapshots.appending(name)).map { UInt64($0.st_ino) }
    }

    func sync() async throws {
        var lines = [
            ["config_version", "1.2"], ["snapshot_root", "\(snapshots)/"], ["no_create_root", "1"],
            ["cmd_rsync", "/usr/bin/rsync"], ["cmd_rm", "/bin/rm"], ["retain", "daily", "\(daily)"],
            ["retain", "weekly", "\(weekly)"], ["sync_first", "1"], ["link_dest", "1"],
            ["rsync_short_args", "-a"],
            ["backup", "\(incoming)/", "./"],
        ]
        let partial = exists(snapshots.appending(".partial")) ? " --link-dest=\(snapshots)/.partial" : ""
        lines.append(["rsync_long_args", "--delete --numeric-ids --hard-links --sparse --modify-window=-1" + partial])
        let configuration = try files.write(
            lines.map { $0.joined(separator: "\t") + "\n" }.joined(), to: "rsnapshot.conf")
        let run = try await ScriptRunner().run(
            ScriptInvocation(
                executable: "/usr/bin/rsnapshot", arguments: ["-c", configuration.string, "sync"],
                environment: ["PATH": "/usr/bin:/bin", "LC_ALL": "C"], timeLimit: .seconds(60), grace: .seconds(1)))
        #expect(run.complaint == nil, "\(run.outputTail)")
    }

    /// An interrupted copy becomes `.partial`.
    func interruptedSync() async throws {
        try await sync()
        let files = try FileManager.default.contentsOfDirectory(atPath: snapshots.appending(".sync").string).sorted()
        for file in files.suffix(files.count / 2) {
            try FileManager.default.removeItem(atPath: snapshots.appending(".sync").appending(file).string)
        }
        #expect(rename(snapshots.appending(".sync").string, snapshots.appending(".partial").string) == 0)
    }

    func remove(_ name: FilePath.Component) throws {
        guard let inode = inode(name) else { return }
        record.beginRemoval(of: inode)
        record.endRemoval(of: inode, freed: try TreeRemoval { false }.remove(name, in: root))
    }

    private func shift(_ level: String, _ retain: Int, from source: FilePath.Component) throws {
        try remove(name(level, retain - 1))
        for index in (0..<retain - 1).reversed() {
            _ = try? root.rename(name(level, index), into: root, as: name(level, index + 1))
        }
        #expect(try root.rename(source, into: root, as: name(level, 0)))
    }

    /// Copies and rotates.
    func copy() async throws {
        number += 1
        try await sync()
        let previous = name("daily", 0)
        let counter = SnapshotCounter(root, SizeRecord(), isCancelled: { false })
        if inode(previous) != nil { try counter.count(previous, .namesOnly) }
        let tree = try counter.count(".sync")
        record.add(
            inode: try #require(inode(".sync")), bytes: tree.bytes, ownBytes: tree.ownBytes,
            names: tree.names)
        if inode(name("daily", daily - 1)) != nil, number % daily == 1 {
            try shift("weekly", weekly, from: name("daily", daily - 1))
        }
        try remove(".partial")
        try shift("daily", daily, from: ".sync")
    }

    func check() throws -> (total: UInt64, discrepancy: String?) {
        // As stored between two runs.
        record = try JSONDecoder().decode(SizeRecord.self, from: JSONEncoder().encode(record))
        return try record.verify(in: root, isCancelled: { false })
    }

    func snapshotCount() throws -> Int { try root.names().count }
}

private func kind(_ path: FilePath) -> mode_t? { status(path).map { $0.st_mode & S_IFMT } }

@Suite(.enabled(if: Program.isExecutable("/usr/bin/rsnapshot"), "rsnapshot is not installed: apt install rsnapshot"))
struct SizeRecordTests {
    @Test(
        "after random changes and interrupted copies the sizes are those of du, and nothing is measured twice",
        arguments: [1, 2, 3] as [UInt64])
    func nights(seed: UInt64) async throws {
        let nights = try Nights(seed: seed)
        for night in 1...24 {
            try nights.change()
            if nights.random(0..<4) == 0 {
                try await nights.interruptedSync()
                try nights.change()
            }
            try await nights.copy()
            let (total, discrepancy) = try nights.check()
            #expect(discrepancy == nil, "night \(night)")
            #expect(try await du([nights.snapshots]) == [total], "night \(night)")
            let newest = ["daily.1", "daily.0"].map { nights.snapshots.appending($0) }.filter(exists)
            #expect(try await du(newest).last == nights.record.increment, "night \(night)")
        }
        #expect(try nights.snapshotCount() == nights.daily + 3)
    }

    /// A change of an account's own snapshots.
    enum Tampering: CaseIterable {
        case deepDirectories, madeFile, grownFile, removedFiles, linkedOut, linkedOutOfOldest, movedOut, linkedIn
    }

    @Test(
        "after any change that the account makes to its snapshots, sizes are right at the latest when all were verified",
        arguments: Tampering.allCases)
    func tampering(with tampering: Tampering) async throws {
        let nights = try Nights(seed: 11, daily: 4, weekly: 2)
        for _ in 0..<9 {
            try nights.change()
            try await nights.copy()
            #expect(try nights.check().discrepancy == nil)
        }
        let shared = try #require(try nights.uploads().first { kind($0) == S_IFREG })
        let snapshots = nights.snapshots
        let own = try nights.create(in: "")
        try await nights.copy()
        let ownName = try #require(own.lastComponent)
        let inside = shared.string.dropFirst(nights.incoming.string.utf8.count + 1)
        switch tampering {
        case .deepDirectories: try nights.files.nest(4_000, in: "homes/daily.0")
        case .grownFile:
            let file = open(snapshots.pushing(FilePath("daily.0/\(inside)")).string, O_WRONLY)
            #expect(ftruncate(file, 0) == 0 && lseek(file, 300_000, SEEK_SET) == 300_000)
            #expect(Glibc.write(file, "x", 1) == 1 && close(file) == 0)
        case .madeFile:
            try nights.write(500_000, to: snapshots.pushing("daily.3/made"))
        case .removedFiles:
            for name in try FileManager.default.contentsOfDirectory(atPath: snapshots.appending("daily.2").string) {
                try FileManager.default.removeItem(atPath: snapshots.pushing("daily.2").appending(name).string)
            }
        case .linkedOut:
            // Its only snapshot is removed, and its bytes then belong to no snapshot.
            let file = snapshots.appending("daily.0").appending(ownName)
            #expect(link(file.string, nights.files.path.appending("kept").string) == 0)
            #expect(unlink(own.string) == 0)
        case .linkedOutOfOldest:
            for (number, file) in try FileManager.default.subpathsOfDirectory(
                atPath: snapshots.appending("weekly.0").string
            ).enumerated() {
                link(
                    snapshots.pushing(FilePath("weekly.0/\(file)")).string,
                    nights.files.path.appending("kept\(number)").string)
            }
        case .movedOut:
            let file = snapshots.appending("daily.0").appending(ownName)
            #expect(rename(file.string, nights.files.path.appending("kept").string) == 0)
        case .linkedIn:
            #expect(
                link(
                    snapshots.pushing(FilePath("daily.0/\(inside)")).string, snapshots.pushing("weekly.0/linked").string
                ) == 0)
        }
        var total: UInt64?
        var discrepancies = 0
        // The snapshot of the linked file is removed, and the others are verified.
        for _ in 0..<18 {
            try await nights.copy()
            let check = try nights.check()
            total = check.total
            discrepancies += check.discrepancy == nil ? 0 : 1
        }
        #expect(try await du([snapshots]) == [total])
        // A link from one snapshot to another takes no space.
        #expect(tampering == .linkedIn ? discrepancies == 0 : (1...2).contains(discrepancies), "\(discrepancies)")
    }

    @Test(
        "all snapshots are measured the first time, after others have made or removed snapshots, and after an interrupted removal"
    )
    func discrepancies() async throws {
        let nights = try Nights(seed: 21)
        for _ in 0..<3 {
            try nights.change()
            try await nights.copy()
        }
        func expect(_ discrepancy: String?) async throws {
            let check = try nights.check()
            #expect(check.discrepancy.map { String($0.prefix(11)) } == discrepancy)
            #expect(try await du([nights.snapshots]) == [check.total])
            #expect(try nights.check().discrepancy == nil)
        }
        try await expect(nil)
        let before = nights.record
        nights.record = SizeRecord()
        try await expect("3 directori")
        #expect(nights.record.snapshots.map(\.inode) == before.snapshots.map(\.inode))
        #expect(nights.record.increment == before.increment)
        #expect(nights.record.total == before.total)

        try nights.files.makeDirectory("homes/daily.9/others")
        try await expect("1 directory")
        try FileManager.default.removeItem(atPath: nights.snapshots.appending("daily.1").string)
        try await expect("1 recorded ")

        let oldest = nights.name("daily", 9)
        let inode = try #require(nights.inode(oldest))
        nights.record.beginRemoval(of: inode)
        try FileManager.default.removeItem(atPath: nights.snapshots.pushing("daily.9/others").string)
        // The daemon is killed; the next run removes the rest, and the bytes freed before are unknown.
        try nights.remove(oldest)
        try await expect("a removal w")
    }

    @Test("each snapshot is verified in turn while others are added and removed")
    func turns() {
        var record = SizeRecord()
        #expect(record.due == nil)
        var verified: [UInt64: Int] = [:]
        for night in 1...60 as ClosedRange<UInt64> {
            record.add(inode: night, bytes: 10, ownBytes: 10, names: night)
            if record.snapshots.count > 7 {
                let removed = record.snapshots[record.snapshots.count - (night % 3 == 0 ? 2 : 1)]
                record.beginRemoval(of: removed.inode)
                record.endRemoval(of: removed.inode, freed: removed.bytes)
            }
            guard let due = record.due else { continue }
            #expect(record.nameLimit(of: due.snapshot.inode) == .counted(due.snapshot.names ?? 0))
            record.confirm(due.snapshot.inode, names: 1_000 + night)
            #expect(record.nameLimit(of: due.snapshot.inode) == .counted(1_000 + night))
            verified[due.snapshot.inode, default: 0] += 1
            #expect(record.snapshots.allSatisfy { $0.copies <= 8 })
        }
        #expect(record.discrepancy(Set(record.snapshots.map(\.inode))) == nil)
        #expect(verified.count > 50)
    }
}
