import CLinux
import Glibc
import SystemPackage

/// The init process of a script that has no cgroup: everything that the script starts descends from it, whatever it does to its sessions, its environment and
/// its parents (`init.c` of CLinux). Out of its reach comes what root puts into another PID namespace; and a script that runs as the user of this
/// process can kill it.
final class ScriptInit: Sendable {
    private let process: clinux_init
    /// The script's own process, which stays its child until ``end()``.
    private let script: pid_t
    private let handle: Int32

    /// - Parameter handle: of the script's own process. It must stay open for as long as this value is used.
    init(_ process: clinux_init, of script: pid_t, handle: Int32) {
        self.process = process
        self.script = script
        self.handle = handle
    }

    /// By which ps(1) shows it.
    static let name = CLINUX_INIT

    /// Whether the kernel tells of a process's children, which needs CONFIG_PROC_CHILDREN.
    static let canListChildren = access("/proc/thread-self/children", R_OK) == 0

    /// Whether it has been killed, and holds nothing together any more.
    var isGone: Bool {
        var end = siginfo_t()
        return waitid(P_PID, id_t(process.process), &end, WEXITED | WNOHANG | WNOWAIT) != 0 || end.si_signo != 0
    }

    /// Whether the number of the script's own process is still its own, which is certain until this one is killed.
    var holdsScript: Bool { clinux_pidfd_send_signal(handle, 0) == 0 }

    /// Whether it is certain that nothing is left but the script's own process. It does not block.
    ///
    /// The kernel lists the first child and says in one step whether another follows; beyond that its list may be incomplete while children end.
    var hasNoOthers: Bool { children == [script] }

    /// nil: the kernel does not tell.
    private var children: [pid_t]? { Self.children(of: process.process, by: "\(process.process)") }

    /// - Parameter thread: each thread has children of its own.
    private static func children(of process: pid_t, by thread: String) -> [pid_t]? {
        ScriptCgroup.text("/proc/\(process)/task/\(thread)/children", in: AT_FDCWD)
            .map { $0.split(separator: " ").compactMap { pid_t($0) } }
    }

    private static func children(of process: pid_t) -> [pid_t] {
        let threads = open("/proc/\(process)/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard threads >= 0 else { return [] }
        defer { close(threads) }
        return ScriptCgroup.directories(in: threads).flatMap { children(of: process, by: $0) ?? [] }
    }

    /// The processes that descend from it and are alive. It blocks.
    ///
    /// None means none where the kernel lists children: while a chain of processes that start each other is looked through, none of those found may live.
    /// - Throws: when /proc cannot be read.
    func descendants() throws(Errno) -> [pid_t: ProcessStat] {
        for attempt in 0..<Self.mostLooks {
            let found = try living()
            if !found.isEmpty || hasNoOthers || isGone { return found }
            usleep(50 << min(attempt, 8))
        }
        let children = (children ?? []).compactMap { child in ProcessStat(of: child).map { (child, $0) } }
        return Dictionary(children) { first, _ in first }.filter { $0.value.isAlive && $0.key != script }
    }

    /// It takes a moment to take the ends of those that have become its children.
    private static let mostLooks = 20

    private func living() throws(Errno) -> [pid_t: ProcessStat] {
        guard Self.canListChildren else {
            let all = try ProcessStat.all()
            return all.filter { $0.value.isAlive && descends($0.value) { all[$0] } }
        }
        var found: [pid_t: ProcessStat] = [:]
        var ended: Set<pid_t> = []
        for _ in 0..<Self.mostLooks {
            var next = (children ?? []).filter { found[$0] == nil && !ended.contains($0) }
            // One that has lost its parent after that was looked at, and before it was itself, has come here.
            if next.isEmpty { break }
            while let process = next.popLast() {
                guard found[process] == nil else { continue }
                guard let stat = ProcessStat(of: process) else {
                    ended.insert(process)
                    continue
                }
                found[process] = stat
                next += Self.children(of: process)
            }
        }
        return found.filter { $0.value.isAlive }
    }

    /// Whether a process descends from it and is alive. It blocks.
    func isAncestor(of process: pid_t) -> Bool {
        guard let stat = ProcessStat(of: process), stat.isAlive else { return false }
        return descends(stat) { ProcessStat(of: $0) }
    }

    private func descends(_ stat: ProcessStat, _ look: (pid_t) -> ProcessStat?) -> Bool {
        var next = stat.parent
        // Parents of parents that end while they are looked at could make a circle.
        for _ in 0..<Self.deepest where next > 1 {
            if next == process.process { return true }
            guard let parent = look(next) else { return false }
            next = parent.parent
        }
        return false
    }

    private static let deepest = 100_000

    /// Has it kill all that descends from it, until nothing of it is left: what starts others faster than it can be listed as well.
    func killAll() { withUnsafePointer(to: process) { clinux_kill_all_of_init($0) } }

    /// Ends it, when the script's own process has ended. It blocks for as long as the machine takes to run it.
    /// - Returns: how the script's own process has ended, as wait(2) says it.
    /// - Throws: `noChildProcess` when it had been killed, and nobody knows.
    func end() throws(Errno) -> Int32 {
        var status: Int32 = 0
        let fault = withUnsafePointer(to: process) { clinux_end_init($0, &status) }
        guard fault == 0 else { throw Errno(rawValue: fault) }
        return status
    }
}
