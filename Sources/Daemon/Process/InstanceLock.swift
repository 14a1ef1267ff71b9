import Glibc
package import SystemPackage

/// The proof that this process is the only instance: as long as the value lives, no other process gets the lock.
///
/// The kernel holds the lock (flock(2)) and releases it when the process ends, however it ends, so a file that was left
/// behind is no obstacle. Nobody else can open it, and so nobody else can lock it. The file is never removed: another process may be about to lock it. Children do not inherit it.
package final class InstanceLock: Sendable {
    /// The file that is locked. It holds the process's id, for messages alone.
    package let path: FilePath
    private let descriptor: Int32

    /// Takes the lock, or says at once who holds it.
    ///
    /// - Parameters:
    ///   - directory: must exist, see `RuntimeDirectory.prepare`.
    ///   - name: the file's name.
    ///   - setting: the key that names the directory, for messages.
    /// - Throws: `busy` when another process holds it.
    package init(
        in directory: FilePath, name: String = "lock", setting: String = "RUNTIME_DIRECTORY"
    ) throws(InstanceLockError) {
        let path = directory.appending(name)
        self.path = path
        descriptor = try Self.lockedFile(at: path, setting: setting)
        Self.write(pid: getpid(), to: descriptor)
    }

    deinit {
        // Closing is not enough: a child that another thread is starting has a copy of the descriptor until it becomes its program.
        flock(descriptor, LOCK_UN)
        close(descriptor)
    }

    private static func lockedFile(at path: FilePath, setting: String) throws(InstanceLockError) -> Int32 {
        // Somebody may clean the directory between opening and locking: then the lock is on a file without a name, which
        // excludes nobody, and it is to be tried again with the file of that name.
        for _ in 0..<16 {
            let descriptor = open(path.string, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY, 0o600)
            guard descriptor >= 0 else { throw .unusable(path, setting: setting, Errno(rawValue: errno)) }
            // Whoever can read the file can lock it. An earlier version let everybody.
            fchmod(descriptor, 0o600)
            guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
                let code = errno
                defer { close(descriptor) }
                guard code == EWOULDBLOCK else { throw .unusable(path, setting: setting, Errno(rawValue: code)) }
                throw .busy(path, setting: setting, holder: readPID(descriptor))
            }
            if isFile(descriptor, at: path) { return descriptor }
            close(descriptor)
        }
        throw .unusable(path, setting: setting, .noSuchFileOrDirectory)
    }

    private static func isFile(_ descriptor: Int32, at path: FilePath) -> Bool {
        var opened = stat()
        var named = stat()
        return fstat(descriptor, &opened) == 0 && lstat(path.string, &named) == 0 && opened.st_ino == named.st_ino
            && opened.st_dev == named.st_dev
    }

    /// The number serves messages only, so that it could not be written is no reason not to start.
    private static func write(pid: pid_t, to descriptor: Int32) {
        guard ftruncate(descriptor, 0) == 0 else { return }
        let text = Array("\(pid)\n".utf8)
        _ = pwrite(descriptor, text, text.count, 0)
    }

    private static func readPID(_ descriptor: Int32) -> Int32? {
        var buffer = [UInt8](repeating: 0, count: 16)
        let count = pread(descriptor, &buffer, buffer.count, 0)
        guard count > 0 else { return nil }
        let digits = buffer[..<count].prefix { (0x30...0x39).contains($0) }
        return Int32(String(decoding: digits, as: UTF8.self))
    }
}

/// Why the lock could not be taken.
package enum InstanceLockError: Error, Hashable, Sendable, CustomStringConvertible {
    /// Another process holds it; which one, where the file says so.
    case busy(FilePath, setting: String, holder: Int32?)
    /// The file cannot be opened or locked.
    case unusable(FilePath, setting: String, Errno)

    /// The file, who holds it or what the system said, and the hint.
    package var description: String {
        switch self {
        case .busy(let path, let setting, let holder):
            let who = holder.map { "process \($0)" } ?? "another process"
            return "\(path): \(who) holds the lock; stop that instance (another service needs a \(setting) of its own)"
        case .unusable(let path, let setting, let code):
            return "\(path): the lock cannot be taken: \(code); let the daemon's user write there, or set \(setting)"
        }
    }

    /// What the process ends with.
    package var exitStatus: ProcessExitStatus {
        switch self {
        case .busy: .tryAgain
        case .unusable(_, _, .permissionDenied), .unusable(_, _, .notPermitted), .unusable(_, _, .readOnlyFileSystem):
            .notAllowed
        case .unusable: .failure
        }
    }
}
