import CLinux
import EventLoop
import Glibc
import Synchronization
import SystemPackage

/// The cgroup of one script. It contains everything that the script starts. Only root can move a process out of it;
/// processes that others start for the script (systemd, at, cron) are not in it.
final class ScriptCgroup: Sendable {
    private let name: String
    private let parent: Int32
    let directory: Int32

    /// - Parameter parent: a descriptor that must stay open for the lifetime of this value.
    init(_ name: String, in parent: Int32) throws(Errno) {
        directory = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard directory >= 0 else { throw Errno(rawValue: errno) }
        self.name = name
        self.parent = parent
    }

    deinit { close(directory) }

    /// Whether certainly no process in it is alive. It does not block.
    var isEmpty: Bool {
        (try? Self.text("cgroup.events", in: directory))?.split(separator: "\n").contains("populated 0") ?? false
    }

    /// The processes in it and in cgroups that the script has created in it, including dead ones until the kernel
    /// releases them.
    func processes() throws(Errno) -> Set<pid_t> {
        let text: String
        do throws(Errno) { text = try Self.text("cgroup.procs", in: directory) } catch .noSuchFileOrDirectory,
            .operationNotSupportedByDevice
        {
            // Another daemon may have removed it, which it does with empty ones.
            return []
        }
        var found = Set(text.split(separator: "\n").compactMap { pid_t($0) })
        for name in Self.directories(in: directory) {
            // It may be removed at any time.
            found.formUnion((try? ScriptCgroup(name, in: directory).processes()) ?? [])
        }
        return found
    }

    /// Whether a process is in it, or in a cgroup that the script has created in it.
    func holds(_ process: pid_t) -> Bool {
        guard let text = try? Self.text("/proc/\(process)/cgroup", in: AT_FDCWD) else { return false }
        return text.contains("/\(name)\n") || text.contains("/\(name)/")
    }

    /// Kills all its processes at once, including those that are just being forked.
    /// - Returns: false if the kernel refused.
    func kill() -> Bool {
        let file = openat(directory, "cgroup.kill", O_WRONLY | O_CLOEXEC)
        guard file >= 0 else { return false }
        defer { close(file) }
        return write(file, "1", 1) == 1
    }

    /// Removes it when it is empty. It blocks for at most four seconds, because the kernel may release a process a
    /// moment after reporting its end.
    /// - Returns: false if a process in it does not end.
    func remove() -> Bool {
        for attempt in 0..<12 {
            if isRemoved() { return true }
            usleep(1_000 << attempt)
        }
        return false
    }

    /// - Returns: whether it is gone, or can never be removed.
    func isRemoved() -> Bool {
        if unlinkat(parent, name, AT_REMOVEDIR) == 0 || errno != EBUSY { return true }
        for name in Self.directories(in: directory) { _ = (try? ScriptCgroup(name, in: directory))?.isRemoved() }
        return unlinkat(parent, name, AT_REMOVEDIR) == 0 || errno != EBUSY
    }

    /// The names of the directories in a directory; none if it cannot be read.
    static func directories(in directory: FilePath) -> [String] {
        ((try? directory.entries()) ?? []).filter { $0.type == UInt8(DT_DIR) }.map(\.name)
    }

    /// The names of the cgroups in one that is open.
    static func directories(in directory: Int32) -> [String] { directories(in: FilePath("/proc/self/fd/\(directory)")) }

