import Glibc
import SystemPackage

/// What the kernel tells everybody of a process: `/proc/PID/stat` (proc(5)).
struct ProcessStat: Hashable, Sendable {
    /// At most 15 bytes (64 for a kernel thread), and they may be parentheses and blanks.
    var name: String
    /// The number of its parent.
    var parent: pid_t
    /// Whether any of its threads runs or waits; one that has ended and waits to be reaped has none that does.
    var isAlive: Bool
    /// Whether it has no memory of its own, and so no environment.
    var isKernelThread: Bool
    /// Whether the place for its environment is empty. Within execve(2) it may be so for a moment.
    var hasEmptyEnvironment: Bool

    /// - Returns: nil when there is no such process. It blocks.
    init?(of process: pid_t) {
        guard let file = fopen("/proc/\(process)/stat", "re") else { return nil }
        defer { fclose(file) }
        let line = [UInt8](unsafeUninitializedCapacity: 2_048) { buffer, count in
            count = fread(buffer.baseAddress, 1, buffer.count, file)
        }
        self.init(line: line)
    }

    /// - Returns: nil for what is not such a line.
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
        // The state is the first thread's, which may end before others. 20: how many there are.
        isAlive = state != "Z" && state != "X" || (field(20).flatMap { Int($0) } ?? 0) > 1
        // 23: the size of its memory; 50 and 51: where its environment begins and ends, both 0 early in execve(2).
        isKernelThread = field(23) == "0"
        hasEmptyEnvironment = field(50) == field(51) && field(51) != "0"
    }

    /// Those of all processes. It blocks.
    /// - Throws: when /proc cannot be read.
    static func all() throws(Errno) -> [pid_t: ProcessStat] {
        var found: [pid_t: ProcessStat] = [:]
        for process in try numbers() { found[process] = ProcessStat(of: process) }
        return found
    }

    /// The numbers of all processes. It blocks.
    /// - Throws: when /proc cannot be read.
    static func numbers() throws(Errno) -> [pid_t] {
        guard let directory = opendir("/proc") else { throw Errno(rawValue: errno) }
        defer { closedir(directory) }
        var numbers: [pid_t] = []
        while let entry = readdir(directory) {
            let number = withUnsafeBytes(of: &entry.pointee.d_name) { name in
                name.baseAddress.map { pid_t(clamping: strtol($0.assumingMemoryBound(to: CChar.self), nil, 10)) } ?? 0
            }
            if number > 0 { numbers.append(number) }
        }
        return numbers
    }
}
