import CLinux
import EventLoop
import Glibc
import SystemPackage

/// Everything that a program has started and that is still there.
///
/// Of a script that is what is in its cgroup (``ScriptCgroup``), or what descends from its init process (``ScriptInit``). Of a program that has neither it
/// is the session that it leads, and whatever made a session of its own (setsid, a double fork) but carries the program's marker in its environment:
/// 128 random bits in the variable `PROV_SESSION`, which every descendant inherits. Not found are then a process that wiped its environment or
/// overwrote it, and one that made a session of its own and took on a user other than root, this process's and those given: environments of
/// strangers are not looked into, since a stranger can make whoever reads his wait for ever.
///
/// Looking for processes may block, so it is done away from the threads of tasks.
///
/// The leader's number is the session's number. It cannot be given to another process while the leader has not been reaped, so a value of
/// this type is to be used only until then.
struct ScriptSession: Sendable {
    struct Member: Hashable, Sendable, CustomStringConvertible {
        var process: pid_t
        var name: String

        var description: String { "\(name) (\(process))" }
    }

    /// By what its processes are told from all others.
    enum Extent: Sendable {
        case cgroup(ScriptCgroup)
        case descendants(of: ScriptInit)
        /// Besides the session of the leader. Environments of processes of other users than these are not looked into.
        case carriers(of: ScriptMarker, users: Set<UInt32>)
    }

    /// nil: whatever session they are in, the extent alone counts.
    let leader: pid_t?
    let extent: Extent

    /// Everything that a script has started.
    init(leader: pid_t?, extent: Extent) {
        self.leader = leader
        self.extent = extent
    }

    /// The leader's session, and everything that carries a marker.
    /// - Parameters:
    ///   - leader: nil: in whatever session.
    ///   - users: as whom they may run besides root and this process's user.
    init(leader: pid_t? = nil, carrying marker: ScriptMarker, users: Set<UInt32> = []) {
        // A process that may not be traced shows as root's.
        self.init(leader: leader, extent: .carriers(of: marker, users: users.union([0, geteuid()])))
    }

    /// Sends the signals, in their order, to everything that the script has started.
    ///
    /// The leader's process group gets them in one step, so that no fork slips through; the others (a shell with job control makes process
    /// groups, too) one by one.
    func signal(_ numbers: Int32...) async {
        if let leader, isLeaderHeld { for number in numbers { kill(-leader, number) } }
        await BlockingWork.run {
            if numbers == [SIGKILL], killAll() { return }
            do throws(Errno) {
                for member in try search().members where getpgid(member.process) != leader {
                    send(numbers, to: member.process)
                }
            } catch {
                // Without /proc the others cannot be found. The sweep at the end meets the same error and reports it.
            }
        }
    }

    /// Whether the leader's number cannot have been given to another process.
    private var isLeaderHeld: Bool {
        if case .descendants(let root) = extent { return root.holdsScript }
        return true
    }

    /// SIGKILL for all that there are, so that no fork escapes.
    /// - Returns: false where they are to be killed one by one.
    func killAll() -> Bool {
        switch extent {
        case .cgroup(let cgroup): return cgroup.kill()
        case .descendants(let root):
            root.killAll()
            return ScriptInit.canListChildren
        case .carriers: return false
        }
    }

    /// It may have gone since it was listed, and its number may be another's: so it is held before it is looked at once more.
    private func send(_ numbers: [Int32], to process: pid_t) {
        let held = clinux_pidfd_open(process)
        guard held >= 0 else { return }
        defer { close(held) }
        guard isPresent(process) else { return }
        for number in numbers { _ = clinux_pidfd_send_signal(held, number) }
    }

    /// Whether it is certain, by what can be told without ever blocking, that nothing is left when the leader has ended.
    var leavesNothing: Bool {
        switch extent {
        case .cgroup(let cgroup): cgroup.isEmpty
        case .descendants(let root): root.hasNoOthers
        case .carriers: false
        }
    }

