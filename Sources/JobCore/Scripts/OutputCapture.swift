/// The beginning and the end of what a program wrote, with the number of bytes left out between them.
public struct CapturedOutput: Hashable, Sendable {
    /// The first bytes.
    public var head: [UInt8]
    /// The last bytes, without those of the head.
    public var tail: [UInt8]
    /// Bytes that were read and not kept.
    public var dropped: Int

    /// What was kept of a stream.
    public init(head: [UInt8] = [], tail: [UInt8] = [], dropped: Int = 0) {
        self.head = head
        self.tail = tail
        self.dropped = dropped
    }
}

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

/// What a running program has written so far, to be asked for at any time. One value serves one run.
///
/// `head.count + dropped + tail.count` is the number of bytes written so far: it tells somebody who follows what is new.
@MainActor public final class LiveOutput {
    private var capture = OutputCapture(headLimit: 0, tailLimit: 0)
    private let reader: (@MainActor (UnsafeRawBufferPointer) -> Void)?

    /// Nothing yet.
    /// - Parameter reader: is given every byte in order, also those that are not kept; it must be quick.
    public nonisolated init(reader: (@MainActor (UnsafeRawBufferPointer) -> Void)? = nil) { self.reader = reader }

    /// What was kept so far.
    public var captured: CapturedOutput { capture.captured }

    /// Sets how much is kept. Before the first byte.
    func begin(headLimit: Int, tailLimit: Int) {
        capture = OutputCapture(headLimit: headLimit, tailLimit: tailLimit)
    }

    func append(_ bytes: UnsafeRawBufferPointer) {
        capture.append(bytes)
        reader?(bytes)
    }
}
