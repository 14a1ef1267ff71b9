import Glibc
import JobCore

/// Jobs without their details, the oldest first.
struct JobList: Codable, Hashable, Sendable {
    var lines: [JobLine]
    /// Why those that have ended are not among them, with the hint; nil when they are.
    var missing: String?

    init(_ jobs: [Job], missing: String? = nil) {
        lines = jobs.map(JobLine.init)
        self.missing = missing
    }

    var jobs: [Job] { lines.map(\.job) }
}

extension Job { var isGood: Bool { result?.isSuccess ?? false } }

extension Timestamp {
    /// As the clock on the wall shows it: `YYYY-MM-DD hh:mm:ss`.
    var local: String {
        var seconds = time_t(secondsSince1970)
        var broken = tm()
        guard localtime_r(&seconds, &broken) != nil else { return "?" }
        var buffer = [CChar](repeating: 0, count: 32)
        let count = strftime(&buffer, buffer.count, "%Y-%m-%d %H:%M:%S", &broken)
        return String(decoding: buffer.prefix(count).map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}

extension CapturedOutput {
    /// All bytes that were written, kept or not.
    var count: Int { head.count + dropped + tail.count }

    /// What was written after the first `seen` bytes.
    /// - Returns: the bytes that were kept, and how many were not, which come before the last `tail` of them.
    func since(_ seen: Int) -> (before: [UInt8], dropped: Int, after: [UInt8]) {
        let before = head.dropFirst(seen)
        let beyond = max(0, seen - head.count)
        return (Array(before), max(0, dropped - beyond), Array(tail.dropFirst(max(0, beyond - dropped))))
    }
}
