import Glibc
import SystemPackage

/// The renames that put a new snapshot in front of the older ones, or that make room. rsnapshot's layout: `LEVEL.0` is the newest.
///
/// Each call is one rename inside the snapshot directory that never replaces anything. After a crash between any two of them exactly one
/// index is missing, and the new snapshot is still under its old name or already `LEVEL.0`: running it again completes it. Nothing is
/// removed here; what a level drops gets a name beginning with `.trash-`. Specification: snapshots.md#rotation.
/// Diagnostics: `HeldDirectory.Failure`, ``Lost``.
struct SnapshotRotation {
    let snapshots: SnapshotDirectory
    /// The inode of a snapshot that is not to be dropped; it is kept under ``keptName`` instead.
    var kept: UInt64?
    /// Is called before each rename; a test throws here.
    var beforeEach: () throws -> Void = {}

    /// The new snapshot is neither where it was made nor where it is to go: somebody else has moved it.
    struct Lost: Error, Hashable, CustomStringConvertible {
        var source: FilePath

        var description: String {
            "the finished copy \(source) is gone; somebody else has moved or removed it; no snapshot was changed"
        }
    }

    /// Where a copy is made.
    static let copyName: FilePath.Component = ".sync"
    /// The last full snapshot, dropped by its level while the newer ones hold far less (the shrink alarm).
    static let keptName: FilePath.Component = ".full"
    private static let trashPrefix = ".trash-"

    static func name(_ level: String, _ index: Int) -> FilePath.Component { .named("\(level).\(index)") }

    static func isTrash(_ name: FilePath.Component) -> Bool { name.string.hasPrefix(trashPrefix) }

    /// Makes the snapshot the newest of a level.
    /// - Parameters:
    ///   - inode: the new snapshot's.
    ///   - source: the name that it had before the first rename.
    ///   - retain: how many snapshots the level keeps, at least 1.
    func put(_ inode: UInt64, from source: FilePath.Component, before level: String, retain: Int) throws {
        if try snapshots.inode(of: Self.name(level, 0)) == inode { return }
        guard try snapshots.inode(of: source) == inode else {
            throw Lost(source: snapshots.path.appending(source))
        }
        let hole = try (0..<retain).first { try snapshots.inode(of: Self.name(level, $0)) == nil }
        if hole == nil { try drop(Self.name(level, retain - 1)) }
        for index in (0..<(hole ?? retain - 1)).reversed() {
            try rename(Self.name(level, index), Self.name(level, index + 1))
        }
        try rename(source, Self.name(level, 0))
    }

    /// Drops the snapshots that a level keeps beyond its number, where so many whole newer ones exist.
    func trim(_ level: String, to retain: Int) throws {
        let prefix = level + "."
        let indices = try snapshots.directory.names().compactMap { name -> Int? in
            guard name.string.hasPrefix(prefix) else { return nil }
            return Int(name.string.dropFirst(prefix.count))
        }
        guard Set(indices).isSuperset(of: 0..<retain) else { return }
        for index in indices.sorted() where index >= retain { try drop(Self.name(level, index)) }
    }

    /// Takes a snapshot out of its level.
    func drop(_ name: FilePath.Component) throws {
        guard let inode = try snapshots.inode(of: name) else { return }
        if inode == kept {
            if let older = try snapshots.inode(of: Self.keptName) { try rename(Self.keptName, Self.trash(older)) }
            try rename(name, Self.keptName)
        } else {
            try rename(name, Self.trash(inode))
        }
    }

    private static func trash(_ inode: UInt64) -> FilePath.Component { .named("\(trashPrefix)\(inode)") }

    private func rename(_ old: FilePath.Component, _ new: FilePath.Component) throws {
        try beforeEach()
        guard try snapshots.directory.rename(old, into: snapshots.directory, as: new) else {
            throw HeldDirectory.Failure(
                operation: "rename to \(new)", path: snapshots.path.appending(old), cause: .fileExists)
        }
    }
}