    /// What is left when the leader has ended: the processes that are alive, not those that wait to be reaped. It blocks.
    ///
    /// None means none: what ends while it is looked for may have started another just before, so the search is repeated until nothing has.
    /// - Throws: when /proc cannot be read.
    func members() throws(Errno) -> [Member] {
        if case .cgroup(let cgroup) = extent { return try members(of: cgroup) }
        // The leader's own end was waited for.
        var gone = Set(leader.map { [$0] } ?? [])
        for _ in 0..<Self.mostSearches {
            let found = try search()
            if !found.members.isEmpty || found.gone.isSubset(of: gone) { return found.members }
            gone.formUnion(found.gone)
        }
        return []
    }

    /// The kernel says whether there are any; which they are may change faster than their names can be read.
    private func members(of cgroup: ScriptCgroup) throws(Errno) -> [Member] {
        for _ in 0..<Self.mostSearches {
            let members = try living(in: cgroup)
            if !members.isEmpty || cgroup.isEmpty { return members }
        }
        return [Member(process: try cgroup.processes().first ?? 0, name: "?")]
    }

    private func living(in cgroup: ScriptCgroup) throws(Errno) -> [Member] {
        try cgroup.processes().sorted().compactMap { process in
            ProcessStat(of: process).flatMap { $0.isAlive ? Member(process: process, name: $0.name) : nil }
        }
    }

    /// On a machine where processes end all the time one search in so many is undisturbed, or none ever is.
    private static let mostSearches = 20

    /// Those of some members that are still there: much cheaper than to look for all. It blocks.
    func remaining(of members: [Member]) -> [Member] { members.filter { isPresent($0.process) } }

    private func isPresent(_ process: pid_t) -> Bool {
        switch extent {
        case .cgroup(let cgroup):
            return cgroup.holds(process) && ProcessStat(of: process)?.isAlive == true
        case .descendants(let root): return root.isAncestor(of: process)
        case .carriers(let marker, let users): return presence(of: marker, of: users, in: process) == .present
        }
    }

    /// - Returns: the members, and what had ended since the kernel listed it, member or not.
    private func search() throws(Errno) -> (members: [Member], gone: Set<pid_t>) {
        switch extent {
        case .cgroup(let cgroup): return (try living(in: cgroup), [])
        case .descendants(let root):
            let found = try root.descendants().map { Member(process: $0.key, name: $0.value.name) }
            return (found.sorted { $0.process < $1.process }, [])
        case .carriers(let marker, let users): return try carriers(of: marker, of: users)
        }
    }

    private func carriers(
        of marker: ScriptMarker, of users: Set<UInt32>
    ) throws(Errno) -> (members: [Member], gone: Set<pid_t>) {
        var members: [Member] = []
        var gone: Set<pid_t> = []
        for process in try ProcessStat.numbers() {
            switch presence(of: marker, of: users, in: process) {
            case .absent: break
            case .gone: gone.insert(process)
            case .present:
                if let stat = ProcessStat(of: process), stat.isAlive {
                    members.append(Member(process: process, name: stat.name))
                } else {
                    gone.insert(process)
                }
            }
        }
        return (members, gone)
    }

    private func presence(
        of marker: ScriptMarker, of users: Set<UInt32>, in process: pid_t
    ) -> ScriptMarker.Presence {
        // In the order of the costs.
        let session = getsid(process)
        if session < 0 { return errno == ESRCH ? .gone : .absent }
        if session == leader { return ProcessStat(of: process)?.isAlive == true ? .present : .gone }
        var status = stat()
        guard stat("/proc/\(process)", &status) == 0 else { return .gone }
        // Only the kernel's own threads have no session, and whoever came into this container from outside.
        guard session != 0, process != getpid(), users.contains(status.st_uid) else { return .absent }
        return marker.presence(in: process)
    }
}
