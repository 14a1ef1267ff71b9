import Glibc
import Provisioning
package import SystemPackage

/// Removes a tree of any depth: never through a symbolic link, never across a mount, see ``TreeWalk``. Directories that are deeper than a walk
/// goes are moved into the tree's top first.
///
/// Where this process is root, each directory is taken from its owner before it is read, so that no more is made in it. The owner may go on changing
/// what has not been reached, and several processes that hold such directories open can keep a removal going until it is cut off. What is moved out
/// of the tree while it is removed may lose what it holds; nothing else is touched.
/// A removal that did not come to its end goes on where it was when it is repeated.
/// Errors: `HeldDirectory.Failure`, with the cause `improperLink` at a mount; `TreeWalk.LimitExceeded` when the owner makes more than is removed;
/// `CancellationError`.
package struct TreeRemoval {
    /// Names that one call may come to.
    var limit = NameLimit.unrecorded
    let isCancelled: @Sendable () -> Bool

    /// Removes what a path leads to, for the sandbox: customers may have homes there.
    /// - Throws: `ProvisioningFailure` with the place and a hint.
    package static func remove(_ path: FilePath) throws {
        guard let name = path.lastComponent else { return }
        do {
            try TreeRemoval(isCancelled: { false }).remove(
                name, in: HeldDirectory(configured: path.removingLastComponent()))
        } catch let failure as HeldDirectory.Failure {
            throw ProvisioningFailure(
                .undefinedError, reason: "could not \(failure.operation) \(failure.path): \(failure.cause)",
                hint: failure.cause == .improperLink
                    ? "unmount what is mounted there (findmnt lists it), then remove it" : "remove it as root")
        }
    }

    /// - Parameters:
    ///   - name: what is removed; a name that is gone already is no failure.
    ///   - parent: the directory it lies in.
    func remove(_ name: FilePath.Component, in parent: HeldDirectory) throws {
        var freed: UInt64 = 0
        try remove(name, in: parent, freed: &freed)
    }

    /// - Parameter freed: grows by the bytes on the disk that nothing takes any longer, also when the removal fails; what has other links
    ///   elsewhere does not count.
    func remove(_ name: FilePath.Component, in parent: HeldDirectory, freed: inout UInt64) throws {
        guard let status = try parent.status(of: name) else { return }
        guard status.st_mode & S_IFMT == S_IFDIR else {
            try parent.removeFile(name)
            freed += status.bytesOfLastLink
            return
        }
        let walk = try TreeWalk(name, in: parent, limit: limit, isCancelled: isCancelled)
        try walk.takeFromOwner()
        repeat { try empty(walk, freed: &freed) } while try !removeTop(name, in: parent, walk)
        freed += walk.status.allocatedBytes
        try parent.synchronize()
    }

    /// - Returns: false when something has been made in it again.
    private func removeTop(_ name: FilePath.Component, in parent: HeldDirectory, _ walk: TreeWalk) throws -> Bool {
        do {
            try parent.removeEmptyDirectory(name)
            return true
        } catch {
            guard error.cause == .directoryNotEmpty, try parent.status(of: name)?.st_ino == walk.status.st_ino else {
                throw error
            }
            try walk.beginAgain()
            return false
        }
    }

    private func empty(_ walk: TreeWalk, freed: inout UInt64) throws {
        while let event = try walk.next() {
            switch event {
            case .name(let item):
                if try walk.isDirectory(item) {
                    try enter(item.text, walk)
                } else {
                    try removeFile(item.text, walk, &freed)
                }
            case .left(let name, let bytes):
                try name.withUnsafeBufferPointer { buffer in
                    guard let name = buffer.baseAddress else { return }
                    try removeDirectory(name, bytes, walk, &freed)
                }
            }
        }
    }

    private func removeFile(_ name: UnsafePointer<CChar>, _ walk: TreeWalk, _ freed: inout UInt64) throws {
        guard let status = try walk.status(of: name) else { return }
        do {
            if try walk.remove(name, flags: 0) { freed += status.bytesOfLastLink }
        } catch {
            guard error.cause == .isDirectory else { throw error }
            // Replaced since it was listed: the directory that holds it is not empty, and is read again.
        }
    }

    private func removeDirectory(
        _ name: UnsafePointer<CChar>, _ bytes: UInt64, _ walk: TreeWalk, _ freed: inout UInt64
    ) throws {
        do {
            if try walk.remove(name, flags: AT_REMOVEDIR) { freed += bytes }
        } catch {
            switch error.cause {
            case .directoryNotEmpty:
                try walk.step()
                try enter(name, walk)
            case .notDirectory: break  // Replaced likewise.
            default: throw error
            }
        }
    }

    private func enter(_ name: UnsafePointer<CChar>, _ walk: TreeWalk) throws {
        if walk.isDeepest { return try walk.moveToTop(name) }
        do {
            try walk.enter(name)
            try walk.takeFromOwner()
        } catch let failure as HeldDirectory.Failure
            where HeldDirectory.isElsewhere(failure.cause) && failure.cause != .improperLink
        {
            // Gone, or replaced likewise.
        }
    }
}

extension stat {
    /// What is freed when a name of this file is removed.
    fileprivate var bytesOfLastLink: UInt64 { st_nlink == 1 ? allocatedBytes : 0 }
}
