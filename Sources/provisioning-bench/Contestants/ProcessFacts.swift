import FoundationEssentials
import Glibc
import SystemPackage

/// What a process has taken of the machine so far, all threads together (proc(5)).
struct ProcessFacts: Hashable, Sendable {
    /// Resident memory now, in bytes.
    var resident = 0
    /// The most that it was.
    var peak = 0
    /// Time on a processor, in seconds, of all threads that it ever had.
    var processorTime = 0.0
    /// How often a thread was taken off its processor, by itself or not, by the number of the thread; those that have ended are gone.
    var switchesByThread: [String: Int] = [:]

    var threads: Int { switchesByThread.count }
    var switches: Int { switchesByThread.values.reduce(0, +) }

    /// Of a process that runs.
    init(of process: Int32) throws {
        let directory = FilePath("/proc/\(process)")
        let status = try Files.read(directory.appending("status"))
        resident = Self.number("VmRSS", in: status) * 1024
        peak = Self.number("VmHWM", in: status) * 1024
        let tasks = directory.appending("task")
        for thread in try FileManager.default.contentsOfDirectory(atPath: tasks.string) {
            let task = tasks.appending(thread)
            // A thread may end between the list and the look.
            guard let status = try? Files.read(task.appending("status")) else { continue }
            switchesByThread[thread] = Self.switches(in: status)
        }
        processorTime = try Self.processorTime(of: process)
    }

    /// How many switches came after an earlier look, by the threads that are there now.
    func switches(since before: ProcessFacts) -> Int {
        switchesByThread.reduce(0) { $0 + $1.value - (before.switchesByThread[$1.key] ?? 0) }
    }

    /// `NAME: NUMBER…` of a status file; 0 where there is none.
    static func number(_ name: String, in status: String) -> Int {
        for line in status.split(separator: "\n") where line.hasPrefix(name + ":") {
            return Int(line.dropFirst(name.count + 1).filter { $0.isASCII && $0.isNumber }) ?? 0
        }
        return 0
    }

    /// Both kinds.
    static func switches(in status: String) -> Int {
        number("voluntary_ctxt_switches", in: status) + number("nonvoluntary_ctxt_switches", in: status)
    }

    private static func processorTime(of process: Int32) throws -> Double {
        var clock = clockid_t()
        var time = timespec()
        guard clock_getcpuclockid(process, &clock) == 0, clock_gettime(clock, &time) == 0 else {
            throw BenchFailure("the processor time of process \(process) cannot be read")
        }
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }

    /// Bytes as the report counts them.
    static func megabytes(_ bytes: Int) -> Double { Double(bytes) / 1_000_000 }
}
