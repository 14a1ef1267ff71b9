import CLinux
import EventLoop
import Glibc
import SystemPackage

/// The init process of a script without a cgroup (`init.c` of CLinux). Everything that the script starts descends
/// from it, independent of sessions, environments and parents. A process that root puts into another PID namespace
/// escapes, and a script with this process's user can kill the init process.
final class ScriptInit: Sendable {
    private let process: clinux_init
    /// The script's own process, a child of the init process until it is reaped.
    private let script: pid_t
    private let handle: Int32

    /// - Parameter handle: the script's pidfd, which must stay open while this value is used.
    init(_ process: clinux_init, of script: pid_t, handle: Int32) {
        self.process = process
        self.script = script
        self.handle = handle
    }

    /// Its name in ps(1).
    static let name = CLINUX_INIT

    /// Whether the kernel lists the children of a process, which needs CONFIG_PROC_CHILDREN.
    static let canListChildren = access("/proc/thread-self/children", R_OK) == 0

    /// Whether it has been killed, so that it has no descendants any more.
    var isGone: Bool {
        var end = siginfo_t()
        return waitid(P_PID, id_t(process.process), &end, WEXITED | WNOHANG | WNOWAIT) != 0 || end.si_signo != 0
    }

    /// Whether the script's pid is still its own, which is certain until the init process is killed.
    var holdsScript: Bool { clinux_pidfd_send_signal(handle, 0) == 0 }

    /// Whether certainly only the script's own process is left. It does not block.
    ///
    /// The kernel lists the first child atomically with whether another follows; the rest of its list may be
    /// incomplete while children end.
    var hasNoOthers: Bool { children == [script] }

    /// nil: unknown.
    private var children: [pid_t]? { Self.children(of: process.process, by: "\(process.process)") }

    /// - Parameter thread: children belong to threads.
    private static func children(of process: pid_t, by thread: String) -> [pid_t]? {
        (try? ScriptCgroup.text("/proc/\(process)/task/\(thread)/children", in: AT_FDCWD))
            .map { $0.split(separator: " ").compactMap { pid_t($0) } }
    }

    private static func children(of process: pid_t) -> [pid_t] {
        ScriptCgroup.directories(in: FilePath("/proc/\(process)/task")).flatMap { children(of: process, by: $0) ?? [] }
    }

    /// Its living descendants. It blocks.
    ///
    /// An empty result is reliable if the kernel lists children: while a chain of forks is searched, none of those
    /// found may be alive.
    /// - Throws: if /proc cannot be read.
    func descendants() throws(Errno) -> [pid_t: ProcessStat] {
        for attempt in 0..<Self.mostLooks {
            let found = try living()
            if !found.isEmpty || hasNoOthers || isGone { return found }
            usleep(50 << min(attempt, 8))
        }
        let children = (children ?? []).compactMap { child in ProcessStat(of: child).map { (child, $0) } }
        return Dictionary(children) { first, _ in first }.filter { $0.value.isAlive && $0.key != script }
    }

    /// It needs a moment to reap the processes that have become its children.
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
            // A process that lost its parent during the search has become a child of the init process.
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

    /// Whether a process is a living descendant. It blocks.
    func isAncestor(of process: pid_t) -> Bool {
        guard let stat = ProcessStat(of: process), stat.isAlive else { return false }
        return descends(stat) { ProcessStat(of: $0) }
    }

    private func descends(_ stat: ProcessStat, _ look: (pid_t) -> ProcessStat?) -> Bool {
        var next = stat.parent
        // Parents that end during the search could form a cycle.
        for _ in 0..<Self.deepest where next > 1 {
            if next == process.process { return true }
            guard let parent = look(next) else { return false }
            next = parent.parent
        }
        return false
    }

    private static let deepest = 100_000

    /// Makes it kill all its descendants until none is left, including those that fork faster than they can be
    /// listed.
    func killAll() { withUnsafePointer(to: process) { clinux_kill_all_of_init($0) } }
}

/// The contents of `/proc/PID/stat` (proc(5)).
struct ProcessStat: Hashable, Sendable {
    /// At most 15 bytes (64 for a kernel thread), which may include parentheses and blanks.
    var name: String
    /// The pid of its parent.
    var parent: pid_t
    /// Whether any of its threads is alive; a zombie has none.
    var isAlive: Bool
    /// Whether it is a kernel thread, which has no memory and no environment.
    var isKernelThread: Bool
    /// Whether its environment is empty, as it may be for a moment during execve(2).
    var hasEmptyEnvironment: Bool

    /// - Returns: nil if there is no such process. It blocks.
    init?(of process: pid_t) {
        let line = try? FilePath("/proc/\(process)/stat").reading { file throws(Errno) in
            try file.bytes(atMost: 2_048)
        }
        guard let line else { return nil }
        self.init(line: line)
    }

    /// - Returns: nil if the line is malformed.
    init?(line: [UInt8]) {
        guard let open = line.firstIndex(of: UInt8(ascii: "(")), let close = line.lastIndex(of: UInt8(ascii: ")")),
            open < close
        else { return nil }
        // The state is field 3, counted from 1 as in proc(5).
        let fields = line[(close + 1)...].split(separator: UInt8(ascii: " "))
        func field(_ number: Int) -> Substring? {
            fields.count > number - 3 ? Substring(decoding: fields[number - 3], as: UTF8.self) : nil
        }
        guard let state = field(3), let parent = field(4).flatMap({ pid_t($0) }) else { return nil }
        name = String(decoding: line[(open + 1)..<close], as: UTF8.self)
        self.parent = parent
        // The state is that of the first thread, which may end before others. 20: number of threads.
        isAlive = state != "Z" && state != "X" || (field(20).flatMap { Int($0) } ?? 0) > 1
        // 23: virtual memory size; 50 and 51: begin and end of the environment, both 0 early in execve(2).
        isKernelThread = field(23) == "0"
        hasEmptyEnvironment = field(50) == field(51) && field(51) != "0"
    }

    /// All processes. It blocks.
    /// - Throws: if /proc cannot be read.
    static func all() throws(Errno) -> [pid_t: ProcessStat] {
        var found: [pid_t: ProcessStat] = [:]
        for process in try numbers() { found[process] = ProcessStat(of: process) }
        return found
    }

    /// The pids of all processes. It blocks.
    /// - Throws: if /proc cannot be read.
    static func numbers() throws(Errno) -> [pid_t] {
        try FilePath("/proc").entries().compactMap { pid_t($0.name) }
    }
}
