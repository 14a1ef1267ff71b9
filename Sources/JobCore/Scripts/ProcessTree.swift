import CLinux
import EventLoop
import Glibc
import SystemPackage

/// The processes that a script has started and that are still there: those in its cgroup (``ScriptCgroup``), or the
/// descendants of its init process (``ScriptInit``).
///
/// For the scripts of an earlier daemon that had no cgroups, these are the processes whose environment contains the
/// instance's marker, which every descendant inherits. Processes that overwrote their environment are not found, nor
/// are those that changed to a user other than root, this process's and the given ones: reading another user's
/// environment is not safe, because that user can block the reader forever.
///
/// Searching for processes may block, so it is done on threads for blocking work.
///
/// The leader's pid is the session's number. It cannot be reused until the leader is reaped, so a value of this type
/// must be used only until then.
struct ProcessTree: Sendable {
    struct Member: Hashable, Sendable, CustomStringConvertible {
        var process: pid_t
        var name: String

        var description: String { "\(name) (\(process))" }
    }

    /// How its processes are recognized.
    enum Extent: Sendable {
        case cgroup(ScriptCgroup)
        case descendants(of: ScriptInit)
        /// Environments of other users' processes are not read.
        case carriers(of: ScriptMarker, users: Set<UInt32>)
    }

    /// The pid of the session's leader; nil: only the extent counts.
    let leader: pid_t?
    let extent: Extent

    init(leader: pid_t?, extent: Extent) {
        self.leader = leader
        self.extent = extent
    }

    /// Every process that carries a marker.
    /// - Parameter users: the users of the processes besides root and this process's user.
    init(carrying marker: ScriptMarker, users: Set<UInt32>) {
        // A process that may not be traced appears as root's.
        self.init(leader: nil, extent: .carriers(of: marker, users: users.union([0, geteuid()])))
    }

    /// Sends the signals in their order to all processes.
    ///
    /// The leader's process group receives them atomically, so that no fork escapes; other processes (shells with job
    /// control create process groups) receive them one by one.
    func signal(_ numbers: [Int32]) async {
        if let leader, isLeaderHeld { for number in numbers { kill(-leader, number) } }
        await BlockingWork.run {
            if numbers == [SIGKILL], killAll() { return }
            do throws(Errno) {
                for member in try search().members where getpgid(member.process) != leader {
                    send(numbers, to: member.process)
                }
            } catch {
                // Without /proc the others cannot be found. The sweep at the end reports the same error.
            }
        }
    }

    /// Whether the leader's pid cannot have been reused.
    private var isLeaderHeld: Bool {
        if case .descendants(let root) = extent { return root.holdsScript }
        return true
    }

    /// Kills all processes at once, so that no fork escapes.
    /// - Returns: false if they have to be killed one by one.
    func killAll() -> Bool {
        switch extent {
        case .cgroup(let cgroup): return cgroup.kill()
        case .descendants(let root):
            root.killAll()
            return ScriptInit.canListChildren
        case .carriers: return false
        }
    }

    /// It may have ended and its pid may be reused since it was listed, so it is held by a pidfd and examined again.
    private func send(_ numbers: [Int32], to process: pid_t) {
        let held = clinux_pidfd_open(process)
        guard held >= 0 else { return }
        defer { close(held) }
        guard isPresent(process) else { return }
        for number in numbers { _ = clinux_pidfd_send_signal(held, number) }
    }

    /// Whether certainly no process is left after the leader's end, as far as this can be determined without
    /// blocking.
    var leavesNothing: Bool {
        switch extent {
        case .cgroup(let cgroup): cgroup.isEmpty
        case .descendants(let root): root.hasNoOthers
        case .carriers: false
        }
    }

    /// The leftover processes after the leader's end: those that are alive, not zombies. It blocks.
    ///
    /// An empty result is reliable: a process that ends during the search may have started another one just before,
    /// so the search is repeated until none has ended.
    /// - Throws: if /proc cannot be read.
    func members() throws(Errno) -> [Member] {
        if case .cgroup(let cgroup) = extent { return try members(of: cgroup) }
        // The leader has ended.
        var gone = Set(leader.map { [$0] } ?? [])
        for _ in 0..<Self.mostSearches {
            let found = try search()
            if !found.members.isEmpty || found.gone.isSubset(of: gone) { return found.members }
            gone.formUnion(found.gone)
        }
        return []
    }

    /// The kernel reports whether there are any; they may change faster than their names can be read.
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

    /// The limit for machines where processes end all the time.
    private static let mostSearches = 20

    /// Those of some members that are still there. It blocks.
    func remaining(of members: [Member]) -> [Member] { members.filter { isPresent($0.process) } }

    private func isPresent(_ process: pid_t) -> Bool {
        switch extent {
        case .cgroup(let cgroup):
            return cgroup.holds(process) && ProcessStat(of: process)?.isAlive == true
        case .descendants(let root): return root.isAncestor(of: process)
        case .carriers(let marker, let users): return presence(of: marker, of: users, in: process) == .present
        }
    }

    /// - Returns: the members, and all processes that ended during the search.
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
        // In the order of cost.
        let session = getsid(process)
        if session < 0 { return errno == ESRCH ? .gone : .absent }
        var status = stat()
        guard stat("/proc/\(process)", &status) == 0 else { return .gone }
        // Only kernel threads and processes from outside this container have no session.
        guard session != 0, process != getpid(), users.contains(status.st_uid) else { return .absent }
        return marker.presence(in: process)
    }
}

