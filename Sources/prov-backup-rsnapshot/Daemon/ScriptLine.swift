/// A script that the settings name: what it is for, where it lies, and whether it can be run.
struct ScriptLine: Codable, Hashable, Sendable {
    enum Kind: String, Codable, Sendable {
        /// A pre or post script of a job type.
        case hook
        /// A user's script, run as a job.
        case job
        /// Event handlers.
        case handlers
    }

    enum State: String, Codable, Sendable {
        case ok
        /// Switched off in the settings.
        case off
        /// Not there. For a hook and for handlers that is allowed.
        case missing
        /// Somebody else could change it, or it cannot be run.
        case notTrusted = "not trusted"
    }

    var kind: Kind
    /// `Backup pre script`, or the name of a user's script.
    var name: String
    var path: String
    var state: State
    /// What is wrong, and what mends it.
    var problem: String?
    /// In cron notation; nil when it runs by hand alone.
    var schedule: String?
    /// When it runs next.
    var next: Moment?
}
