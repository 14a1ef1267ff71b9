import FoundationEssentials
import SystemPackage

/// What a process has taken of the machine so far, all threads together (proc(5)).
struct ProcessFacts: Hashable, Sendable {
    /// Resident memory now, in bytes.
    var resident = 0
    /// The most that it was.
    var peak = 0
    /// Time on a processor, in nanoseconds.
    var processorTime = 0
    /// How often a thread was taken off its processor, by itself or not.
    var switches = 0
    var threads = 0

    /// Of a process that runs.
    init(of process: Int32) throws {
        let folder = FilePath("/proc/\(process)")
        let status = try Files.read(folder.appending("status"))
        resident = Self.number("VmRSS", in: status) * 1024
        peak = Self.number("VmHWM", in: status) * 1024
        let tasks = folder.appending("task")
        for thread in try FileManager.default.contentsOfDirectory(atPath: tasks.string) {
            let task = tasks.appending(thread)
            // A thread may end between the list and the look.
            guard let status = try? Files.read(task.appending("status")),
                let schedule = try? Files.read(task.appending("schedstat"))
            else { continue }
            threads += 1
            switches += Self.switches(in: status)
            processorTime += Self.processorTime(in: schedule)
        }
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

    /// The first number of a schedstat file, in nanoseconds.
    static func processorTime(in schedule: String) -> Int {
        schedule.split(separator: " ").first.flatMap { Int($0) } ?? 0
    }

    /// Bytes as the report counts them.
    static func megabytes(_ bytes: Int) -> Double { Double(bytes) / 1_000_000 }
}
