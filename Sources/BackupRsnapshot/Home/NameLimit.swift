import Glibc
import SystemPackage

/// How many names one walk through a customer's tree may come to, and why so many.
///
/// The owner can make names, and move them in front of a walk, for as long as it reads, so without a limit it would not end. The limit grows
/// with what is known of the tree, so that it stops no tree that nobody changes meanwhile. How long a walk may take is limited besides
/// (`Deadline`).
struct NameLimit: Hashable, Sendable, CustomStringConvertible {
    let names: Int
    /// Where the number comes from.
    let reason: String

    /// What may come on top of any number: a tree that was empty gets files meanwhile.
    private static let margin = 100_000
    /// An account has as many names of one file as it has snapshots of it, and as hard links in each.
    private static let namesOfInode = 100
    private static let namesWithoutInodes = 1_000_000_000
    /// No number is larger than this, whoever says it, so that sums do not overflow.
    private static let most: UInt64 = 1 << 40

    var description: String { "\(names) names (\(reason))" }

    /// For a tree whose names were counted: by rsync when it was copied, or by an earlier walk.
    static func counted(_ count: UInt64) -> NameLimit {
        NameLimit(
            names: 2 * Int(min(count, most)) + margin,
            reason: "twice the \(count) that were counted in it, and \(margin)")
    }

    /// For a tree of which nothing is known, by the inodes in use on its file system; nil: it does not count them, as btrfs does not.
    static func uncounted(inodes: UInt64?) -> NameLimit {
        guard let inodes else {
            return NameLimit(names: namesWithoutInodes, reason: "its file system counts no inodes")
        }
        return NameLimit(
            names: namesOfInode * Int(min(inodes, most)) + margin,
            reason: "\(namesOfInode) for each of the \(inodes) inodes in use on its file system, and \(margin)")
    }
}

extension HeldFolder {
    /// For a tree in this directory of which nothing is known.
    func nameLimit() throws(Failure) -> NameLimit {
        var status = statvfs()
        guard fstatvfs(descriptor, &status) == 0 else {
            throw Failure(operation: "examine", path: path, cause: Errno(rawValue: errno))
        }
        return .uncounted(
            inodes: status.f_files > 0 ? UInt64(status.f_files - min(status.f_ffree, status.f_files)) : nil)
    }
}
