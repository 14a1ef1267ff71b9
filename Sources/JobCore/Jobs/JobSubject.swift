/// What a job works on. There is one job at a time for each subject, whatever the job's type.
public struct JobSubject: Hashable, Sendable, CustomStringConvertible {
    /// An entry's UUID, or `job NAME` for a script that works on nothing else.
    public let description: String

    /// - Parameter text: equal texts are the same subject.
    public init(_ text: String) { description = text }
}
