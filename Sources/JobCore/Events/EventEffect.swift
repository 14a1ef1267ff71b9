/// What the handlers of an event decided. What they got wrong stands in the job's report already.
public struct EventEffect: Hashable, Sendable {
    /// The job's new priority, from 1 on; nil when no handler set it.
    public var priority: Int?
    /// The job's new level, one of ``EventJob/levels``; nil when no handler set it.
    public var level: String?
    /// The volume that was chosen, one of those offered; nil when no handler chose one.
    public var volumeName: String?

    /// Nothing was decided.
    public static let none = EventEffect()
}
