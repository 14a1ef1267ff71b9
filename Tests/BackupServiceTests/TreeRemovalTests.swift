import Foundation
import Glibc
import Synchronization
import SystemPackage
import Testing

@testable import BackupService

@Suite struct TreeRemovalTests {
    /// Removes `homes/tree`, and calls back whenever a directory has been read and at least once for 256 names.
    @discardableResult
    private func remove(
        _ directory: TestDirectory, limit: NameLimit = .unrecorded, _ meanwhile: @escaping @Sendable () -> Void = {}
    ) throws -> UInt64 {
        let removal = TreeRemoval(limit: limit) {
            meanwhile()
            return false
        }
        return try removal.remove("tree", in: HeldDirectory(configured: directory.homes))
    }

    @Test("files whose names are not UTF-8 are removed, and targets of links stay")
    func strange() throws {
        let directory = try TestDirectory()
        let tree = try directory.makeDirectory("homes/tree")
        let strange = Array(tree.string.utf8CString.dropLast()) + [0x2f, -1, -2, 10, 0]
        #expect(mkdir(strange, 0o700) == 0)
        let file = open(Array(strange.dropLast()) + [0x2f, -3, 0], O_CREAT | O_WRONLY, 0o600)
        #expect(file >= 0)
        close(file)
        try directory.makeDirectory("others")
        try directory.write("precious", to: "others/file")
        try directory.link("homes/tree/directory", to: directory.path.appending("others"))
        try directory.link("homes/tree/file", to: directory.path.pushing("others/file"))
        try remove(directory)
        #expect(!exists(tree))
        #expect(try text(directory.path.pushing("others/file")) == "precious")
        try remove(directory)
    }

