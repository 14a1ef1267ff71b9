/// Keeps the beginning and the end of a stream of any length in memory of a fixed size.
struct OutputCapture: Sendable {
    private let headLimit: Int
    private let tailLimit: Int
    private var head: [UInt8] = []
    /// Holds up to twice its limit, so that bytes are moved once per limit and not once per chunk.
    private var tail: [UInt8] = []
    private var total = 0

    /// - Parameters:
    ///   - headLimit: how many of the first bytes are kept; at least 0.
    ///   - tailLimit: how many of the last bytes are kept; at least 0.
    init(headLimit: Int, tailLimit: Int) {
        self.headLimit = max(0, headLimit)
        self.tailLimit = max(0, tailLimit)
    }

    mutating func append(_ bytes: some RandomAccessCollection<UInt8>) {
        total += bytes.count
        let toHead = bytes.prefix(headLimit - head.count)
        head.append(contentsOf: toHead)
        let rest = bytes.dropFirst(toHead.count)
        if rest.count >= tailLimit {
            tail.removeAll(keepingCapacity: true)
        } else if tail.count + rest.count > 2 * tailLimit {
            tail.removeFirst(tail.count - tailLimit)
        }
        tail.append(contentsOf: rest.suffix(tailLimit))
    }

    /// What was kept so far.
    var captured: CapturedOutput {
        let tail = Array(tail.suffix(tailLimit))
        return CapturedOutput(head: head, tail: tail, dropped: total - head.count - tail.count)
    }
}
