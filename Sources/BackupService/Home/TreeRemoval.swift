import Glibc
import Provisioning
package import SystemPackage

/// Removes a tree of any depth: never through a symbolic link, never across a mount, see ``TreeWalk``. Directories that are too deep for a
/// walk are moved to the top of the tree first.
///
/// As root it takes each directory from its owner before it reads it, so that the owner makes no more names in it. The owner may go on changing
/// directories that were not reached yet, and processes that hold such directories open can prolong a removal until it is stopped. What is
/// moved out of the tree meanwhile may lose its contents; nothing else is touched. An interrupted removal continues when it is repeated.
/// Errors: `HeldDirectory.Failure`, with the cause `improperLink` at a mount; `TreeWalk.LimitExceeded`; `CancellationError`.
package struct TreeRemoval {
    /// Names that one call may visit.
    var limit = NameLimit.unrecorded
    let isCancelled: @Sendable () -> Bool

    /// Removes a path, for the sandbox, where customers may have homes.
    /// - Throws: `ProvisioningFailure`.
    package static func remove(_ path: FilePath) throws {
        guard let name = path.lastComponent else { return }
        do {
            try TreeRemoval(isCancelled: { false }).remove(
                name, in: HeldDirectory(configured: path.removingLastComponent()))
        } catch let failure as HeldDirectory.Failure {
            throw failure.provisioningFailure(
                .undefinedError, .permanent,
                hint: failure.cause == .improperLink
                    ? "unmount what is mounted there (findmnt lists it), then remove it" : "remove it as root")
        }
    }

    /// - Parameter name: what is removed; a name that does not exist is no error.
    /// - Returns: the bytes that it frees on the disk; files with other links do not count.
    @discardableResult
    func remove(_ name: FilePath.Component, in parent: HeldDirectory) throws -> UInt64 {
        guard let status = try parent.status(of: name) else { return 0 }
        guard status.isDirectory else {
            try parent.removeFile(name)
            return status.bytesOfLastLink
        }
        let walk = try TreeWalk(name, in: parent, limit: limit, isCancelled: isCancelled)
        try walk.takeFromOwner()
        var freed = walk.status.allocatedBytes
        repeat { freed += try empty(walk) } while try !removeTop(name, in: parent, walk)
        try parent.synchronize()
        return freed
    }

    /// - Returns: false when there are new names in it.
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

    private func empty(_ walk: TreeWalk) throws -> UInt64 {
        var freed: UInt64 = 0
        while let event = try walk.next() {
            switch event {
            case .name(let item):
                if try walk.isDirectory(item) {
                    try enter(item.text, walk)
                } else {
                    freed += try removeFile(item.text, walk)
                }
            case .left(let name, let bytes):
                freed += try name.withUnsafeBufferPointer { buffer in
                    try buffer.baseAddress.map { try removeDirectory($0, bytes, walk) } ?? 0
                }
            }
        }
        return freed
    }

    private func removeFile(_ name: UnsafePointer<CChar>, _ walk: TreeWalk) throws -> UInt64 {
        guard let status = try walk.status(of: name) else { return 0 }
        do {
            return try walk.remove(name, flags: 0) ? status.bytesOfLastLink : 0
        } catch {
            guard error.cause == .isDirectory else { throw error }
            // Replaced since it was read: its directory is not empty and is read again.
            return 0
        }
    }

    private func removeDirectory(_ name: UnsafePointer<CChar>, _ bytes: UInt64, _ walk: TreeWalk) throws -> UInt64 {
        do {
            return try walk.remove(name, flags: AT_REMOVEDIR) ? bytes : 0
        } catch {
            switch error.cause {
            case .directoryNotEmpty:
                try walk.step()
                try enter(name, walk)
            case .notDirectory: break  // Replaced, as above.
            default: throw error
            }
            return 0
        }
    }

    private func enter(_ name: UnsafePointer<CChar>, _ walk: TreeWalk) throws {
        if walk.isDeepest { return try walk.moveToTop(name) }
        do {
            try walk.enter(name)
            try walk.takeFromOwner()
        } catch let failure as HeldDirectory.Failure where failure.isOutsideTree && failure.cause != .improperLink {
            // Gone or replaced, as above.
        }
    }
}

extension stat {
    /// What the removal of a name of this file frees.
    fileprivate var bytesOfLastLink: UInt64 { st_nlink == 1 ? allocatedBytes : 0 }
}
