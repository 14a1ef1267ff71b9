/// Something that an operator should read. The core has no log of its own: whoever uses it says where notices go.
public struct CoreNotice: Hashable, Sendable {
    /// How much it matters.
    public enum Level: Hashable, Sendable { case debug, info, warning, error }

    /// How much it matters.
    public var level: Level
    /// One line.
    public var text: String
    /// The job that it is about, where it is about one.
    public var job: JobID?

    /// A notice.
    public init(_ level: Level, _ text: String, job: JobID? = nil) {
        self.level = level
        self.text = text
        self.job = job
    }
}

/// Where notices go. It must neither block nor fail.
public typealias NoticeHandler = @Sendable (CoreNotice) -> Void
