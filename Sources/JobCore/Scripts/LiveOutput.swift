import Synchronization

/// What a running program has written so far, to be asked for at any time. One value serves one run.
///
/// `head.count + dropped + tail.count` is the number of bytes written so far: it tells somebody who follows what is new.
public final class LiveOutput: Sendable {
    private let capture = Mutex(OutputCapture(headLimit: 0, tailLimit: 0))
    private let reader: (@Sendable (UnsafeRawBufferPointer) -> Void)?

    /// Nothing yet.
    /// - Parameter reader: is given every byte in order, also those that are not kept; it must be quick.
    public init(reader: (@Sendable (UnsafeRawBufferPointer) -> Void)? = nil) { self.reader = reader }

    /// What was kept so far.
    public var captured: CapturedOutput { capture.withLock { $0.captured } }

    /// Sets how much is kept. Before the first byte.
    func begin(headLimit: Int, tailLimit: Int) {
        capture.withLock { $0 = OutputCapture(headLimit: headLimit, tailLimit: tailLimit) }
    }

    func append(_ bytes: UnsafeRawBufferPointer) {
        capture.withLock { $0.append(bytes) }
        reader?(bytes)
    }
}
