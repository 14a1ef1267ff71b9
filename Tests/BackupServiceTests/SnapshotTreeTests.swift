import Foundation
import Glibc
import SystemPackage
import TestSupport
import Testing

@testable import BackupService

/// The counts of a snapshot, compared with du.
@Suite struct SnapshotTreeTests {
    private func walk(
        _ files: TestDirectory, _ name: FilePath.Component = "daily.0", previous: FilePath.Component? = nil,
        limit: Int = .max, isCancelled: @escaping () -> Bool = { false }
    ) throws -> SnapshotTree {
        let counter = try SnapshotCounter(
            HeldDirectory(configured: files.homes), SizeRecord(), isCancelled: isCancelled)
        if let previous { try counter.count(previous, .namesOnly, limit: NameLimit(limit)) }
        return try counter.count(name, limit: NameLimit(limit))
    }

    @Test("a snapshot is counted like du, and its own bytes are of files that the one before does not have")
    func likeDu() async throws {
        let files = try TestDirectory()
        let root = files.homes
        for snapshot in ["daily.0", "daily.1"] { try files.makeDirectory(FilePath("homes/\(snapshot)/sub")) }
        try files.write(String(repeating: "a", count: 123_456), to: "homes/daily.1/shared")
        #expect(link(root.pushing("daily.1/shared").string, root.pushing("daily.0/shared").string) == 0)
        #expect(link(root.pushing("daily.1/shared").string, root.pushing("daily.0/sub/again").string) == 0)
        try files.write(String(repeating: "b", count: 65_000), to: "homes/daily.0/twice")
        #expect(link(root.pushing("daily.0/twice").string, root.pushing("daily.0/sub/twice").string) == 0)
        try files.write(String(repeating: "c", count: 200_000), to: "homes/daily.1/sub/old")
        #expect(truncate(try files.write("", to: "homes/daily.0/sparse").string, 1 << 40) == 0)
        try files.link("homes/daily.0/link", to: "/usr")
        #expect(mkfifo(root.pushing("daily.0/sub/pipe").string, 0o600) == 0)

        let tree = try walk(files, previous: "daily.1")
        #expect(try await du([root.appending("daily.0")]) == [tree.bytes])
        #expect(try await du([root.appending("daily.1"), root.appending("daily.0")]).last == tree.ownBytes)
        #expect(tree.files == 7)
        #expect(tree.names == 8)
        let alone = try walk(files)
        #expect(alone.ownBytes == alone.bytes)
        #expect(alone.bytes == tree.bytes)
    }

    @Test("files that the account or an interrupted copy has linked elsewhere still count as the snapshot's own")
    func linksElsewhere() throws {
        let files = try TestDirectory()
        try files.makeDirectory("homes/daily.0")
        try files.makeDirectory("homes/daily.1")
        try files.write(String(repeating: "a", count: 100_000), to: "homes/daily.0/new")
        let before = try walk(files, previous: "daily.1")
        for place in ["incoming", "homes/.partial"] {
            try files.makeDirectory(FilePath(place))
            let new = files.path.pushing(FilePath(place)).appending("new")
            #expect(link(files.homes.pushing("daily.0/new").string, new.string) == 0)
        }
        #expect(try walk(files, previous: "daily.1") == before)
        #expect(before.ownBytes > 100_000)
    }

