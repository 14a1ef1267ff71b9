import Glibc
import JobCore
import SystemPackage
import Testing

@testable import BackupService

/// With real directories, identified by their inodes.
@Suite struct SnapshotRotationTests {
    private struct Crash: Error {}

    private final class Snapshots {
        let directory: SnapshotDirectory
        private var made: [UInt64: String] = [:]

        /// - Parameter directory: where each has a directory of its own, under the number.
        init(in files: TestDirectory, _ number: Int = 0) throws {
            let path = files.path.appending("\(number)")
            guard mkdir(path.string, 0o700) == 0 else { throw Errno(rawValue: errno) }
            directory = SnapshotDirectory(directory: try HeldDirectory(configured: path))
        }

        func make(_ name: String, _ note: String) throws {
            _ = try directory.directory.makeDirectory(.named(name))
            made[try inode(name)] = note
        }

        func inode(_ name: String) throws -> UInt64 { try #require(try directory.inode(of: .named(name))) }

        /// The directories by their current names.
        var notes: [String: String] {
            get throws {
                var notes: [String: String] = [:]
                for name in try directory.directory.names() { notes[name.string] = made[try inode(name.string)] }
                return notes
            }
        }

        /// - Parameter place: of the rename that does not happen any more, 1 for the first; 0: all happen.
        func rotation(crashingAt place: Int = 0, keeping kept: UInt64? = nil) -> SnapshotRotation {
            var left = place
            return SnapshotRotation(snapshots: directory, kept: kept) {
                left -= 1
                if left == 0 { throw Crash() }
            }
        }
    }

    /// From every combination of missing indices, with a crash before each rename of a first and of a second run.
    @Test(
        "a rotation that crashes twice, before any rename, and is run again loses and duplicates no snapshot",
        arguments: [1, 2, 4])
    func crashes(retain: Int) throws {
        let files = try TestDirectory(in: "/dev/shm")
        var number = 0
        for missing in 0..<(1 << (retain + 1)) {
            for first in 1...(retain + 3) {
                for second in 1...(retain + 3) {
                    number += 1
                    try course(Snapshots(in: files, number), retain, missing, first, second)
                }
            }
        }
    }

    private func course(
        _ snapshots: Snapshots, _ retain: Int, _ missing: Int, _ first: Int, _ second: Int
    ) throws {
        let before = (0...retain).filter { missing & 1 << $0 == 0 }
        for index in before { try snapshots.make("daily.\(index)", "d\(index)") }
        try snapshots.make(".sync", "new")
        let inode = try snapshots.inode(".sync")
        for place in [first, second, 0, 0] {
            do {
                try snapshots.rotation(crashingAt: place).put(inode, from: ".sync", before: "daily", retain: retain)
            } catch is Crash {}
        }
        let isFull = before.filter { $0 < retain }.count == retain
        let notes = try snapshots.notes
        let kept = (0...retain).compactMap { notes["daily.\($0)"] }
        let wanted = ["new"] + before.filter { !(isFull && $0 == retain - 1) }.map { "d\($0)" }
        let isRight =
            kept == wanted && notes[".sync"] == nil && notes.keys.contains { $0.hasPrefix(".trash-") } == isFull
        #expect(isRight, "retain \(retain), missing \(missing), crashes \(first) \(second): \(notes)")
    }

    @Test("a larger level takes over the oldest snapshot of the smaller one, also after a crash before each rename")
    func takesOver() throws {
        let files = try TestDirectory()
        for place in 0...6 {
            let snapshots = try Snapshots(in: files, place)
            for index in 0..<3 { try snapshots.make("daily.\(index)", "d\(index)") }
            for index in 0..<2 { try snapshots.make("weekly.\(index)", "w\(index)") }
            let inode = try snapshots.inode("daily.2")
            for place in [place, 0] {
                do {
                    try snapshots.rotation(crashingAt: place).put(inode, from: "daily.2", before: "weekly", retain: 2)
                } catch is Crash {}
            }
            let notes = try snapshots.notes.filter { !$0.key.hasPrefix(".") }
            #expect(notes == ["daily.0": "d0", "daily.1": "d1", "weekly.0": "d2", "weekly.1": "w0"])
        }
    }

    @Test("a snapshot that was moved away is an error, and nothing is renamed")
    func lost() throws {
        let files = try TestDirectory()
        let snapshots = try Snapshots(in: files)
        try snapshots.make("daily.0", "d0")
        let before = try snapshots.notes
        #expect(throws: JobOutcome.self) {
            try snapshots.rotation().put(1, from: ".sync", before: "daily", retain: 1)
        }
        #expect(try snapshots.notes == before)
    }

    @Test("a file with the name of a snapshot is named, nothing replaces it, and it counts for none")
    func foreignFile() throws {
        let files = try TestDirectory()
        let snapshots = try Snapshots(in: files)
        try snapshots.make("daily.0", "d0")
        try snapshots.make("daily.2", "d2")
        let file = snapshots.directory.path.appending("daily.1")
        #expect(close(open(file.string, O_CREAT | O_WRONLY | O_EXCL, 0o600)) == 0)
        try snapshots.rotation().trim("daily", to: 2)
        try snapshots.make(".sync", "new")
        let inode = try snapshots.inode(".sync")
        let failure = try #require(throws: HeldDirectory.Failure.self) {
            try snapshots.rotation().put(inode, from: ".sync", before: "daily", retain: 2)
        }
        #expect(failure.path == file)
        #expect(RsnapshotBackup.outcome(of: failure)?.message.contains("move it away") == true)
        #expect(unlink(file.string) == 0)
        #expect(try snapshots.notes == ["daily.0": "d0", "daily.2": "d2", ".sync": "new"])
    }

    @Test("snapshots beyond the number are removed only if the full number of newer ones exists")
    func trims() throws {
        let files = try TestDirectory()
        let snapshots = try Snapshots(in: files)
        for index in [0, 1, 2, 4, 5] { try snapshots.make("daily.\(index)", "d\(index)") }
        let before = try snapshots.notes
        try snapshots.rotation().trim("daily", to: 4)
        #expect(try snapshots.notes == before)
        try snapshots.rotation().trim("daily", to: 3)
        let after = try snapshots.notes
        #expect(Set(after.keys.filter { !$0.hasPrefix(".") }) == ["daily.0", "daily.1", "daily.2"])
        #expect(Set(after.filter { $0.key.hasPrefix(".trash-") }.values) == ["d4", "d5"])
    }

    @Test("the last full snapshot is kept when its level drops it, and an older kept one is dropped")
    func keeps() throws {
        let files = try TestDirectory()
        let snapshots = try Snapshots(in: files)
        try snapshots.make("daily.0", "full")
        try snapshots.make(".full", "older")
        try snapshots.make(".sync", "small")
        let full = try snapshots.inode("daily.0")
        try snapshots.rotation(keeping: full).put(
            snapshots.inode(".sync"), from: ".sync", before: "daily", retain: 1)
        let notes = try snapshots.notes
        #expect(notes["daily.0"] == "small" && notes[".full"] == "full")
        #expect(notes.contains { $0.key.hasPrefix(".trash-") && $0.value == "older" })
    }
}