    @Test(
        "a tree that is too deep for a walk is refused with its path, and is removed with few descriptors and a small stack"
    )
    func deep() throws {
        let directory = try TestDirectory()
        let inodes = try directory.nest(6_000, in: "homes/tree")
        let parent = try HeldDirectory(configured: directory.homes)
        let limit = NameLimit(.max, levels: 4_000)
        let excess = #expect(throws: TreeWalk.LimitExceeded.self) {
            try SnapshotCounter(parent, SizeRecord(), isCancelled: { false }).count("tree", limit: limit)
        }
        #expect(
            excess
                == TreeWalk.LimitExceeded(
                    path: directory.homes.appending("tree"), owner: geteuid(), limit: limit, isTooDeep: true))
        let seen = Mutex((asked: 0, most: 0))
        try remove(directory, limit: limit) {
            seen.withLock {
                $0.asked += 1
                if $0.asked % 100 == 0 { $0.most = max($0.most, openDirectories(of: inodes)) }
            }
        }
        #expect(!exists(directory.homes.appending("tree")))
        // Other tests may get the numbers of directories that are gone already.
        #expect((2...TreeWalk.window + 100).contains(seen.withLock { $0.most }), "one for each level would be 6,000")
    }

    @Test(
        "the path of a failure deep in a tree is shortened in the middle",
        .enabled(if: isRoot, "needs root to mount"))
    func place() throws {
        let directory = try TestDirectory()
        let way = "tree/" + String(repeating: "d/", count: 1_200)
        let mount = try TestMount(at: directory.makeDirectory(FilePath("homes/\(way)mount")))
        let failure = #expect(throws: HeldDirectory.Failure.self) { try remove(directory) }
        #expect(failure?.cause == .improperLink)
        let path = failure?.path.string ?? ""
        #expect(path.hasPrefix("\(directory.homes)/tree/d/d/") && path.contains("/d/…/"), "\(path)")
        #expect(path.hasSuffix("/d/d/mount") && path.utf8.count < 2_048, "\(path)")
        withExtendedLifetime(mount) {}
    }

    @Test("the freed bytes are what du counts less; files with other links do not count")
    func freed() async throws {
        let directory = try TestDirectory()
        for name in ["tree/sub", "kept"] { try directory.makeDirectory(FilePath("homes/\(name)")) }
        for (name, size) in [("tree/one", 50_000), ("tree/two", 70_000), ("tree/sub/kept", 90_000)] {
            try directory.write(String(repeating: "x", count: size), to: FilePath("homes/\(name)"))
        }
        let root = directory.homes
        #expect(link(root.pushing("tree/two").string, root.pushing("tree/sub/again").string) == 0)
        #expect(link(root.pushing("tree/sub/kept").string, root.pushing("kept/it").string) == 0)
        let before = try #require(try await du([root]).first)
        let freed = try remove(directory)
        #expect(try await du([root]) == [before - freed])
        try directory.write(String(repeating: "x", count: 30_000), to: "homes/tree")
        let file = status(root.appending("tree"))?.allocatedBytes
        #expect(try remove(directory) == file)
    }

    @Test("directories that only root may enter are removed too", .enabled(if: isRoot, "needs root to enter them"))
    func closed() throws {
        let directory = try TestDirectory()
        try directory.makeDirectory("homes/tree/closed/inside")
        try directory.write("x", to: "homes/tree/closed/inside/file", mode: 0)
        for name in ["tree/closed/inside", "tree/closed", "tree"] {
            #expect(chmod(directory.homes.pushing(FilePath(name)).string, 0) == 0)
            #expect(lchown(directory.homes.pushing(FilePath(name)).string, 3_723_707, 3_723_707) == 0)
        }
        try remove(directory)
        #expect(!exists(directory.homes.appending("tree")))
    }

    // MARK: - The owner changes it meanwhile

    @Test(
        "a directory is taken from its owner before it is read, so that no names are made in it meanwhile",
        .enabled(if: isRoot, "needs root to take it"))
    func taken() throws {
        let directory = try TestDirectory()
        let names: [FilePath] = ["homes/tree", "homes/tree/a", "homes/tree/a/b"]
        for name in names { #expect(chown(try directory.makeDirectory(name).string, 4_000_001, 4_000_001) == 0) }
        #expect(chmod(directory.homes.appending("tree").string, 0o2777) == 0)
        let owners = Mutex<[[UInt32]]>([])
        try remove(directory) {
            owners.withLock {
                $0.append(
                    names.compactMap { name in
                        var status = stat()
                        guard stat(directory.path.pushing(name).string, &status) == 0 else { return nil }
                        #expect(status.st_uid == 4_000_001 || status.st_mode & 0o7777 == 0o700)
                        return status.st_uid
                    })
            }
        }
        #expect(owners.withLock(\.self) == [[0, 0, 0], [0, 0], [0]])
    }

    @Test("a directory that is moved out is not followed, and the rest is removed")
    func movedOut() throws {
        let directory = try TestDirectory()
        try directory.nest(60, in: "homes/tree")
        try directory.makeDirectory("others")
        try directory.write("precious", to: "others/file")
        try directory.makeDirectory("others/a")
        let moved = directory.homes.pushing(FilePath("tree/" + Array(repeating: "d", count: 20).joined(separator: "/")))
        let target = directory.path.pushing("others/d")
        // Called first when the deepest directory was read, before 256 names: the directory that is moved has been closed by then.
        try remove(directory) { rename(moved.string, target.string) }
        #expect(!exists(directory.homes.appending("tree")))
        #expect(try text(directory.path.pushing("others/file")) == "precious")
        #expect(exists(directory.path.pushing("others/a")))
        #expect(exists(target))
    }

    @Test("a directory that is moved behind the removal is removed, too")
    func movedBack() throws {
        let directory = try TestDirectory()
        try directory.nest(60, in: "homes/tree")
        let tree = directory.homes.appending("tree")
        let moved = tree.pushing(FilePath(Array(repeating: "d", count: 20).joined(separator: "/")))
        try remove(directory) { rename(moved.string, tree.appending("moved").string) }
        #expect(!exists(tree))
    }

    @Test("names made during a removal are removed too, up to the limit")
    func endless() throws {
        let directory = try TestDirectory()
        let inner = try directory.makeDirectory("homes/tree/inner")
        let made = Mutex(0)
        @Sendable func make(atMost limit: Int) {
            made.withLock {
                guard $0 < limit else { return }
                $0 += 1
                mkdir(inner.appending("\($0)").string, 0o700)
                mkdir(inner.removingLastComponent().appending("\($0)").string, 0o700)
            }
        }
        try remove(directory) { make(atMost: 20) }
        #expect(!exists(inner.removingLastComponent()))

        try directory.makeDirectory("homes/tree/inner")
        let excess = #expect(throws: TreeWalk.LimitExceeded.self) {
            try remove(directory, limit: NameLimit(500)) { make(atMost: .max) }
        }
        #expect(
            excess
                == TreeWalk.LimitExceeded(
                    path: directory.homes.appending("tree"), owner: geteuid(), limit: NameLimit(500))
        )
    }

    @Test(
        "the hint names the tree's owner, or if that is root the user who makes the names",
        .enabled(if: isRoot, "only root changes owners"), arguments: [true, false])
    func owner(ownsTop: Bool) throws {
        let directory = try TestDirectory()
        let inner = try directory.makeDirectory("homes/tree/inner", owner: 3_723_707)
        if ownsTop { #expect(chown(inner.removingLastComponent().string, 4_000_001, 0) == 0) }
        for number in 0..<20 { #expect(mkfifo(inner.appending("\(number)").string, 0o600) == 0) }
        let excess = #expect(throws: TreeWalk.LimitExceeded.self) { try remove(directory, limit: NameLimit(10)) }
        #expect(excess?.hint.hasSuffix("ps -fu \(ownsTop ? 4_000_001 : 3_723_707)") == true)
    }

    @Test("a removal that the limit has stopped continues when repeated")
    func again() throws {
        let directory = try TestDirectory()
        let tree = try directory.makeDirectory("homes/tree")
        for number in 0..<250 { #expect(mkfifo(tree.appending("\(number)").string, 0o600) == 0) }
        for _ in 0..<2 {
            #expect(throws: TreeWalk.LimitExceeded.self) { try remove(directory, limit: NameLimit(100)) }
        }
        try remove(directory, limit: NameLimit(100))
        #expect(!exists(tree))
    }

    @Test("a removal that the limit stops after a move leaves no directory open")
    func nothingStaysOpen() throws {
        for limit in stride(from: 80, to: 400, by: 20) {
            let directory = try TestDirectory()
            try directory.nest(80, in: "homes/tree")
            let moved = directory.homes.pushing(
                FilePath("tree/" + Array(repeating: "d", count: 40).joined(separator: "/")))
            let target = directory.path.appending("target")
            do {
                try remove(directory, limit: NameLimit(limit)) { rename(moved.string, target.string) }
            } catch is TreeWalk.LimitExceeded {}
            #expect(openFiles(below: directory.path) == [], "stopped after \(limit) names")
        }
    }

    @Test("a removal ends when it is cancelled")
    func cancelled() throws {
        let directory = try TestDirectory()
        try directory.makeDirectory("homes/tree/inner")
        #expect(throws: CancellationError.self) {
            try TreeRemoval { true }.remove("tree", in: HeldDirectory(configured: directory.homes))
        }
        #expect(exists(directory.homes.appending("tree")))
    }
}