    @Test("empty and missing snapshots are recognised")
    func none() throws {
        let files = try TestDirectory()
        try files.makeDirectory("homes/daily.0")
        let tree = try walk(files)
        #expect(tree.names == 0)
        #expect(tree.bytes == status(files.homes.appending("daily.0"))?.allocatedBytes)
        for (name, previous) in [("daily.1", nil), ("daily.0", "daily.1")] as [(String, String?)] {
            let failure = #expect(throws: HeldDirectory.Failure.self) {
                try walk(files, .named(name), previous: previous.map { .named($0) })
            }
            #expect(failure?.cause == .noSuchFileOrDirectory)
            #expect(failure?.path == files.homes.appending("daily.1"))
        }
    }

    // MARK: - Depth

    @Test("directories nested 6,000 deep, beyond PATH_MAX, are counted with few descriptors")
    func deep() async throws {
        let files = try TestDirectory()
        let inodes = try files.nest(6_000, in: "homes/daily.0")
        var (asked, most) = (0, 0)
        let tree = try walk(files) {
            asked += 1
            guard asked % 100 == 0 else { return false }
            most = max(most, openDirectories(of: inodes))
            return false
        }
        #expect(try await du([files.homes.appending("daily.0")]) == [tree.bytes])
        #expect(tree.names == 24_000)
        #expect(tree.files == 18_000)
        #expect((2...TreeWalk.window + 100).contains(most), "one for each level would be 6,000")
    }

    /// The replacement for a directory that the account moves away.
    enum Substitute: CaseIterable { case nothing, link, file, directory }

    @Test("a walk does not leave the tree with a directory that is moved out of it", arguments: Substitute.allCases)
    func movedOut(substitute: Substitute) throws {
        let files = try TestDirectory()
        try files.nest(60, in: "homes/daily.0")
        try files.makeDirectory("others")
        try files.write(String(repeating: "x", count: 10_000_000), to: "others/big")
        let moved = files.homes.pushing(FilePath("daily.0/" + Array(repeating: "d", count: 20).joined(separator: "/")))
        var isMoved = false
        let tree = try walk(files) {
            // Asked first when the deepest directory was read, before 256 names: the directory that is moved has been closed by then.
            guard !isMoved else { return false }
            isMoved = true
            #expect(rename(moved.string, files.path.pushing("others/d").string) == 0)
            switch substitute {
            case .nothing: break
            case .link: #expect(symlink(files.path.appending("others").string, moved.string) == 0)
            case .file: #expect(FileManager.default.createFile(atPath: moved.string, contents: nil))
            case .directory: #expect(mkdir(moved.string, 0o700) == 0)
            }
            return false
        }
        #expect(isMoved)
        #expect(tree.bytes < 10_000_000)
        // The directories are met on the way down; files of those above in any case, of others if they come before the directory.
        #expect(try #require(tree.names) - tree.files == 60)
        #expect((60...180).contains(tree.files))
    }
}

extension SnapshotTreeTests {
    // MARK: - Bounds

    /// Directories, and a tree that is moved from each of them to the next whenever the walk has read a directory.
    private func hunted(_ files: TestDirectory) throws -> () -> Bool {
        let root = try files.makeDirectory("homes/daily.0")
        for number in 0..<60 { try files.makeDirectory(FilePath("homes/daily.0/\(number)")) }
        let order = try HeldDirectory(configured: root).names()
        for number in 0..<5 { try files.makeDirectory(FilePath("homes/daily.0/\(order[0])/S/\(number)")) }
        var place = 0
        return {
            guard place + 1 < order.count else { return false }
            let (from, to) = (root.appending(order[place]), root.appending(order[place + 1]))
            #expect(rename(from.appending("S").string, to.appending("S").string) == 0)
            place += 1
            return false
        }
    }

    @Test("directories that the account moves ahead of the walk are counted once, and the walk ends")
    func movedAhead() async throws {
        let files = try TestDirectory()
        let tree = try walk(files, isCancelled: hunted(files))
        #expect(try await du([files.homes.appending("daily.0")]) == [tree.bytes])
        #expect(try #require(tree.names) - tree.files < 60 + 6 + 60)
    }

    @Test("a walk that exceeds its limit of names ends with its own error, for each of the two snapshots")
    func limit() throws {
        let files = try TestDirectory()
        for number in 0..<50 { try files.makeDirectory(FilePath("homes/daily.1/\(number)")) }
        try files.makeDirectory("homes/daily.0")
        #expect(try walk(files, "daily.1", limit: 50).names == 50)
        for (name, previous) in [("daily.1", nil), ("daily.0", "daily.1")] as [(String, String?)] {
            let failure = #expect(throws: TreeWalk.LimitExceeded.self) {
                try walk(files, .named(name), previous: previous.map { .named($0) }, limit: 49)
            }
            #expect(
                failure
                    == TreeWalk.LimitExceeded(
                        path: files.homes.appending("daily.1"), owner: geteuid(), limit: NameLimit(49)))
        }
    }

    @Test("a walk ends when it is cancelled, in one directory with many files too")
    func cancelled() throws {
        let files = try TestDirectory()
        for number in 0..<1_000 { #expect(mkfifo(files.homes.appending("\(number)").string, 0o600) == 0) }
        try files.makeDirectory("homes/daily.0")
        for (name, directory) in [("homes", files.path), ("daily.0", files.homes)] as [(String, FilePath)] {
            var asked = 0
            #expect(throws: CancellationError.self) {
                try SnapshotCounter(HeldDirectory(configured: directory), SizeRecord()) {
                    asked += 1
                    return true
                }.count(.named(name), limit: NameLimit(.max))
            }
            #expect(asked == 1)
        }
    }

    @Test("a mount in a snapshot is not counted", .enabled(if: isRoot, "needs root to mount"))
    func mounts() throws {
        let files = try TestDirectory()
        let inside = try files.makeDirectory("homes/daily.0/mount")
        let mount = try TestMount("/usr", at: inside)
        let tree = try walk(files)
        #expect(tree.names == 1)
        #expect(tree.bytes == status(files.homes.appending("daily.0"))?.allocatedBytes)
        withExtendedLifetime(mount) {}
    }
}
