/// The changes that have not been written yet, in their order. It is bounded: when the disk cannot keep up, what matters least goes first.
///
/// At the bound, lines of reports, letters and percentages are left out, those that wait already too; when nothing but the course of
/// jobs is left, that is left out as well. What is left out is counted.
struct HistoryBuffer {
    /// Changes that are held at most, and bytes of their output.
    struct Bound {
        var changes = 100_000
        var bytes = 64 << 20
    }

    private let bound: Bound
    private var waiting: [JobChange] = []
    private var waitingBytes = 0
    private var minor = 0

    /// Changes that have ever been offered.
    private(set) var offered: UInt64 = 0
    /// Changes that were left out and not yet told of.
    private(set) var dropped = 0

    init(bound: Bound = Bound()) { self.bound = bound }

    var isEmpty: Bool { waiting.isEmpty }

    /// - Returns: whether this is the first change that is left out.
    mutating func add(_ change: JobChange) -> Bool {
        offered += 1
        let size = change.outputSize
        if fits(size) {
            append(change, size)
            return false
        }
        let before = dropped
        if change.isMinor {
            dropped += 1
        } else {
            if minor > 0 {
                dropped += minor
                minor = 0
                waiting.removeAll { $0.isMinor }
            }
            if fits(size) { append(change, size) } else { dropped += 1 }
        }
        return before == 0 && dropped > 0
    }

    /// Takes all that wait, the oldest first.
    mutating func take() -> [JobChange] {
        defer {
            waiting = []
            waitingBytes = 0
            minor = 0
        }
        return waiting
    }

    /// How many were left out since it was asked last.
    mutating func takeDropped() -> Int {
        defer { dropped = 0 }
        return dropped
    }

    private func fits(_ size: Int) -> Bool {
        // A change that is larger than the bound by itself is taken when nothing else waits.
        waiting.count < bound.changes && (waitingBytes + size <= bound.bytes || waitingBytes == 0)
    }

    private mutating func append(_ change: JobChange, _ size: Int) {
        waiting.append(change)
        waitingBytes += size
        if change.isMinor { minor += 1 }
    }
}

extension JobChange {
    /// Whether the course of the job can be told without it.
    var isMinor: Bool {
        switch event {
        case .reported, .progress, .status: true
        case .opened, .altered, .attemptBegan, .stepEnded, .attemptEnded, .attemptCutOff, .closed: false
        }
    }

    /// Bytes of the only part that can be large.
    fileprivate var outputSize: Int {
        guard case .stepEnded(let step) = event, let output = step.script?.ended?.output else { return 0 }
        return output.head.count + output.tail.count
    }
}
