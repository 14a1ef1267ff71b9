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
