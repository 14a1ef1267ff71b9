import Synchronization

/// What a running program has written so far, to be asked for at any time. One value serves one run.
///
/// `head.count + dropped + tail.count` is the number of bytes written so far: it tells somebody who follows what is new.
public final class LiveOutput: Sendable {
    private let capture = Mutex(OutputCapture(headLimit: 0, tailLimit: 0))

    /// Nothing yet.
    public init() {}

    /// What was kept so far.
    public var captured: CapturedOutput { capture.withLock { $0.captured } }

    /// Sets how much is kept. Before the first byte.
    func begin(headLimit: Int, tailLimit: Int) {
        capture.withLock { $0 = OutputCapture(headLimit: headLimit, tailLimit: tailLimit) }
    }

    func append(_ bytes: some RandomAccessCollection<UInt8>) { capture.withLock { $0.append(bytes) } }
}
