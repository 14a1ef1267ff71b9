import Glibc
import JobCore
import Provisioning
import SystemPackage

/// Keeps other daemons that share the storage from working on an account's home meanwhile: a lock on the file `BASE/.locks/UID`, where BASE is the
/// volume, or else root, of the home; where it may lie on several volumes, the first of the settings, which must be the same for all daemons.
///
/// The kernel holds it (flock(2), which NFS passes on to the server) for as long as the value lives, and releases it when the process ends. The file
/// is removed with it. A daemon alone needs none: the scheduler sees to its own jobs.
final class HomeLock: Sendable {
    private let file: LockedFile

    /// The directory below a volume that holds the locks.
    static let directoryName: FilePath.Component = ".locks"

    /// - Returns: nil while another daemon holds the lock.
    /// - Throws: `ProvisioningFailure` with code 4: what ``HomeWalk`` says, or of class configuration or shortage where the file cannot be locked.
    init?(of account: BackupAccount) throws(ProvisioningFailure) {
        let home = account.homes[0]
        guard let base = try HomeWalk(to: home, isTakenOver: true).base else {
            throw Self.explain(
                HeldDirectory.Failure(operation: "open", path: home.base, cause: .noSuchFileOrDirectory), home.base)
        }
        do throws(HeldDirectory.Failure) {
            if try base.makeDirectory(Self.directoryName) { try base.synchronize() }
            guard let file = try base.directory(Self.directoryName)?.lock(home.accountName) else { return nil }
            self.file = file
        } catch {
            throw Self.explain(error, home.base)
        }
    }

    private static func explain(_ failure: HeldDirectory.Failure, _ base: FilePath) -> ProvisioningFailure {
        let cause = failure.cause
        let hint =
            switch cause {
            case _ where cause.isShortage: cause.shortageHint(at: base)
            case .noLocks, .notSupported, .staleNFSFileHandle:
                "mount \(base) by NFS version 4, or have rpc.statd and lockd run"
            case .permissionDenied, .notPermitted: "let the daemon's user write in \(base)"
            case .noSuchFileOrDirectory: "mount the volume, or make the directory"
            default: "let \(base.appending(directoryName)) be a directory that belongs to root, with mode 0700"
            }
        return ProvisioningFailure(
            .cannotCheckHomeDirPresence, FailureClass(cause) ?? .configuration,
            reason:
                "the lock that keeps other daemons from a home cannot be taken: could not \(failure.operation) \(failure.path): \(cause)",
            hint: hint)
    }
}

/// A locked file in a directory that only root can enter.
final class LockedFile: Sendable {
    private let directory: HeldDirectory
    private let name: FilePath.Component
    private let descriptor: Int32

    fileprivate init(_ directory: HeldDirectory, _ name: FilePath.Component, _ descriptor: Int32) {
        (self.directory, self.name, self.descriptor) = (directory, name, descriptor)
    }

    deinit {
        // While it is still locked: a process that has opened it meanwhile finds that it has no name any more. A file that stays is used again.
        try? directory.removeFile(name)
        // Closing is not enough: a child that another thread is starting has a copy of the descriptor until it becomes its program.
        flock(descriptor, LOCK_UN)
        close(descriptor)
    }
}

extension HeldDirectory {
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
            do throws(Failure) {
                if fstat(opened, &status) == 0, try self.status(of: name)?.st_ino == status.st_ino {
                    return LockedFile(self, name, opened)
                }
            } catch {
                flock(opened, LOCK_UN)
                close(opened)
                throw error
            }
            // Its holder has removed it since it was opened.
            close(opened)
        }
    }
}
