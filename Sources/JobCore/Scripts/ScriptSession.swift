import CLinux
import Glibc
import SystemPackage

/// Everything that a script has started and that is still there: the session that it leads, and whatever made a session of its own (setsid, a
/// double fork) but carries the script's marker in its environment.
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
struct ScriptSession: Hashable, Sendable {
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

    /// - Parameters:
    ///   - user: as whom the script runs; nil: as this process.
    ///   - later: than the leader; nil: all processes of the machine are looked at.
    init(leader: pid_t, marker: ScriptMarker, user: UInt32? = nil, later: LaterProcesses? = nil) {
        self.leader = leader
        self.marker = marker
        self.later = later
        // A process that may not be traced shows as root's.
        users = [0, geteuid(), user ?? 0]
    }

    /// Everything that carries a marker, in whatever session.
    /// - Parameter users: as whom they may run besides root and this process's user.
    init(carrying marker: ScriptMarker, users: Set<UInt32>) {
        leader = nil
        later = nil
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
        guard presence(in: process) == .present else { return }
        for number in numbers { _ = clinux_pidfd_send_signal(held, number) }
    }

    /// Whether it is certain, by what can be told without ever blocking, that nothing is left when the leader has ended.
    ///
    /// Sessions are made or inherited, never entered. So nothing that this script has started is in our own session, or in one that another child
    /// of ours has made: what it leaves behind becomes a child of another process than us.
    var leavesNothing: Bool {
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
        // The leader's own end was waited for.
        var gone = Set(leader.map { [$0] } ?? [])
        for _ in 0..<Self.mostSearches {
            let found = try search()
            if !found.members.isEmpty || found.gone.isSubset(of: gone) { return found.members }
            gone.formUnion(found.gone)
        }
        return []
    }

    /// On a machine where processes end all the time one search in so many is undisturbed, or none ever is.
    private static let mostSearches = 20

    /// Those of some members that are still there: much cheaper than to look for all. It blocks.
    func remaining(of members: [Member]) -> [Member] { members.filter { presence(in: $0.process) == .present } }

    /// - Returns: the members, and what had ended since the kernel listed it, member or not.
    private func search() throws(Errno) -> (members: [Member], gone: Set<pid_t>) {
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
