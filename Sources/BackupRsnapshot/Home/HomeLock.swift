import Glibc
import Provisioning
import SystemPackage

/// Keeps other daemons that share the storage from working on an account's home meanwhile: a lock on the file `BASE/.locks/UID`, where BASE is each
/// volume, or else root, on which the home may lie.
///
/// The kernel holds it (flock(2), which NFS passes on to the server) for as long as the value lives, and releases it when the process ends. The file
/// is removed with it. A daemon alone needs none: ``Exclusion`` sees to its own jobs.
final class HomeLock: Sendable {
    private let locks: [LockedFile]

    /// The directory below a volume that holds the locks.
    static let directoryName: FilePath.Component = ".locks"

    /// - Parameter homes: where the account's home may lie.
    /// - Returns: nil while another daemon holds a lock.
    /// - Throws: `ProvisioningFailure` with code 4.
    init?(_ homes: [HomePath]) throws(ProvisioningFailure) {
        var locks: [LockedFile] = []
        var bases: Set<FilePath> = []
        for home in homes where bases.insert(home.base).inserted {
            guard let base = try HomeWalk(to: home).base else { continue }
            do throws(HeldFolder.Failure) {
                if try base.makeFolder(Self.directoryName) { try base.synchronize() }
                guard let directory = try base.folder(Self.directoryName) else { continue }
                guard let lock = try directory.lock(home.accountName) else { return nil }
                locks.append(lock)
            } catch {
                throw HomeWalk.explain(error, root: home.root)
            }
        }
        self.locks = locks
    }
}

/// A locked file in a directory that only root can enter.
final class LockedFile: Sendable {
    private let directory: HeldFolder
    private let name: FilePath.Component
    private let descriptor: Int32

    fileprivate init(_ directory: HeldFolder, _ name: FilePath.Component, _ descriptor: Int32) {
        (self.directory, self.name, self.descriptor) = (directory, name, descriptor)
    }

    deinit {
        // While it is still locked: whoever has opened it meanwhile finds that it has no name any more. One that stays is of no harm.
        try? directory.removeFile(name)
        close(descriptor)
    }
}

extension HeldFolder {
    /// Makes a file inside and locks it.
    /// - Returns: nil while another process, or another part of this one, holds the lock.
    fileprivate func lock(_ name: FilePath.Component) throws(Failure) -> LockedFile? {
        while true {
            let (opened, cause) = name.withPlatformString { text in
                (
                    openat(descriptor, text, O_RDWR | O_CREAT | O_NOFOLLOW | O_NOCTTY | O_CLOEXEC, 0o600),
                    Errno(rawValue: errno)
                )
            }
            guard opened >= 0 else { throw Failure(operation: "open", path: path.appending(name), cause: cause) }
            guard flock(opened, LOCK_EX | LOCK_NB) == 0 else {
                let cause = Errno(rawValue: errno)
                close(opened)
                if cause == .wouldBlock { return nil }
                throw Failure(operation: "lock", path: path.appending(name), cause: cause)
            }
            var status = stat()
            if fstat(opened, &status) == 0, try self.status(of: name)?.st_ino == status.st_ino {
                return LockedFile(self, name, opened)
            }
            // Its holder has removed it since it was opened.
            close(opened)
        }
    }
}
