import CLinux
import Glibc
import Synchronization
import SystemPackage

/// Where each script gets a cgroup of its own (cgroups(7), version 2): in the one of this process, if it may make others there. systemd allows that to a
/// unit with `Delegate=yes`.
package struct CgroupParent: Sendable {
    /// Why scripts get none, and how to change that.
    package struct Obstacle: Error, Hashable, Sendable, CustomStringConvertible {
        let reason: String
        package var description: String {
            "\(reason); let systemd delegate the daemon's cgroup (Delegate=yes in the unit, a machine with cgroup version 2)"
        }
    }

    /// That of this process, as it was found when it was first asked for. Finding it blocks.
    package static let own = Result { () throws(Obstacle) in try CgroupParent() }

    let path: FilePath
    /// It stays open for good.
    private let directory: Int32
    private static let made = Atomic(0)
    /// Those with a process in them that did not end in time: it may have ended since.
    private static let unremoved = Mutex<[ScriptCgroup]>([])

    private init() throws(Obstacle) {
        let path = try Self.ownPath()
        let directory = open(path.string, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard directory >= 0 else { throw Obstacle(reason: "\(path) cannot be opened (\(Errno(rawValue: errno)))") }
        self.init(path: path, directory: directory)
        do throws(Obstacle) {
            try proveUse()
        } catch {
            close(directory)
            throw error
        }
        removeAbandoned()
    }

    private init(path: FilePath, directory: Int32) {
        self.path = path
        self.directory = directory
    }

    /// The file system may be mounted anywhere, and only a part of it.
    private static func ownPath() throws(Obstacle) -> FilePath {
        guard let own = lines("/proc/self/cgroup").first(where: { $0.hasPrefix("0::/") })?.dropFirst(3) else {
            throw Obstacle(reason: "this process is in no cgroup of version 2")
        }
        for line in lines("/proc/self/mountinfo") {
            let fields = line.split(separator: " ")
            guard let dash = fields.firstIndex(of: "-"), dash > 4, fields.dropFirst(dash + 1).first == "cgroup2" else {
                continue
            }
            let (root, point) = (FilePath(String(fields[3])), FilePath(String(fields[4])))
            var rest = FilePath(String(own))
            if rest.removePrefix(root) { return point.pushing(rest) }
        }
        throw Obstacle(reason: "no file system of type cgroup2 is mounted that shows \(own)")
    }

    private static func lines(_ file: String) -> [Substring] {
        guard let file = fopen(file, "re") else { return [] }
        defer { fclose(file) }
        var text: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 64 * 1024)
        while case let count = fread(&buffer, 1, buffer.count, file), count > 0 { text += buffer.prefix(count) }
        return String(decoding: text, as: UTF8.self).split(separator: "\n")
    }

    /// A cgroup that can be made need not be one that a process can be started in, and before Linux 5.14 it cannot be killed.
    private func proveUse() throws(Obstacle) {
        let cgroup: ScriptCgroup
        do throws(Errno) { cgroup = try make() } catch {
            throw Obstacle(reason: "no cgroup can be made in \(path) (\(error))")
        }
        defer { Self.remove(cgroup) }
        let fault = clinux_try_cgroup(cgroup.directory)
        guard fault == 0 else {
            throw Obstacle(reason: "no process can be started in a cgroup in \(path) (\(Errno(rawValue: fault)))")
        }
        guard faccessat(cgroup.directory, "cgroup.kill", W_OK, 0) == 0 else {
            throw Obstacle(reason: "the kernel has no cgroup.kill (it needs Linux 5.14)")
        }
    }

    // MARK: - The cgroups in it

    private static let prefix = "script-"

    /// Makes one. It blocks.
    /// - Parameter instance: who runs the script, by which another process finds it later; nil: nobody is to.
    func make(for instance: String? = nil) throws(Errno) -> ScriptCgroup {
        let number = Self.made.add(1, ordering: .relaxed).newValue
        let name = "\(Self.prefix)\(Self.key(of: instance))-\(getpid())-\(number)"
        Self.unremoved.withLock { $0.removeAll { $0.isRemoved() } }
        guard mkdirat(directory, name, 0o755) == 0 else { throw Errno(rawValue: errno) }
        do throws(Errno) {
            return try ScriptCgroup(name, in: directory)
        } catch {
            unlinkat(directory, name, AT_REMOVEDIR)
            throw error
        }
    }

    /// Takes one away, now or before another is made. It blocks, see ``ScriptCgroup/remove()``.
    static func remove(_ cgroup: ScriptCgroup) {
        if !cgroup.remove() { unremoved.withLock { $0.append(cgroup) } }
    }

    /// Those that an earlier process of an instance has left. Only where the instance's lock is held are they nobody's.
    func left(by instance: String) -> [ScriptCgroup] {
        let prefix = "\(Self.prefix)\(Self.key(of: instance))-"
        return names().filter { $0.hasPrefix(prefix) && Self.maker(of: $0) != getpid() }
            .compactMap { name in try? ScriptCgroup(name, in: directory) }
    }

    /// Takes away the empty ones of processes that were killed; those with processes in them are somebody's to end.
    private func removeAbandoned() {
        for name in names() where Self.maker(of: name).map({ kill($0, 0) != 0 && errno == ESRCH }) ?? false {
            unlinkat(directory, name, AT_REMOVEDIR)
        }
    }

    private func names() -> [String] { ScriptCgroup.directories(in: directory).filter { $0.hasPrefix(Self.prefix) } }

    private static func maker(of name: String) -> pid_t? {
        let parts = name.split(separator: "-")
        return parts.count == 4 ? pid_t(parts[2]) : nil
    }

    /// An instance's name is a path, and the name of a cgroup can hold none: its FNV-1a hash of 64 bits.
    static func key(of instance: String?) -> String {
        guard let instance else { return "0" }
        let hash = instance.utf8.reduce(0xcbf2_9ce4_8422_2325 as UInt64) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
        return String(hash, radix: 16)
    }
}
