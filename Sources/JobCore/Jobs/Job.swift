/// One unit of work on one subject. It keeps its number over all its attempts.
public struct Job: Hashable, Sendable {
    /// Given once, for ever.
    public let id: JobID
    /// What kind of work it is.
    public let type: JobType
    /// What the work is called; many jobs have the same name.
    public let name: String
    /// Which variant of the work it is, such as `add` or `daily`; empty where there is only one.
    public var level: String
    /// What it works on.
    public let subject: JobSubject
    /// For whom it is done, for people: the account's uid, or the name of a script.
    public let client: String
    /// 1 is more urgent than 10.
    public var priority: Int
    /// When it was asked for.
    public let created: WallTime

    /// The priority of a job that asks for none.
    public static let usualPriority = 10

    /// A job as it is asked for.
    public init(
        id: JobID, type: JobType, name: String, level: String = "", subject: JobSubject, client: String,
        priority: Int = usualPriority, created: WallTime
    ) {
        self.id = id
        self.type = type
        self.name = name
        self.level = level
        self.subject = subject
        self.client = client
        self.priority = priority
        self.created = created
    }

    /// The name that no other job has, in Bacula's way: name and number.
    public var uniqueName: String { "\(name).\(id)" }
}