    /// The contents of a small file of the kernel.
    static func text(_ file: String, in directory: Int32) throws(Errno) -> String {
        let file = openat(directory, file, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { throw Errno(rawValue: errno) }
        defer { close(file) }
        return String(decoding: try FileDescriptor(rawValue: file).bytes(atMost: .max), as: UTF8.self)
    }
}

/// The directory in which each script gets a cgroup (cgroups(7), version 2): this process's own cgroup, if it may
/// create others there. systemd allows that to a unit with `Delegate=yes`.
package struct CgroupParent: Sendable {
    /// Why scripts get no cgroups, and how to change that.
    package struct Obstacle: Error, Hashable, Sendable, CustomStringConvertible {
        let reason: String
        package var description: String {
            "\(reason); let systemd delegate the daemon's cgroup (Delegate=yes in the unit, a machine with cgroup version 2)"
        }
    }

    /// The one of this process, determined at first use, which blocks.
    package static let own = Result { () throws(Obstacle) in try CgroupParent() }

    let path: FilePath
    /// Never closed.
    private let directory: Int32
    private static let made = Atomic(0)
    /// Cgroups that could not be removed because a process in them did not end in time.
    private static let unremoved = Mutex<[ScriptCgroup]>([])

    private init() throws(Obstacle) {
        let path = try Self.ownPath()
        let directory = open(path.string, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard directory >= 0 else { throw Obstacle(reason: "\(path) cannot be opened (\(Errno(rawValue: errno)))") }
        self.init(path: path, directory: directory)
        do throws(Obstacle) {
            try checkUse()
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

    /// The file system may be mounted anywhere, and partially.
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
        let text = try? ScriptCgroup.text(file, in: AT_FDCWD)
        return text?.split(separator: "\n") ?? []
    }

    /// Creating a cgroup may succeed although no process can be started in it, and before Linux 5.14 a cgroup cannot
    /// be killed.
    private func checkUse() throws(Obstacle) {
        let cgroup: ScriptCgroup
        do throws(Errno) { cgroup = try make() } catch {
            throw Obstacle(reason: "no cgroup can be created in \(path) (\(error))")
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

    /// Creates a cgroup. It blocks.
    /// - Parameter instance: identifies the daemon, so that a later process of it finds the cgroup; nil: any daemon
    ///   in the same cgroup finds it when this process has ended.
    func make(for instance: String? = nil) throws(Errno) -> ScriptCgroup {
        let number = Self.made.add(1, ordering: .relaxed).newValue
        let name = "\(Self.prefix(of: instance))\(Self.namespace)-\(getpid())-\(number)"
        Self.unremoved.withLock { $0.removeAll { $0.isRemoved() } }
        guard mkdirat(directory, name, 0o755) == 0 else { throw Errno(rawValue: errno) }
        do throws(Errno) {
            return try ScriptCgroup(name, in: directory)
        } catch {
            unlinkat(directory, name, AT_REMOVEDIR)
            throw error
        }
    }

    /// Removes a cgroup now, or before another one is created. It blocks, see ``ScriptCgroup/remove()``.
    static func remove(_ cgroup: ScriptCgroup) {
        if !cgroup.remove() { unremoved.withLock { $0.append(cgroup) } }
    }

    /// The cgroups of an earlier process of an instance, which are unused only while the instance's lock is held, and those of no instance
    /// whose process has ended.
    func left(by instance: String) -> [ScriptCgroup] {
        let (own, common) = (Self.prefix(of: instance), Self.prefix(of: nil))
        return names().filter {
            $0.hasPrefix(own) && !Self.isOwn($0) || $0.hasPrefix(common) && Self.isAbandoned($0)
        }.compactMap { name in try? ScriptCgroup(name, in: directory) }
    }

    /// Removes the empty cgroups of killed processes.
    func removeAbandoned() {
        for name in names() where Self.isAbandoned(name) { unlinkat(directory, name, AT_REMOVEDIR) }
    }

    /// Whether its maker has ended. The numbers of another PID namespace tell nothing.
    private static func isAbandoned(_ name: String) -> Bool {
        guard let maker = maker(of: name), maker.namespace == namespace else { return false }
        return kill(maker.process, 0) != 0 && errno == ESRCH
    }

    private static func isOwn(_ name: String) -> Bool { maker(of: name).map { $0 == (namespace, getpid()) } ?? false }

    /// The number of this process's PID namespace.
    static let namespace: String = {
        var status = stat()
        return stat("/proc/self/ns/pid", &status) == 0 ? String(status.st_ino, radix: 16) : "0"
    }()

    private static func prefix(of instance: String?) -> String { "\(prefix)\(key(of: instance))-" }

    private func names() -> [String] { ScriptCgroup.directories(in: directory).filter { $0.hasPrefix(Self.prefix) } }

    /// - Returns: nil for a name of an older version.
    private static func maker(of name: String) -> (namespace: String, process: pid_t)? {
        let parts = name.split(separator: "-")
        guard parts.count == 5, let process = pid_t(parts[3]) else { return nil }
        return (String(parts[2]), process)
    }

    /// The FNV-1a hash (64 bits) of an instance's name, which is a path and cannot be part of a cgroup's name.
    static func key(of instance: String?) -> String {
        guard let instance else { return "0" }
        let hash = instance.utf8.reduce(0xcbf2_9ce4_8422_2325 as UInt64) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
        return String(hash, radix: 16)
    }
}

/// Ends the leftover processes of an earlier daemon of this instance, or of a command in the same cgroup, that could
/// not end its scripts itself (kill -9, the OOM killer).
///
/// They are found by the cgroup, which has the instance in its name, and by the environment, which contains the path
/// of the report socket. An init process (``ScriptInit``) that has outlived its daemon ends the script's processes
/// and itself. The instance's lock must be held.
public enum LeftoverProcesses {
    /// Ends them: SIGTERM, the grace period, then SIGKILL.
    /// - Parameters:
    ///   - socket: the path of the instance's report socket, as in the environment of jobs.
    ///   - users: the users of scripts besides root and this process's user; the environments of other users'
    ///     processes are not read.
    ///   - grace: the grace period.
    /// - Returns: the leftover processes, by name and number, with a note for those that did not end.
    public static func end(reportingTo socket: String, users: Set<UInt32> = [], grace: Duration) async -> [String] {
        let grace = grace.boundedForSleep
        let cgroups = await BlockingWork.run { (try? CgroupParent.own.get())?.left(by: socket) ?? [] }
        var ended: [String] = []
        for cgroup in cgroups {
            ended += await ProcessTree(leader: nil, extent: .cgroup(cgroup)).sweep(grace: grace)
            await BlockingWork.run { CgroupParent.remove(cgroup) }
        }
        let marker = ScriptMarker(variable: RunningAttempt.reportSocketVariable, text: socket)
        return ended + (await ProcessTree(carrying: marker, users: users).sweep(grace: grace))
    }

    /// How leftover processes can escape, and why: scripts have no cgroups. nil: they cannot. The first call blocks.
    package static var escape: String? {
        guard case .failure(let obstacle) = CgroupParent.own else { return nil }
        let forks = ScriptInit.canListChildren ? "" : "starts processes faster than they can be listed, or "
        return """
            a script that \(forks)kills its parent process (\(ScriptInit.name)), which one that runs as the daemon's own user can, \
            may leave processes running: \(obstacle)
            """
    }
}
