import FoundationEssentials
import JobCore

/// What was kept of a program's output: its beginning and its end.
struct JobOutput: Codable, Hashable, Sendable {
    let head: Data
    /// Bytes that were left out between them.
    let dropped: Int
    let tail: Data

    init(_ output: CapturedOutput) {
        head = Data(output.head)
        dropped = output.dropped
        tail = Data(output.tail)
    }

    /// All bytes that were written, kept or not.
    var count: Int { head.count + dropped + tail.count }

    /// What was written after the first `seen` bytes.
    /// - Returns: the bytes that were kept, and how many were not, which come before the last `tail` of them.
    func since(_ seen: Int) -> (before: Data, dropped: Int, after: Data) {
        let before = head.dropFirst(seen)
        let beyond = max(0, seen - head.count)
        return (Data(before), max(0, dropped - beyond), Data(tail.dropFirst(max(0, beyond - dropped))))
    }
}
