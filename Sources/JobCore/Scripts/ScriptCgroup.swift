import CLinux
import Glibc
import SystemPackage

/// The cgroup of one script. Everything that the script starts is in it, whatever it does to its sessions and its environment; out of it comes only a process
/// that root moves to another one, or that somebody else starts on the script's behalf (systemd, at, cron).
final class ScriptCgroup: Sendable {
    private let name: String
    private let parent: Int32
    let directory: Int32

    /// - Parameter parent: must stay open for as long as this value lives.
    init(_ name: String, in parent: Int32) throws(Errno) {
        directory = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard directory >= 0 else { throw Errno(rawValue: errno) }
        self.name = name
        self.parent = parent
    }

    deinit { close(directory) }

    /// Whether it is certain that no process in it is alive. It does not block.
    var isEmpty: Bool { Self.text("cgroup.events", in: directory)?.contains("populated 0") ?? false }

    /// The processes in it and in cgroups that the script has made in it; the dead ones, too, until the kernel has let go of them.
    func processes() throws(Errno) -> Set<pid_t> {
        guard let text = Self.text("cgroup.procs", in: directory) else { throw Errno(rawValue: errno) }
        var found = Set(text.split(separator: "\n").compactMap { pid_t($0) })
        for name in Self.directories(in: directory) {
            // It may go at any time.
            found.formUnion((try? ScriptCgroup(name, in: directory).processes()) ?? [])
        }
        return found
    }

    /// Moves a process into it; what it starts from then on is there, too. It blocks.
    /// - Returns: false when the kernel refused.
    func take(_ process: pid_t) -> Bool {
        let file = openat(directory, "cgroup.procs", O_WRONLY | O_CLOEXEC)
        guard file >= 0 else { return false }
        defer { close(file) }
        let text = "\(process)"
        return write(file, text, text.utf8.count) == text.utf8.count
    }

    /// Whether a process is in it, or in one that the script has made in it.
    func holds(_ process: pid_t) -> Bool {
        guard let text = Self.text("/proc/\(process)/cgroup", in: AT_FDCWD) else { return false }
        return text.contains("/\(name)\n") || text.contains("/\(name)/")
    }

    /// SIGKILL for all that are in it, in one step which no fork escapes.
    /// - Returns: false when the kernel refused.
    func kill() -> Bool {
        let file = openat(directory, "cgroup.kill", O_WRONLY | O_CLOEXEC)
        guard file >= 0 else { return false }
        defer { close(file) }
        return write(file, "1", 1) == 1
    }

    /// Takes it away when it is empty. It blocks, for four seconds at most: the kernel may let go of a process a moment after it has told of its end.
    /// - Returns: false where a process in it does not end.
    func remove() -> Bool {
        for attempt in 0..<12 {
            if isRemoved() { return true }
            usleep(1_000 << attempt)
        }
        return false
    }

    /// - Returns: whether it is gone, or cannot be taken away later either.
    func isRemoved() -> Bool {
        if unlinkat(parent, name, AT_REMOVEDIR) == 0 || errno != EBUSY { return true }
        for name in Self.directories(in: directory) { _ = (try? ScriptCgroup(name, in: directory))?.isRemoved() }
        return unlinkat(parent, name, AT_REMOVEDIR) == 0 || errno != EBUSY
    }

    static func directories(in directory: Int32) -> [String] {
        let copy = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard copy >= 0, let list = fdopendir(copy) else { return [] }
        defer { closedir(list) }
        var names: [String] = []
        while let entry = readdir(list) {
            let name = withUnsafeBytes(of: &entry.pointee.d_name) {
                String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
            }
            if entry.pointee.d_type == UInt8(DT_DIR), name != ".", name != ".." { names.append(name) }
        }
        return names
    }

    /// The contents of a small file of the kernel's; nil, with errno: it cannot be read.
    static func text(_ file: String, in directory: Int32) -> String? {
        let file = openat(directory, file, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { return nil }
        var text: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 4_096)
        while true {
            let count = read(file, &buffer, buffer.count)
            if count < 0, errno == EINTR { continue }
            guard count > 0 else {
                let reason = errno
                close(file)
                errno = reason
                return count == 0 ? String(decoding: text, as: UTF8.self) : nil
            }
            text += buffer[..<count]
        }
    }
}
