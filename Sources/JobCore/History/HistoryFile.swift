import CLinux
import CSQLite
import Glibc
import SystemPackage

/// The file of the history: checks whether it can be used, says why not, and sets it aside.
struct HistoryFile {
    let path: FilePath

    /// Checks that no other user can create files in the directory.
    func checkDirectory() throws(HistoryError) {
        do throws(FileTrustError) {
            try FileTrust.check(path.removingLastComponent(), as: .directory)
        } catch {
            throw HistoryError("\(error)")
        }
    }

    /// Makes sure that a private file exists.
    /// - Returns: why an existing file must be set aside; nil when it can be used.
    /// - Throws: when there is none and none can be created: `Errno` for a shortage, otherwise ``HistoryError``.
    func prepare() throws -> String? {
        var status = stat()
        guard lstat(path.string, &status) == 0 else {
            let reason = Errno(rawValue: errno)
            guard reason == .noSuchFileOrDirectory else { return "it cannot be looked at: \(reason)" }
            try make()
            return nil
        }
        switch status.st_mode & S_IFMT {
        case S_IFREG: break
        case S_IFLNK: return "it is a symbolic link"
        case S_IFDIR: return "it is a directory"
        default: return "it is no plain file"
        }
        guard status.st_uid == geteuid() else {
            return
                "it belongs to user \(status.st_uid); to use it again, stop the daemon, give it to user \(geteuid()) (chown) and rename it back"
        }
        guard status.st_mode & 0o177 == 0 || chmod(path.string, 0o600) == 0 else {
            return "its mode cannot be set: \(Errno(rawValue: errno))"
        }
        do {
            try FileDescriptor.open(path, .readWrite, options: [.noFollow, .closeOnExec, .nonBlocking]).close()
        } catch {
            // A shortage says nothing about the file; SQLite reports it.
            guard (error as? Errno).map(Self.isShortage) ?? false else { return "it cannot be opened: \(error)" }
        }
        return nil
    }

    /// Whether an error says nothing about the file, and may pass. Errors of the disk, which `Errno.isShortage` has too, may be damage of the file.
    static func isShortage(_ error: Errno) -> Bool {
        error == .diskQuotaExceeded || error.isShortage && error != .ioError
    }

    /// Renames it to `FILE.KIND-TIME`, and SQLite's files with it, so that they can still be opened together. Nothing is deleted.
    /// - Returns: its new name.
    func setAside(as kind: String, at now: Timestamp) throws(HistoryError) -> FilePath {
        do throws(StateFileError) {
            let aside = try StateFile.setAside(path, as: kind, at: Int(now.secondsSince1970))
            for suffix in Self.companions {
                let old = path.string + suffix
                // Not being there is usual. One that stayed would be taken for part of the new database.
                guard clinux_renameat2(AT_FDCWD, old, AT_FDCWD, aside.string + suffix, 0) == 0 || errno == ENOENT else {
                    throw StateFileError("set aside", FilePath(old), Errno(rawValue: errno))
                }
            }
            return aside
        } catch {
            throw HistoryError("\(error)")
        }
    }

    /// The file that has the name now; nil when there is none.
    var identity: Identity? {
        var status = stat()
        guard lstat(path.string, &status) == 0 else { return nil }
        return Identity(device: status.st_dev, inode: status.st_ino)
    }

    /// A file apart from its name.
    struct Identity: Hashable {
        var device: dev_t
        var inode: ino_t
    }

    /// Why the file cannot be used until an operator acts, with the file and the hint; nil for damage, which is fixed by setting it aside. What
    /// SQLite cannot tell from damage the disk may.
    func trouble(behind error: any Error) -> String? {
        if let error = error as? HistoryError { return "\(error)" }
        return reason(of: error).map { "\(path.printable): \($0)" }
    }

    private func reason(of error: any Error) -> String? {
        if let shortage = error as? Errno {
            return "it cannot be made; \(shortage.shortageHint(at: path.removingLastComponent()))"
        }
        guard let error = error as? SQLite.Failure else { return "report this as a bug, with the log" }
        switch error.code {
        case SQLITE_BUSY, SQLITE_LOCKED, SQLITE_INTERRUPT, SQLITE_PROTOCOL:
            return
                "another program keeps the history locked; find it among those that fuser -v \(path.printable) lists besides the daemon"
        case SQLITE_FULL, SQLITE_NOMEM:
            return "there is no room for the history; make room on its file system"
        default:
            let cause = error.cause.flatMap { Self.isShortage($0) ? $0 : nil } ?? shortage
            return cause.map { "\($0); \($0.shortageHint(at: path.removingLastComponent()))" }
        }
    }

    /// What the file system lacks, if that explains a failed write.
    private var shortage: Errno? {
        var status = statvfs()
        let directory = path.removingLastComponent().isEmpty ? FilePath(".") : path.removingLastComponent()
        guard statvfs(directory.string, &status) == 0 else { return nil }
        if status.f_flag & UInt(ST_RDONLY) != 0 { return .readOnlyFileSystem }
        return status.f_bavail * status.f_frsize < 256 << 10 ? .noSpace : nil
    }

    private static let companions = ["-wal", "-shm", "-journal"]

    private func make() throws {
        // A log that stayed behind without its database belongs to nothing.
        for suffix in Self.companions where unlink(path.string + suffix) != 0 && errno != ENOENT {
            throw HistoryError("\(path.printable)\(suffix): cannot be removed: \(Errno(rawValue: errno))")
        }
        do {
            try FileDescriptor.open(
                path, .writeOnly, options: [.create, .exclusiveCreate, .closeOnExec, .noFollow],
                permissions: [.ownerReadWrite]
            ).close()
        } catch {
            if let shortage = error as? Errno, Self.isShortage(shortage) { throw shortage }
            throw HistoryError("\(path.printable): cannot be made: \(error)")
        }
    }
}
