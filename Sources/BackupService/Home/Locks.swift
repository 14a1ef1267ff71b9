import Glibc
import JobCore
import Provisioning
import SystemPackage

/// Keeps other daemons that share the storage from working on an account's home: flock(2) on `BASE/.locks/UID`, where BASE is the volume or
/// root of the home. If the home may be on several volumes, it is the first one of the settings, which must be the same for all daemons.
///
/// The kernel releases the lock when the process ends. The file is removed with the value. A single daemon needs no such lock: the scheduler runs
/// one job for each account.
final class HomeLock: Sendable {
    private let directory: HeldDirectory
    private let name: FilePath.Component
    private let descriptor: Int32

    /// The directory below a volume that holds the locks.
    static let directoryName: FilePath.Component = ".locks"

    /// - Returns: nil while another daemon holds the lock.
    /// - Throws: code 4: the failures of ``HomeWalk``; class configuration or shortage if the file cannot be locked.
    init?(of account: BackupAccount) throws(ProvisioningFailure) {
        let home = account.homes[0]
        let walk = try HomeWalk(to: home, isTakenOver: true)
        do throws(HeldDirectory.Failure) {
            guard let base = walk.base else {
                throw HeldDirectory.Failure(operation: "open", path: home.base, cause: .noSuchFileOrDirectory)
            }
            if try base.makeDirectory(Self.directoryName) { try base.synchronize() }
            guard let directory = try base.directory(Self.directoryName),
                let descriptor = try Self.lock(home.accountName, in: directory)
            else { return nil }
            (self.directory, self.name, self.descriptor) = (directory, home.accountName, descriptor)
        } catch {
            throw Self.explain(error, home.base)
        }
    }

    deinit {
        // Before the unlock: a process that has opened the file meanwhile sees that it has no name any more.
        try? directory.removeFile(name)
        // close(2) is not enough: a child that is being started has a copy of the descriptor until its exec.
        flock(descriptor, LOCK_UN)
        close(descriptor)
    }

    /// Makes the file and locks it.
    private static func lock(_ name: FilePath.Component, in directory: HeldDirectory) throws(HeldDirectory.Failure)
        -> Int32?
    {
        while true {
            let opened = try directory.call("open", name) {
                openat(directory.descriptor, $0, O_RDWR | O_CREAT | O_NOFOLLOW | O_NOCTTY | O_CLOEXEC, 0o600)
            }
            guard let opened else { return nil }
            guard flock(opened, LOCK_EX | LOCK_NB) == 0 else {
                let cause = Errno(rawValue: errno)
                close(opened)
                if cause == .wouldBlock { return nil }
                throw directory.failure("lock", name, cause)
            }
            var status = stat()
            do throws(HeldDirectory.Failure) {
                if fstat(opened, &status) == 0, try directory.status(of: name)?.st_ino == status.st_ino {
                    return opened
                }
            } catch {
                flock(opened, LOCK_UN)
                close(opened)
                throw error
            }
            // The former holder has removed the file since it was opened.
            close(opened)
        }
    }

    private static func explain(_ failure: HeldDirectory.Failure, _ base: FilePath) -> ProvisioningFailure {
        let cause = failure.cause
        let hint =
            switch cause {
            case _ where cause.isShortage: cause.shortageHint(at: base)
            case .noLocks, .notSupported, .staleNFSFileHandle:
                "let \(base) be on a file system with flock(2) and renames that replace nothing, which NFS lacks"
            case .permissionDenied, .notPermitted: "let the daemon's user write in \(base)"
            case .noSuchFileOrDirectory: "mount the volume, or make the directory"
            default: "let \(base.appending(directoryName)) be a directory that belongs to root, with mode 0700"
            }
        return ProvisioningFailure(
            .cannotCheckHomeDirPresence, FailureClass(cause) ?? .configuration,
            reason: "the lock that keeps other daemons from a home cannot be taken: \(failure)", hint: hint)
    }
}

/// The lock file of an account's snapshots, with this process's number: rsnapshot run by hand reads it and refuses.
///
/// Only root can write its directory. A lock whose process is gone or is not rsnapshot is stale and replaced, since process numbers are reused.
final class AccountLock: Sendable {
    let file: FilePath

    /// Only of a lock that was taken: `deinit` removes the file, also when an initializer throws after it has set the last property.
    private init(_ file: FilePath) { self.file = file }

    /// - Throws: a retryable `JobOutcome` that names the process that works on the account's snapshots, or `Errno`.
    static func take(_ file: FilePath) throws -> AccountLock {
        let draft = FilePath("\(file.string).\(getpid())")
        let written = try FileDescriptor.open(
            draft, .writeOnly, options: [.create, .truncate, .noFollow, .closeOnExec],
            permissions: [.ownerReadWrite, .groupRead, .otherRead])
        defer { unlink(draft.string) }
        try written.closeAfter { _ = try written.writeAll("\(getpid())\n".utf8) }
        // Twice, since the first round may remove a stale lock.
        for _ in 0..<2 {
            if link(draft.string, file.string) == 0 { return AccountLock(file) }
            guard errno == EEXIST else { throw Errno(rawValue: errno) }
            if let holder = holder(of: file) {
                throw JobOutcome(
                    .failed, failureClass: .retryable, message: "\(file) is held by \(holder)")
            }
            unlink(file.string)
        }
        throw Errno.fileExists
    }

    deinit { unlink(file.string) }

    /// The process that holds a lock file; nil: none does, or this process itself.
    static func holder(of file: FilePath) -> String? {
        guard let line = try? FileDescriptor.text(at: file).prefix(while: { !$0.isNewline }),
            let number = EntryReader.decimal(String(line)), number != UInt64(getpid()),
            let command = try? FileDescriptor.bytes(at: FilePath("/proc/\(number)/cmdline"))
        else { return nil }
        // rsnapshot is a Perl script: the interpreter's command line names it, and so does the daemon's own.
        let words = command.split(separator: 0).map { String(decoding: $0, as: UTF8.self) }
        let isOurs = words.prefix(3).contains { $0.contains("rsnapshot") }
        return isOurs ? "process \(number) (\(words.joined(separator: " ").prefix(120)))" : nil
    }
}