extension ProcessTree {
    /// How long a process may take to end by itself after its script: the last program of a pipeline reads the end of
    /// its input a moment after the script has ended, and is not reported.
    private static let settlingTime = Duration.milliseconds(200)
    /// The kill timeout. A process in an uninterruptible wait takes longer and is reported.
    private static let killTime = Duration.seconds(5)

    /// Ends the leftover processes after the script's own process has ended and before it is reaped
    /// (specification: rows.md D13).
    ///
    /// Reported are those that do not end by themselves, and those that do not end within the grace period after
    /// SIGTERM.
    /// - Parameters:
    ///   - lastSignal: the last signal that was sent already; nil: none.
    ///   - grace: the grace period.
    ///   - clock: measures the grace period.
    /// - Returns: the leftover processes, by name and number, with a note for those that did not end.
    func sweep(
        after lastSignal: Int32? = nil, grace: Duration, by clock: any SteadyClock = ContinuousClock()
    ) async -> [String] {
        let real = ContinuousClock()
        do throws(Errno) {
            var told = clock.now
            var leftovers = try await membersLeft(at: real.now + Self.settlingTime, by: real)
            if lastSignal == SIGTERM, !leftovers.isEmpty {
                leftovers = try await membersLeft(at: told + grace, by: clock)
            }
            var left = leftovers
            if lastSignal == nil, !left.isEmpty {
                told = clock.now
                await signal([SIGTERM, SIGCONT])
                left = try await membersLeft(at: told + grace, by: clock)
            }
            let end = real.now + Self.killTime
            while !left.isEmpty, real.now < end {
                leftovers.append(contentsOf: left.filter { new in !leftovers.contains { $0.process == new.process } })
                await signal([SIGKILL])
                // A process may have forked between the listing and the signal: list and kill until none is left.
                left = try await membersLeft(at: real.now + .milliseconds(100), by: real)
            }
            let stubborn = Set(left.map(\.process))
            return leftovers.map { member in
                stubborn.contains(member.process) ? "\(member), which did not end after SIGKILL" : "\(member)"
            }
        } catch {
            if !killAll(), let leader { kill(-leader, SIGKILL) }
            return ["leftover processes are unknown: /proc or the cgroup cannot be read (\(error))"]
        }
    }

    /// Waits until no process is left.
    /// - Returns: the members that are still there at the end of the time.
    private func membersLeft(
        at end: ContinuousClock.Instant, by clock: any SteadyClock
    ) async throws(Errno) -> [Member] {
        while true {
            let found = try await listed()
            if found.isEmpty || clock.now >= end { return found }
            // A new search is needed only when these have ended: they may have started others.
            await wait(for: found, until: end, by: clock)
        }
    }

    private func listed() async throws(Errno) -> [Member] {
        try await BlockingWork.run { () throws(Errno) in try members() }
    }

    private func wait(for members: [Member], until end: ContinuousClock.Instant, by clock: any SteadyClock) async {
        var pause = Duration.milliseconds(1)
        while true {
            let now = clock.now
            guard now < end else { return }
            // They are not our children, so their end is not reported.
            do { try await Task.sleep(for: min(pause, end - now)) } catch { return }
            if await BlockingWork.run({ remaining(of: members).isEmpty }) { return }
            pause = min(pause * 2, .milliseconds(50))
        }
    }
}

/// A variable in the environment that marks the processes of an instance's scripts.
struct ScriptMarker: Hashable, Sendable {
    private let assignment: [UInt8]

    /// The marker of processes whose environment contains exactly this variable.
    init(variable: String, text: String) {
        // With the NUL at its end, because another value may begin with this one.
        assignment = Array("\(variable)=\(text)".utf8) + [0]
    }

    /// The result of examining a process's environment.
    enum Presence {
        case present
        case absent
        /// The process has ended.
        case gone
    }

    /// Whether a process was started with the marker in its environment; absent if the environment may not be read.
    /// It blocks.
    ///
    /// A process in execve(2) has no environment for a moment, which is waited for.
    func presence(in process: pid_t) -> Presence {
        let start = ContinuousClock.now
        while true {
            let answer = look(into: process)
            if answer == 1 { return .present }
            if answer == 0 { return .absent }
            guard let stat = ProcessStat(of: process), stat.isAlive else { return .gone }
            let timeout = stat.hasEmptyEnvironment ? Self.shortestLook : Self.longestExec
            guard answer == CLINUX_EMPTY, !stat.isKernelThread, ContinuousClock.now - start < timeout else {
                return .absent
            }
            usleep(200)
        }
    }

    /// How long an empty environment is examined again.
    private static let shortestLook = Duration.milliseconds(2)
    /// How long a process without an environment is waited for.
    private static let longestExec = Duration.seconds(1)

    private func look(into process: pid_t) -> Int32 {
        let file = open("/proc/\(process)/environ", O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { return -1 }
        defer { close(file) }
        return assignment.withUnsafeBytes { wanted in
            wanted.baseAddress.map { clinux_holds(file, $0, wanted.count) } ?? -1
        }
    }
}
