import CLinux
import Glibc
import SystemPackage

/// Everything that a script has started and that is still there: what is in its cgroup, where it has one (``ScriptCgroup``). Where it has none: the session
/// that it leads, and whatever made a session of its own (setsid, a double fork) but carries the script's marker in its environment.
///
/// The marker is 128 random bits in the variable `PROV_SESSION`, which every descendant inherits. Not found are a process that wiped its
/// environment or overwrote it, and one that made a session of its own and took on a user other than root, this process's and the script's:
/// environments of strangers are not looked into, since a stranger can make whoever reads his wait for ever.
///
/// Looking for them is getsid(2) for every process that was started since the script was, or for all of the machine when that was long ago; and of those in
/// sessions unknown to us, stat(2) and a small file of /proc for the users that matter. That may block, so it is done away from the threads of
/// tasks; after a short script that leaves nothing behind it is mostly not needed (``leavesNothing``).
///
/// The leader's number is the session's number. It cannot be given to another process while the leader has not been reaped, so a value of
/// this type is to be used only until then.
struct ScriptSession: Sendable {
    struct Member: Hashable, Sendable, CustomStringConvertible {
        var process: pid_t
        var name: String

        var description: String { "\(name) (\(process))" }
    }

    /// nil: whatever session they are in, the marker alone counts.
    let leader: pid_t?
    let marker: ScriptMarker
    /// The users whose processes' environments are looked into.
    let users: Set<UInt32>
    /// Where everything that the script has started is found while it has not run for long.
    let later: LaterProcesses?
    /// Where all of it is, and nothing else; nil: it is searched for among the machine's processes.
    let cgroup: ScriptCgroup?

    /// - Parameters:
    ///   - user: as whom the script runs; nil: as this process.
    ///   - later: than the leader; nil: all processes of the machine are looked at.
    init(
        leader: pid_t, marker: ScriptMarker, user: UInt32? = nil, later: LaterProcesses? = nil,
        cgroup: ScriptCgroup? = nil
    ) {
        self.leader = leader
        self.cgroup = cgroup
        self.marker = marker
        self.later = later
        // A process that may not be traced shows as root's.
        users = [0, geteuid(), user ?? 0]
    }

    /// Everything in the cgroup of a script that nobody waits for.
    init(of cgroup: ScriptCgroup) {
        leader = nil
        later = nil
        marker = ScriptMarker()
        users = []
        self.cgroup = cgroup
    }

    /// Everything that carries a marker, in whatever session.
    /// - Parameter users: as whom they may run besides root and this process's user.
    init(carrying marker: ScriptMarker, users: Set<UInt32>) {
        leader = nil
        later = nil
        cgroup = nil
        self.marker = marker
        self.users = users.union([0, geteuid()])
    }

    /// Sends the signals, in their order, to everything that the script has started.
    ///
    /// The leader's process group gets them in one step, so that no fork slips through; the others (a shell with job control makes process
    /// groups, too) one by one.
    func signal(_ numbers: Int32...) async {
        if let leader { for number in numbers { kill(-leader, number) } }
        await BlockingWork.run {
            if numbers == [SIGKILL], let cgroup, cgroup.kill() { return }
            do throws(Errno) {
                for member in try search().members where getpgid(member.process) != leader {
                    send(numbers, to: member.process)
                }
            } catch {
                // Without /proc the others cannot be found. The sweep at the end meets the same error and reports it.
            }
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
    ///
    /// Sessions are made or inherited, never entered. So nothing that this script has started is in our own session, or in one that another child
    /// of ours has made: what it leaves behind becomes a child of another process than us.
    var leavesNothing: Bool {
        if let cgroup { return cgroup.isEmpty }
        guard let later else { return false }
        var isCertain = true
        let isComplete = later.visit { process in
            let session = getsid(process)
            isCertain = session < 0 ? errno == ESRCH : isOfOthers(session)
            return isCertain
        }
        return isComplete && isCertain
    }

    /// Whether nothing that the script has started can be in a session.
    private func isOfOthers(_ session: pid_t) -> Bool {
        // Only the kernel's own threads have none, and whoever came into this container from outside: many, and no script's.
        if session == 0 { return true }
        guard leader != nil, session != leader, !Self.becomesParent else { return false }
        return session == getsid(0) || Self.isChild(session)
    }

    /// Whether processes that lose their parent may become children of this one: then it cannot tell them from those that it has started.
    private static let becomesParent = getpid() == 1 || clinux_is_subreaper() != 0

    private static func isChild(_ process: pid_t) -> Bool {
        var nothing = siginfo_t()
        return waitid(P_PID, id_t(process), &nothing, WEXITED | WNOHANG | WNOWAIT) == 0
    }

    /// What is left when the leader has ended: the processes that are alive, not those that wait to be reaped. It blocks.
    ///
    /// None means none: what ends while it is looked for may have started another just before, so the search is repeated until nothing has.
    /// - Throws: when /proc cannot be read.
    func members() throws(Errno) -> [Member] {
        if let cgroup { return try members(of: cgroup) }
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
        guard let cgroup else { return presence(in: process) == .present }
        guard let all = try? cgroup.processes(), all.contains(process) else { return false }
        return ProcessStat(of: process)?.isAlive == true
    }

    /// - Returns: the members, and what had ended since the kernel listed it, member or not.
    private func search() throws(Errno) -> (members: [Member], gone: Set<pid_t>) {
        if let cgroup { return (try living(in: cgroup), []) }
        var members: [Member] = []
        var gone: Set<pid_t> = []
        func look(at process: pid_t) {
            switch presence(in: process) {
            case .absent: break
            case .gone: gone.insert(process)
            case .present:
                guard let stat = ProcessStat(of: process), stat.isAlive else {
                    gone.insert(process)
                    return
                }
                // Threads have numbers, too.
                guard isProcess(process) else { return }
                members.append(Member(process: process, name: stat.name))
            }
        }
        let isComplete = later?.visit {
            look(at: $0)
            return true
        }
        // Numbers that were given while it went on have been looked at, too: what has gone has left nothing unseen.
        if isComplete == true { return (members, []) }
        members = []
        gone = []
        guard let folder = opendir("/proc") else { throw Errno(rawValue: errno) }
        defer { closedir(folder) }
        while let entry = readdir(folder) {
            let process = withUnsafeBytes(of: &entry.pointee.d_name) { name in
                name.baseAddress.map { pid_t(clamping: strtol($0.assumingMemoryBound(to: CChar.self), nil, 10)) } ?? 0
            }
            if process > 0 { look(at: process) }
        }
        return (members, gone)
    }

    /// Whether a number is that of a whole process: no other can be held.
    private func isProcess(_ number: pid_t) -> Bool {
        let held = clinux_pidfd_open(number)
        guard held >= 0 else { return errno != EINVAL && errno != ENOENT && errno != ESRCH }
        close(held)
        return true
    }

    /// Whether a process is a member.
    private func presence(in process: pid_t) -> ScriptMarker.Presence {
        // In the order of the costs.
        let session = getsid(process)
        if session < 0 { return errno == ESRCH ? .gone : .absent }
        if isOfOthers(session) { return .absent }
        if session == leader {
            return ProcessStat(of: process)?.isAlive == true ? .present : .gone
        }
        var status = stat()
        guard stat("/proc/\(process)", &status) == 0 else { return .gone }
        guard process != getpid(), users.contains(status.st_uid) else { return .absent }
        return marker.presence(in: process)
    }
}
