import EventLoop
import Glibc
import JobCore
package import SystemPackage

/// A lock that makes this process the only instance of the daemon, for as long as the value exists.
///
/// The kernel holds the lock (flock(2)) and releases it when the process ends, so a file left over from a previous process does not matter. Other
/// users cannot open the file and therefore cannot lock it. The file is never removed: another process may be about to lock it. Child processes
/// do not inherit the lock, but one that a killed process was starting has it until it becomes its program.
package final class InstanceLock: Sendable {
    /// The name of the lock in STATE_DIRECTORY; another one than in RUNTIME_DIRECTORY, because both may be the same directory.
    package static let stateName = "state-lock"

    /// The locked file. It contains the process ID, for messages and to recognise a holder that has ended.
    package let path: FilePath
    private let descriptor: Int32

    /// Takes the lock. It waits only for what a process that has ended was starting.
    ///
    /// - Parameters:
    ///   - directory: must exist, see `RuntimeDirectory.prepare`.
    ///   - name: the file's name.
    ///   - setting: the key that names the directory, for messages.
    ///   - longestWait: the limit of that wait.
    /// - Throws: with the status `tryAgain` when another process holds it.
    package init(
        in directory: FilePath, name: String = "lock", setting: String = "RUNTIME_DIRECTORY",
        longestWait: Duration = .seconds(5)
    ) throws(CommandFailure) {
        let path = directory.appending(name)
        self.path = path
        descriptor = try Self.lockedFile(at: path, setting: setting, until: .now + longestWait)
        Self.write(pid: getpid(), to: descriptor)
    }

    deinit {
        // Closing is not enough: a child that another thread is starting has a copy of the descriptor until it becomes its program.
        flock(descriptor, LOCK_UN)
        close(descriptor)
    }

    private static func lockedFile(
        at path: FilePath, setting: String, until end: ContinuousClock.Instant
    ) throws(CommandFailure) -> Int32 {
        func unusable(_ code: Errno) -> CommandFailure {
            CommandFailure(
                path, "the lock cannot be taken", code, hint: "let the daemon's user write there, or set \(setting)",
                status: .failure)
        }
        // The file may be removed between open and lock. A lock on a removed file excludes no other process, so the file that has the name now is
        // locked instead.
        var renewals = 0
        while renewals < 16 {
            let descriptor = open(path.string, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY, 0o600)
            guard descriptor >= 0 else { throw unusable(Errno(rawValue: errno)) }
            // Every user who can read the file can lock it. An earlier version made it readable for all.
            fchmod(descriptor, 0o600)
            guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
                let code = errno
                defer { close(descriptor) }
                guard code == EWOULDBLOCK else { throw unusable(Errno(rawValue: code)) }
                let holder = readPID(descriptor)
                if let holder, kill(holder, 0) != 0, errno == ESRCH, .now < end {
                    usleep(10_000)
                    continue
                }
                throw CommandFailure(
                    "\(path): \(holder.map { "process \($0)" } ?? "another process") holds the lock",
                    hint:
                        "if it has just been started, try again; else stop that instance (a service for other accounts needs a \(setting) of its own, one for the same accounts CLAIM)",
                    status: .tryAgain)
            }
            if isFile(descriptor, at: path) { return descriptor }
            close(descriptor)
            renewals += 1
        }
        throw unusable(.noSuchFileOrDirectory)
    }

    /// The process that holds a lock; nil: none does, or the file may not be read. The lock itself is not touched, which could keep a daemon from its
    /// start.
    package static func holder(in directory: FilePath, name: String = "lock") -> Int32? {
        let descriptor = open(
            directory.appending(name).string, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0, let holder = readPID(descriptor),
            let locks = try? FilePath("/proc/locks").reading(
                [], { file throws(Errno) in try file.bytes(atMost: 1 << 20) })
        else { return nil }
        // `1: FLOCK  ADVISORY  WRITE 4711 08:01:131074 0 EOF`. On btrfs the device is another one than that of stat(2).
        let isHeld = String(decoding: locks, as: UTF8.self).split(separator: "\n").contains { line in
            let words = line.split(separator: " ")
            return words.count > 5 && words[1] == "FLOCK" && words[4] == "\(holder)"
                && words[5].hasSuffix(":\(status.st_ino)")
        }
        return isHeld ? holder : nil
    }

    private static func isFile(_ descriptor: Int32, at path: FilePath) -> Bool {
        var opened = stat()
        var named = stat()
        return fstat(descriptor, &opened) == 0 && lstat(path.string, &named) == 0 && opened.st_ino == named.st_ino
            && opened.st_dev == named.st_dev
    }

    /// Without the process ID messages do not name this process, and nothing else is lost, so an error is not reported.
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

/// Creates and checks a directory of the daemon.
package enum RuntimeDirectory {
    /// Creates the directory and its parents if they are missing, and checks who can change them.
    ///
    /// - Parameters:
    ///   - path: absolute.
    ///   - mode: of a new directory, regardless of the umask; an existing one keeps its mode.
    /// - Throws: if it cannot be created, is not a directory, or another user could change it or a parent directory.
    package static func prepare(_ path: FilePath, mode: UInt32 = 0o755) throws(CommandFailure) {
        guard path.isAbsolute else {
            throw CommandFailure(
                "\(path): is not an absolute path", hint: "write it from /", status: .wrongConfiguration)
        }
        try create(path.lexicallyNormalized(), mode: mode)
        do throws(FileTrustError) {
            try FileTrust.check(path, as: .directory)
        } catch {
            throw CommandFailure(
                "\(path): \(error.findingOfFile)", hint: error.hint, status: .wrongConfiguration)
        }
        guard access(path.string, W_OK | X_OK) == 0 else {
            throw failure(path, "cannot be written", errno)
        }
    }

    private static func create(_ path: FilePath, mode: UInt32) throws(CommandFailure) {
        var isMade = mkdir(path.string, mode) == 0
        if !isMade, errno == ENOENT, path.removingLastComponent() != path {
            try create(path.removingLastComponent(), mode: 0o755)
            isMade = mkdir(path.string, mode) == 0
        }
        guard isMade || errno == EEXIST else { throw failure(path, "cannot be created", errno) }
        guard !isMade || chmod(path.string, mode) == 0 else { throw failure(path, "cannot be given its mode", errno) }
    }

    private static func failure(_ path: FilePath, _ reason: String, _ code: Int32) -> CommandFailure {
        CommandFailure(
            path, reason, Errno(rawValue: code), hint: "let the daemon's user write there, or name another directory",
            status: .wrongConfiguration)
    }
}
