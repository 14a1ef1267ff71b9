public import SystemPackage

/// Pre and post scripts of a job type (row D3).
public struct HookSettings: Hashable, Sendable {
    /// Where `pre_script.sh` and `post_script.sh` are looked for, and nowhere else (row D2).
    public var directory: FilePath
    /// Whether the job is left out when its pre script fails or is not there.
    public var skipsJob: Bool
    /// How long each of the two may run.
    public var timeLimit: Duration
    /// How long they may take to leave after SIGTERM.
    public var grace: Duration

    /// Where no time limit is given: until the script is done, or a year, whichever is less.
    public static let longestTime = Duration.seconds(365 * 86_400)

    /// Settings as they stand in a section `[Hooks TYPE]`.
    public init(
        directory: FilePath, skipsJob: Bool = false, timeLimit: Duration = longestTime, grace: Duration = .seconds(10)
    ) {
        self.directory = directory
        self.skipsJob = skipsJob
        self.timeLimit = timeLimit
        self.grace = grace
    }

    /// The script that runs before the job: `pre_script.sh JOB_ID`.
    public var preScript: FilePath { directory.appending("pre_script.sh") }
    /// The script that runs after the job: `post_script.sh JOB_ID PRE_STATUS JOB_STATUS`.
    public var postScript: FilePath { directory.appending("post_script.sh") }
}
