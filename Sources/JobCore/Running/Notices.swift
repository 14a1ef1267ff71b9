/// A message for the operator. The core has no log of its own: its user decides where notices go.
public struct CoreNotice: Hashable, Sendable {
    /// The severity.
    public enum Level: Hashable, Sendable { case debug, info, warning, error }

    /// The severity.
    public var level: Level
    /// One line.
    public var text: String
    /// The job that it is about, if any.
    public var job: JobID?

    /// A notice.
    public init(_ level: Level, _ text: String, job: JobID? = nil) {
        self.level = level
        self.text = text
        self.job = job
    }
}

/// Called with each notice. It must neither block nor fail.
public typealias NoticeHandler = @Sendable (CoreNotice) -> Void
